from __future__ import annotations

from typing import Any

import pytest
from bson import Binary

from proxy.session.identity import user_digest
from tests.embedded.support import NOW, USERS, Client, node

LSID = {"id": Binary(bytes(15) + b"\1", 4)}
ALICE = {"user": "alice", "db": "app"}


@pytest.fixture
def alice() -> Client:
    client = Client(node(authorization=True, users=USERS))
    client.log_in("alice", "app")
    client.run("ping", lsid=LSID)
    return client


def listed(client: Client, stage: str, **spec: Any) -> list[dict[str, Any]]:
    stored = stage == "$listSessions"
    reply = client.run(
        "aggregate",
        "system.sessions" if stored else 1,
        db="config" if stored else "admin",
        pipeline=[{stage: spec}],
        cursor={},
    )
    return reply["cursor"]["firstBatch"]


def test_a_session_is_stored_at_the_next_flush(alice: Client) -> None:
    (local,) = listed(alice, "$listLocalSessions")
    assert (local["_id"]["id"], local["user"]) == (LSID["id"], "alice@app")
    assert local["_id"]["uid"] == user_digest("alice", "app")
    assert listed(alice, "$listSessions") == []
    alice.now = NOW + 300
    (stored,) = listed(alice, "$listSessions")
    assert (stored["_id"], stored["user"]) == (local["_id"], {"name": "alice@app"})
    assert (stored["lastUse"] - local["lastUse"]).total_seconds() == 300
    assert listed(alice, "$listLocalSessions") == []
    alice.run("ping", lsid=LSID)
    assert len(listed(alice, "$listLocalSessions")) == 1


def test_an_ended_session_loses_its_cursors_at_the_next_flush(alice: Client) -> None:
    fill = [{"_id": number} for number in range(5)]
    alice.run("insert", "c", db="app", documents=fill, lsid=LSID)
    opened = alice.run("find", "c", db="app", batchSize=1, lsid=LSID)["cursor"]["id"]
    more = {"db": "app", "collection": "c", "batchSize": 1, "lsid": LSID}
    alice.run("refreshLogicalSessionCacheNow")
    assert len(listed(alice, "$listSessions")) == 1
    assert alice.run("endSessions", [LSID])["ok"] == 1.0
    assert alice.run("getMore", opened, **more)["ok"] == 1.0
    alice.run("refreshLogicalSessionCacheNow")
    assert alice.run("getMore", opened, **more)["code"] == 43
    assert listed(alice, "$listSessions") == []


def test_an_expired_session_loses_its_cursors_too(alice: Client) -> None:
    alice.run("insert", "c", db="app", documents=[{}, {}])
    opened = alice.run("find", "c", db="app", batchSize=1, lsid=LSID)["cursor"]["id"]
    alice.now = NOW + 1801
    reply = alice.run("getMore", opened, db="app", collection="c", lsid=LSID)
    assert reply["code"] == 43


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({}, 0),
        ({"users": [ALICE]}, 0),
        ({"users": []}, 0),
        ({"allUsers": False}, 0),
        ({"allUsers": True}, 13),
        ({"users": [{"user": "bob", "db": "app"}]}, 13),
        ({"users": [{"user": "bob"}]}, 40414),
        ({"users": [1]}, 14),
        ({"allUsers": True, "users": [ALICE]}, 12),
        ({"allUsers": True, "users": []}, 13),
        ({"x": 1}, 40415),
    ],
)
@pytest.mark.parametrize("stage", ["$listLocalSessions", "$listSessions"])
def test_who_may_list_what(alice: Client, stage: str, spec: dict[str, Any], code: int) -> None:
    where: Any = (1, "admin") if stage == "$listLocalSessions" else ("system.sessions", "config")
    reply = alice.run("aggregate", where[0], db=where[1], pipeline=[{stage: spec}], cursor={})
    assert reply.get("code", 0) == code


def test_a_lister_lists_everybody(alice: Client) -> None:
    lister = Client(alice.connection.node)
    lister.log_in("lister", "admin")
    lister.run("ping", lsid=LSID)
    assert len(listed(lister, "$listLocalSessions", allUsers=True)) == 2
    (others,) = listed(lister, "$listLocalSessions", users=[ALICE])
    assert others["user"] == "alice@app"
