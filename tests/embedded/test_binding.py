"""Child sessions, and what a command's session fields ask of it."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Int64

from tests.embedded.support import NOW
from tests.embedded.versions import CHILD, ID, LSID, before, client, outcome, since

BEGIN = {"txnNumber": Int64(0), "autocommit": False, "startTransaction": True}
GO_ON = {"txnNumber": Int64(0), "autocommit": False}


@pytest.mark.parametrize("version", before("6.0"))
def test_no_child_sessions_before_6_0(version: str) -> None:
    assert client(version).run("find", "c", db="app", lsid=CHILD, **BEGIN)["code"] == 40415


@pytest.mark.parametrize("version", since("6.0"))
@pytest.mark.parametrize(
    ("user", "lsid", "fields", "code", "text"),
    [
        (
            "runner",
            {**LSID, "txnNumber": Int64(1)},
            BEGIN,
            72,
            "Cannot specify txnNumber in lsid without specifying txnUUID",
        ),
        ("alice", CHILD, BEGIN, 72, "Internal sessions are only allowed for internal clients"),
        ("alice", CHILD, {}, 72, "Internal sessions are only allowed for internal clients"),
        ("runner", CHILD, {}, 72, "Internal sessions are not supported outside of transactions"),
        (
            "runner",
            CHILD,
            {"txnNumber": Int64(0)},
            72,
            "Internal sessions are not supported outside of transactions",
        ),
        (
            "alice",
            LSID,
            {**BEGIN, "txnRetryCounter": 0},
            72,
            "txnRetryCounter is only allowed for internal clients",
        ),
        ("runner", CHILD, {**BEGIN, "txnRetryCounter": 0}, "ok", ""),
        ("runner", {**CHILD, "txnNumber": Int64(4)}, BEGIN, "ok", ""),
    ],
)
def test_checks_of_child_sessions(
    version: str, user: str, lsid: dict[str, Any], fields: dict[str, Any], code: Any, text: str
) -> None:
    asked = client(version, (user, "app" if user == "alice" else "admin"))
    reply = asked.run("find", "c", db="app", lsid=lsid, **fields)
    assert (outcome(reply), reply.get("errmsg", "")) == (code, text)
    assert bool(list(asked.connection.node.sessions)) == (code == "ok" or lsid is LSID)


@pytest.mark.parametrize("version", since("6.0"))
def test_a_child_has_transactions_of_its_own_and_is_its_parent_otherwise(version: str) -> None:
    asked = client(version)
    write = {"documents": [{"a": 1}]}
    assert asked.run("insert", "c", db="app", **write, lsid=LSID, txnNumber=Int64(9))["ok"]
    retryable = {**CHILD, "txnNumber": Int64(9)}
    for lsid in (CHILD, retryable):
        assert asked.run("insert", "c", db="app", **write, lsid=lsid, **BEGIN)["ok"]
        assert asked.run("find", "c", db="app", lsid=lsid, **GO_ON)["ok"]
    reply = asked.run("find", "c", db="app", lsid=LSID, **GO_ON)
    assert reply["code"] == 225
    (only,) = asked.connection.node.sessions
    listed = asked.run("aggregate", 1, pipeline=[{"$listLocalSessions": {}}], cursor={})
    assert [found["_id"]["id"] for found in listed["cursor"]["firstBatch"]] == [ID]
    assert asked.run("commitTransaction", lsid=CHILD, **GO_ON)["ok"]
    assert asked.run("killSessions", [LSID])["ok"]
    assert asked.run("find", "c", db="app", lsid=retryable, **GO_ON)["code"] == 251
    assert asked.run("count", "c", db="app")["n"] == 2
    assert len(only.children) == 2


@pytest.mark.parametrize("version", since("6.0"))
def test_what_a_child_does_for_a_retryable_write_counts_for_its_parent_and_back(
    version: str,
) -> None:
    asked = client(version)

    def insert(lsid: dict[str, Any], statement: int, **fields: Any) -> dict[str, Any]:
        return asked.run(
            "insert", "c", db="app", documents=[{"a": statement}], stmtId=statement, lsid=lsid,
            **fields,
        )  # fmt: skip

    child = {**CHILD, "txnNumber": Int64(9)}
    assert insert(LSID, 0, txnNumber=Int64(9))["n"] == 1
    assert insert(child, 0, **BEGIN)["retriedStmtIds"] == [0]
    assert "retriedStmtIds" not in insert(child, 1, **GO_ON)
    assert "retriedStmtIds" not in insert(child, -1, **GO_ON)
    assert asked.run("commitTransaction", lsid=child, **GO_ON)["ok"]
    assert insert(LSID, 1, txnNumber=Int64(9))["retriedStmtIds"] == [1]
    assert "retriedStmtIds" not in insert(LSID, -1, txnNumber=Int64(9))
    assert asked.run("count", "c", db="app")["n"] == 4


@pytest.mark.parametrize("version", since("6.0"))
def test_child_ids_in_lists(version: str) -> None:
    asked = client(version)
    asked.now = NOW
    asked.run("insert", "c", db="app", documents=[{"a": 1}], lsid=CHILD, **BEGIN)
    assert outcome(asked.run("killSessions", [CHILD])) == "ok"
    assert outcome(asked.run("find", "c", db="app", lsid=CHILD, **GO_ON)) == "ok"
    ended = asked.run("endSessions", [CHILD])
    assert ended["code"] == 72
    assert ended["errmsg"].startswith("Cannot specify a child session id 00000000-")
    assert ended["errmsg"].endswith(" -  - 00000000-0000-0000-0000-000000000007")
    pattern = [{"lsid": {**CHILD, "uid": bytes(32)}}]
    reply = asked.run("killAllSessionsByPattern", pattern)
    assert (reply["code"], reply["errmsg"]) == (72, "Cannot kill a child session")
    asked.now = NOW + 60
    assert outcome(asked.run("refreshSessions", [CHILD])) == "ok"
    assert [session.last_use for session in asked.connection.node.sessions] == [NOW + 60]


@pytest.mark.parametrize("version", since("6.0"))
def test_a_childs_cursor_is_the_childs_and_goes_with_the_parent(version: str) -> None:
    asked = client(version)
    asked.run("insert", "c", db="app", documents=[{"a": 1}, {"a": 2}])
    found = asked.run("find", "c", db="app", batchSize=1, lsid=CHILD, **BEGIN)
    more = {"getMore": found["cursor"]["id"], "collection": "c", "$db": "app"}
    assert asked.ask({**more, "lsid": LSID})["code"] == 50738
    assert asked.run("killSessions", [LSID])["ok"]
    assert len(asked.connection.node.cursors) == 0


@pytest.mark.parametrize("version", since("8.0"))
def test_start_or_continue(version: str) -> None:
    asked = client(version)
    fields = {**GO_ON, "startOrContinueTransaction": True, "lsid": CHILD}
    for number in range(2):
        assert asked.run("insert", "c", db="app", documents=[{"a": number}], **fields)["ok"]
    assert asked.run("commitTransaction", lsid=CHILD, **GO_ON)["ok"]
    assert asked.run("count", "c", db="app")["n"] == 2
