from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.embedded.table import COMMANDS
from tests.embedded.support import USERS, Client, answer, node

LSID = {"id": Binary(bytes(15) + b"\1", 4)}


@pytest.mark.parametrize("name", ["nix", "Ping", "findandmodifY", "$query"])
def test_unknown_commands(name: str) -> None:
    reply = Client(node()).run(name)
    assert (reply["code"], reply["errmsg"]) == (59, f"no such command: '{name}'")


@pytest.mark.parametrize("name", [name for name in COMMANDS if COMMANDS[name].admin_only])
def test_commands_of_the_admin_database(name: str) -> None:
    reply = Client(node(version="8.2" if name == "bulkWrite" else "4.2")).run(name, db="app")
    text = f"{name} may only be run against the admin database."
    assert (reply["code"], reply["errmsg"]) == (13, text)


@pytest.mark.parametrize("version", ["4.2", "8.2"])
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_who_need_not_log_in(name: str, version: str) -> None:
    client = Client(node(authorization=True, users=USERS, version=version))
    if not client.connection.node.version.has(name):
        assert client.run(name)["code"] == 59
        return
    refused = str(client.run(name).get("errmsg")).endswith(f"ommand {name} requires authentication")
    public = COMMANDS[name].public or (version, name) == ("8.2", "listCommands")
    assert refused is not public


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize("value", [1, "x", None, [], {}, Int64(5), b"", 1.5], ids=repr)
def test_no_argument_is_too_odd(name: str, value: Any) -> None:
    client = Client(node())
    step = client.step({name: value, "$db": "admin"})
    assert not step.close
    if step.wait_until is None:
        assert answer(step).get("code") != 8
    else:
        client.connection.gone()
    assert client.run("ping")["ok"] == 1.0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"ping": 1, "writeConcern": {"w": 1}}, 72),
        ({"find": "c", "writeConcern": {"w": 1}}, 72),
        ({"insert": "c", "documents": [{}], "writeConcern": {"w": 1}}, 0),
        ({"ping": 1, "readConcern": {"level": "majority"}}, 72),
        ({"ping": 1, "readConcern": {"level": "local"}}, 0),
        ({"find": "c", "readConcern": {"level": "majority"}}, 0),
        ({"find": "c", "readConcern": 1}, 14),
        ({"ping": 1, "maxTimeMS": "x"}, 14),
        ({"ping": 1, "maxTimeMS": -1}, 2),
        ({"ping": 1, "maxTimeMS": 1000}, 0),
        ({"ping": 1, "txnNumber": Int64(1)}, 50889),
        ({"find": "c", "lsid": LSID, "txnNumber": Int64(1)}, 50768),
    ],
)
def test_generic_fields(body: dict[str, Any], code: int) -> None:
    assert Client(node()).ask({**body, "$db": "app"}).get("code", 0) == code


@pytest.mark.parametrize(("set_name", "times"), [("rs0", True), (None, False)])
def test_cluster_times_come_from_a_replica_set(set_name: str | None, times: bool) -> None:
    client = Client(node(set_name=set_name))
    for reply in (client.run("ping"), client.run("nix"), client.ask({"ping": 1})):
        assert {"operationTime", "$clusterTime"} <= set(reply) or not times
        assert ("operationTime" in reply) is times


@pytest.mark.parametrize("db", ["", "a b", "a.b", "a$", 'a"', "a/b", "a\\b"])
def test_names_that_are_no_databases(db: str) -> None:
    assert Client(node()).run("ping", db=db)["code"] == 73


def test_a_fault_in_a_command_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(node())
    monkeypatch.setattr(client.connection.node, "op_time", lambda: 1 / 0)
    reply = client.run("insert", "c", db="app", documents=[{}])
    assert (reply["code"], reply["codeName"]) == (8, "UnknownError")
    assert "command insert failed" in caplog.text
    assert client.connection.node.operations == {}
