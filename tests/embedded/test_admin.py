from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from tests.embedded.support import NOW, USERS, Client, node


def test_it_says_what_it_is() -> None:
    reply = Client(node(version="4.4")).run("buildInfo")
    assert (reply["gitVersion"], reply["modules"]) == ("embedded", ["embedded"])
    assert (reply["version"], reply["versionArray"]) == ("4.4.0", [4, 4, 0, 0])
    assert Client(node(version="4.2")).run("buildinfo")["versionArray"][:2] == [4, 2]


def test_server_status() -> None:
    client = Client(node(), NOW + 60)
    client.run("insert", "c", db="app", documents=[{}])
    of = {"lsid": {"id": Binary(bytes(16), 4)}, "txnNumber": Int64(1), "autocommit": False}
    client.run("insert", "c", db="app", documents=[{}], startTransaction=True, **of)
    reply = client.run("serverStatus")
    assert reply["transactions"]["currentOpen"] == 1
    client.run("abortTransaction", **of)
    assert client.run("serverStatus")["transactions"]["currentOpen"] == 0
    assert (reply["uptime"], reply["connections"]["current"]) == (60, 1)
    assert reply["opcounters"]["insert"] == 2
    assert reply["repl"]["setName"] == "rs0"
    assert "repl" not in Client(node(set_name=None)).run("serverStatus")


def test_parameters() -> None:
    client = Client(node(version="4.4"))
    found = client.run("getParameter", featureCompatibilityVersion=1, maxSessions=1)
    assert found["featureCompatibilityVersion"] == {"version": "4.4"}
    assert found["maxSessions"] == 1_000_000
    assert client.run("setParameter", maxSessions=5)["was"] == 1_000_000
    assert client.run("getParameter", "*")["maxSessions"] == 5
    assert client.run("getParameter", nix=1)["code"] == 72
    assert client.run("setParameter", nix=1)["code"] == 72


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("hostInfo", 1, "system"),
        ("getLog", "startupWarnings", "log"),
        ("getLog", "*", "names"),
        ("getCmdLineOpts", 1, "parsed"),
        ("getFreeMonitoringStatus", 1, "state"),
        ("whatsmyuri", 1, "you"),
        ("top", 1, "totals"),
        ("features", 1, "oidMachine"),
        ("getLastError", 1, "connectionId"),
        ("refreshLogicalSessionCacheNow", 1, "ok"),
    ],
)
def test_questions(name: str, value: Any, field: str) -> None:
    reply = Client(node()).run(name, value)
    assert reply["ok"] == 1.0
    assert field in reply


def test_refusals() -> None:
    client = Client(node(authorization=True, users=USERS))
    client.log_in("alice", "app")
    for name in ("serverStatus", "getLog", "hostInfo", "getCmdLineOpts", "getParameter"):
        assert client.run(name)["code"] == 13
    assert Client(node()).run("getLog", "nix")["code"] == 96


def test_start_options_tell_the_deployment() -> None:
    options = Client(node()).run("getCmdLineOpts")["parsed"]
    assert options == {"net": {"port": 27017}, "replication": {"replSet": "rs0"}}
