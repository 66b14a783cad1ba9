from __future__ import annotations

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


def test_no_command_takes_longer_than_it_may() -> None:
    client = Client(node())
    step = client.step({"sleep": 1, "secs": 9, "maxTimeMS": 1000, "$db": "admin"})
    assert step.wait_until == NOW + 1
    reply = answer(client.connection.resume(NOW + 1))
    assert (reply["code"], reply["codeName"]) == (50, "MaxTimeMSExpired")
    assert client.connection.node.operations == {}
