from __future__ import annotations

import pytest
from bson import Binary

from tests.embedded.support import NOW, USERS, Client, answer, node

LSID = {"id": Binary(bytes(15) + b"\1", 4)}


def sleeper(client: Client) -> None:
    body = {"sleep": 1, "secs": 600, "lsid": LSID, "$db": "admin"}
    assert client.step(body).wait_until == NOW + 600


def test_what_is_going_on() -> None:
    client = Client(node())
    sleeper(client)
    operator = Client(client.connection.node, NOW + 7)
    shown = operator.run("currentOp")["inprog"]
    assert [next(iter(operation["command"])) for operation in shown] == ["sleep", "currentOp"]
    assert (shown[0]["secs_running"], shown[0]["lsid"]["id"]) == (7, LSID["id"])
    pipeline = [{"$currentOp": {}}, {"$match": {"secs_running": 7}}]
    found = operator.run("aggregate", 1, pipeline=pipeline, cursor={})["cursor"]["firstBatch"]
    assert len(found) == 1


def test_killing_one() -> None:
    client = Client(node())
    sleeper(client)
    operator = Client(client.connection.node)
    (operation, _) = operator.run("currentOp")["inprog"]
    assert operator.run("killOp", op=operation["opid"])["ok"] == 1.0
    reply = answer(client.connection.resume(NOW + 1))
    assert (reply["code"], reply["codeName"]) == (11601, "Interrupted")
    assert operator.run("killOp", op=12345)["ok"] == 1.0


def test_who_may() -> None:
    server = node(authorization=True, users=USERS)
    alice, bob, root = Client(server), Client(server), Client(server)
    alice.log_in("alice", "app")
    bob.log_in("bob", "app")
    root.log_in("root", "admin")
    sleeper(alice)
    assert bob.run("currentOp")["code"] == 13
    (operation, _) = root.run("currentOp")["inprog"]
    assert bob.run("killOp", op=operation["opid"])["code"] == 13
    own = Client(server)
    own.log_in("alice", "app")
    assert own.run("killOp", op=operation["opid"])["ok"] == 1.0


def test_a_sleep_ends() -> None:
    client = Client(node())
    client.step({"sleep": 1, "millis": 1500, "$db": "admin"})
    assert client.connection.resume(NOW + 1).wait_until == NOW + 1.5
    assert answer(client.connection.resume(NOW + 1.5))["ok"] == 1.0
    assert client.connection.node.operations == {}


def test_a_client_that_goes_leaves_nothing() -> None:
    client = Client(node())
    sleeper(client)
    client.connection.close()
    assert client.connection.node.operations == {}
    assert client.connection.node.connections == 0


@pytest.mark.parametrize("code", [91, 11602, 189])
def test_a_fail_point(code: int) -> None:
    client = Client(node())
    data = {"failCommands": ["find"], "errorCode": code, "errorLabels": ["RetryableWriteError"]}
    client.run("configureFailPoint", "failCommand", mode={"times": 2}, data=data)
    for _ in range(2):
        reply = client.run("find", "c", db="app")
        assert (reply["code"], reply["errorLabels"]) == (code, ["RetryableWriteError"])
    assert client.run("find", "c", db="app")["ok"] == 1.0


def test_a_fail_point_that_hangs_up() -> None:
    client = Client(node())
    data = {"failCommands": ["ping"], "closeConnection": True}
    client.run("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    step = client.step({"ping": 1, "$db": "admin"})
    assert (step.frames, step.close) == ([], True)


def test_a_fail_point_that_blocks() -> None:
    client = Client(node())
    data = {"failCommands": ["ping"], "blockConnection": True, "blockTimeMS": 2000}
    client.run("configureFailPoint", "failCommand", mode={"times": 1}, data=data)
    assert client.step({"ping": 1, "$db": "admin"}).wait_until == NOW + 2
    assert answer(client.connection.resume(NOW + 2))["ok"] == 1.0


def test_a_fail_point_that_blocks_what_waits_itself() -> None:
    client = Client(node())
    data = {"failCommands": ["sleep"], "blockConnection": True, "blockTimeMS": 2000}
    client.run("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    assert client.step({"sleep": 1, "secs": 3, "$db": "admin"}).wait_until == NOW + 2
    assert client.connection.resume(NOW + 2).wait_until == NOW + 5
    assert answer(client.connection.resume(NOW + 5))["ok"] == 1.0


def test_no_command_takes_longer_than_it_may() -> None:
    client = Client(node())
    step = client.step({"sleep": 1, "secs": 9, "maxTimeMS": 1000, "$db": "admin"})
    assert step.wait_until == NOW + 1
    reply = answer(client.connection.resume(NOW + 1))
    assert (reply["code"], reply["codeName"]) == (50, "MaxTimeMSExpired")
    assert client.connection.node.operations == {}


def test_a_fail_point_for_one_application_and_off() -> None:
    client = Client(node())
    error = {"code": 64, "errmsg": "waiting for replication timed out"}
    data = {"failCommands": ["insert"], "writeConcernError": error, "appName": "shop"}
    client.run("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
    insert = {"documents": [{}], "db": "app"}
    assert "writeConcernError" not in client.run("insert", "c", **insert)
    metadata = {"driver": {}, "os": {}, "application": {"name": "shop"}}
    client.run("hello", client=metadata)
    reply = client.run("insert", "c", **insert)
    assert (reply["n"], reply["writeConcernError"]) == (1, error)
    client.run("configureFailPoint", "failCommand", mode="off")
    assert "writeConcernError" not in client.run("insert", "c", **insert)
    assert client.run("configureFailPoint", "nix", mode="off")["code"] == 26
