from __future__ import annotations

from typing import Any

import pytest
from bson import Int64

from tests.embedded.versions import LSID, before, client, outcome, since

NS_INFO = [{"ns": "app.a"}, {"ns": "app.b"}]
OPS: list[dict[str, Any]] = [
    {"insert": 0, "document": {"_id": 1, "n": 1}},
    {"insert": 1, "document": {"_id": 2, "n": 1}},
    {"update": 0, "filter": {"_id": 1}, "updateMods": {"$inc": {"n": 1}}},
    {"update": 1, "filter": {"_id": 9}, "updateMods": {"$set": {"n": 9}}, "upsert": True},
    {"delete": 1, "filter": {"_id": 2}},
]


@pytest.mark.parametrize("version", before("8.0"))
def test_no_bulk_write_before_8_0(version: str) -> None:
    reply = client(version).run("bulkWrite", ops=OPS, nsInfo=NS_INFO)
    assert (reply["code"], reply["errmsg"]) == (59, "no such command: 'bulkWrite'")


@pytest.mark.parametrize("version", since("8.0"))
def test_what_each_write_did(version: str) -> None:
    reply = client(version).run("bulkWrite", ops=OPS, nsInfo=NS_INFO)
    assert list(reply)[:8] == [
        "cursor", "nErrors", "nInserted", "nMatched", "nModified", "nUpserted", "nDeleted", "ok",
    ]  # fmt: skip
    assert reply["cursor"] == {
        "id": 0,
        "firstBatch": [
            {"ok": 1.0, "idx": 0, "n": 1},
            {"ok": 1.0, "idx": 1, "n": 1},
            {"ok": 1.0, "idx": 2, "n": 1, "nModified": 1},
            {"ok": 1.0, "idx": 3, "n": 1, "nModified": 0, "upserted": {"_id": 9}},
            {"ok": 1.0, "idx": 4, "n": 1},
        ],
        "ns": "admin.$cmd.bulkWrite",
    }
    assert [reply[name] for name in list(reply)[1:7]] == [0, 2, 1, 1, 1, 1]


def test_the_rest_is_fetched_in_the_same_session_without_the_number() -> None:
    asked = client("8.0", ("alice", "app"))
    fields = {"ops": OPS, "nsInfo": NS_INFO, "cursor": {"batchSize": 2}, "lsid": LSID}
    reply = asked.run("bulkWrite", **fields, txnNumber=Int64(1))
    assert len(reply["cursor"]["firstBatch"]) == 2
    more = {"getMore": reply["cursor"]["id"], "collection": "$cmd.bulkWrite", "$db": "admin"}
    assert outcome(asked.ask({**more, "batchSize": 1})) == 13
    rest = asked.ask({**more, "batchSize": 1, "lsid": LSID})["cursor"]
    assert [entry["idx"] for entry in rest["nextBatch"]] == [2]
    killed = asked.run("killCursors", "$cmd.bulkWrite", cursors=[rest["id"]], lsid=LSID)
    assert killed["cursorsKilled"] == [rest["id"]]
    again = asked.run("bulkWrite", **fields, txnNumber=Int64(1))
    assert again["retriedStmtIds"] == [0, 1, 2, 3, 4]
    assert (again["nInserted"], again["nDeleted"]) == (2, 1)
    assert asked.run("count", "a", db="app")["n"] == 1


@pytest.mark.parametrize(("ordered", "seen"), [(True, 2), (False, 3)])
def test_errors_stand_in_the_cursor(ordered: bool, seen: int) -> None:
    asked = client("8.0")
    insert = {"insert": 0, "document": {"_id": 1}}
    fields: dict[str, Any] = {
        "ops": [insert, insert, {"insert": 0, "document": {"_id": 2}}],
        "nsInfo": NS_INFO,
        "ordered": ordered,
    }
    reply = asked.run("bulkWrite", **fields)
    assert (reply["ok"], reply["nErrors"], reply["nInserted"]) == (1.0, 1, seen - 1)
    assert len(reply["cursor"]["firstBatch"]) == seen
    assert reply["cursor"]["firstBatch"][1]["code"] == 11000
    only = asked.run("bulkWrite", **fields, errorsOnly=True)["cursor"]["firstBatch"]
    assert [entry["ok"] for entry in only] == [0.0] * (1 if ordered else 3)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"nsInfo": NS_INFO}, 40414),
        ({"ops": OPS}, 40414),
        ({"ops": OPS, "nsInfo": NS_INFO, "x": 1}, 40415),
        ({"ops": {}, "nsInfo": NS_INFO}, 14),
        ({"ops": [1], "nsInfo": NS_INFO}, 14),
        ({"ops": [], "nsInfo": NS_INFO}, 16),
        ({"ops": OPS, "nsInfo": [{"ns": "app.a"}]}, 2),
        ({"ops": OPS, "nsInfo": [{}]}, 40414),
        ({"ops": OPS, "nsInfo": [{"ns": "app"}, {"ns": "app.b"}]}, 73),
        ({"ops": [{"replace": 0}], "nsInfo": NS_INFO}, 40415),
        ({"ops": [{"insert": 0}], "nsInfo": NS_INFO}, 40414),
        ({"ops": OPS, "nsInfo": NS_INFO, "stmtIds": [1]}, 16),
        ({"ops": OPS, "nsInfo": NS_INFO, "stmtIds": [1], "stmtId": 1}, 72),
        ({"ops": OPS, "nsInfo": NS_INFO, "stmtIds": [Int64(1)]}, 14),
        ({"ops": OPS, "nsInfo": NS_INFO, "stmtIds": 1}, 14),
    ],
)
def test_wrong_arguments(fields: dict[str, Any], code: int) -> None:
    asked = client("8.0")
    assert asked.run("bulkWrite", **fields, lsid=LSID)["code"] == code
    assert list(asked.connection.node.sessions) == []


def test_what_may_not_be_retried_and_who_may_not_write() -> None:
    asked = client("8.0", ("alice", "app"))
    delete = {"delete": 0, "filter": {}, "multi": True}
    reply = asked.run(
        "bulkWrite", ops=[delete], nsInfo=NS_INFO, lsid=LSID, txnNumber=Int64(1)
    )  # fmt: skip
    assert reply["cursor"]["firstBatch"][0]["code"] == 72
    assert asked.run("bulkWrite", ops=OPS, nsInfo=[{"ns": "x.a"}, {"ns": "app.a"}])["code"] == 13


def test_in_a_transaction() -> None:
    asked = client("8.0")
    fields = {"lsid": LSID, "txnNumber": Int64(1), "autocommit": False}
    reply = asked.run("bulkWrite", ops=OPS, nsInfo=NS_INFO, startTransaction=True, **fields)
    assert reply["nInserted"] == 2
    assert asked.run("count", "a", db="app")["n"] == 0
    assert asked.run("commitTransaction", **fields)["ok"]
    assert asked.run("count", "a", db="app")["n"] == 1


def test_without_a_reply() -> None:
    asked = client("8.0")
    reply = asked.run("bulkWrite", ops=OPS, nsInfo=NS_INFO, writeConcern={"w": 0})
    assert "cursor" not in reply
    assert asked.run("count", "a", db="app")["n"] == 1
