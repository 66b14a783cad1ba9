from __future__ import annotations

import pytest

from tests.embedded.support import NOW, Client, answer, node


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
