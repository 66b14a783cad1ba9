from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from tests.embedded.support import Client, node

LSID = {"id": Binary(bytes(15) + b"\1", 4)}


@pytest.fixture
def client() -> Client:
    return Client(node())


def stored(client: Client) -> list[dict[str, Any]]:
    return client.run("find", "c", db="app", sort={"_id": 1})["cursor"]["firstBatch"]


def retryable(number: int, **fields: Any) -> dict[str, Any]:
    return {"lsid": LSID, "txnNumber": Int64(number), **fields}


@pytest.mark.parametrize(
    ("name", "fields", "code", "text"),
    [
        ("insert", {}, 40414, "BSON field 'insert.documents' is missing but a required field"),
        ("update", {}, 40414, "BSON field 'update.updates' is missing but a required field"),
        ("delete", {}, 40414, "BSON field 'delete.deletes' is missing but a required field"),
        (
            "insert",
            {"documents": [{}], "x": 1},
            40415,
            "BSON field 'insert.x' is an unknown field.",
        ),
        ("insert", {"documents": 1}, 10065, "invalid parameter: expected an object (documents)"),
        (
            "insert",
            {"documents": [1]},
            14,
            "BSON field 'insert.documents.0' is the wrong type 'int', expected type 'object'",
        ),
        (
            "insert",
            {"documents": []},
            16,
            "Write batch sizes must be between 1 and 100000. Got 0 operations.",
        ),
        (
            "delete",
            {"deletes": [{"q": {}, "limit": 1}], "stmtId": Int64(1)},
            14,
            "BSON field 'delete.stmtId' is the wrong type 'long', expected type 'int'",
        ),
    ],
)
def test_arguments(client: Client, name: str, fields: dict[str, Any], code: int, text: str) -> None:
    reply = client.run(name, "c", db="app", **fields)
    assert (reply["code"], reply["errmsg"]) == (code, text)


@pytest.mark.parametrize("name", [1, "", ".c", None])
def test_names_that_are_no_collections(client: Client, name: Any) -> None:
    assert client.run("insert", name, db="app", documents=[{}])["code"] == 73


def test_an_id_comes_first_and_is_made_where_missing(client: Client) -> None:
    client.run("insert", "c", db="app", documents=[{"a": 1, "_id": 5}, {"a": 2}])
    first, second = stored(client)
    assert list(first) == ["_id", "a"]
    assert list(second) == ["_id", "a"]


@pytest.mark.parametrize("ordered", [True, False])
def test_ordered_and_unordered(client: Client, ordered: bool) -> None:
    documents = [{"_id": 1}, {"_id": 1}, {"_id": 2}]
    reply = client.run("insert", "c", db="app", documents=documents, ordered=ordered)
    assert reply["ok"] == 1.0
    assert reply["n"] == (1 if ordered else 2)
    assert reply["writeErrors"] == [
        {
            "index": 1,
            "code": 11000,
            "keyPattern": {"_id": 1},
            "keyValue": {"": 1},
            "errmsg": "E11000 duplicate key error collection: app.c index: _id_ "
            "dup key: { _id: 1 }",
        }
    ]


@pytest.mark.parametrize(
    ("statement", "reply", "result"),
    [
        ({"q": {}, "u": {"$set": {"b": 1}}}, (1, 1, None), [{"_id": 1, "a": 1, "b": 1}, 2]),
        ({"q": {}, "u": {"$set": {"a": 1}}}, (1, 0, None), [{"_id": 1, "a": 1}, 2]),
        ({"q": {}, "u": {"$inc": {"a": 1}}, "multi": True}, (2, 2, None), [{"_id": 1, "a": 2}, 3]),
        ({"q": {"_id": 1}, "u": {"z": 1}}, (1, 1, None), [{"_id": 1, "z": 1}, 2]),
        ({"q": {"_id": 9}, "u": {"z": 1}}, (0, 0, None), [{"_id": 1, "a": 1}, 2]),
        ({"q": {"_id": 9}, "u": {"z": 1}, "upsert": True}, (1, 0, 9), [{"_id": 1, "a": 1}, 2]),
    ],
)
def test_updates(
    client: Client, statement: dict[str, Any], reply: tuple[int, int, Any], result: list[Any]
) -> None:
    client.run("insert", "c", db="app", documents=[{"_id": 1, "a": 1}, {"_id": 2, "a": 2}])
    actual = client.run("update", "c", db="app", updates=[statement])
    upserted = [{"index": 0, "_id": reply[2]}] if reply[2] is not None else None
    assert (actual["n"], actual["nModified"], actual.get("upserted")) == (*reply[:2], upserted)
    first, second, *_ = stored(client)
    assert first == result[0]
    assert second["a"] == result[1]


@pytest.mark.parametrize(
    ("name", "statement", "code"),
    [
        ("updates", {"q": {}}, 40414),
        ("updates", {"q": {}, "u": 1}, 9),
        ("updates", {"q": {}, "u": {"a": 1}, "multi": True}, 9),
        ("updates", {"q": {"$nix": 1}, "u": {"$set": {"a": 1}}}, 2),
        ("updates", {"q": {}, "u": {"$inc": {"s": 1}}}, 2),
        ("deletes", {"q": {}}, 40414),
        ("deletes", {"q": {}, "limit": 2}, 9),
    ],
)
def test_statements_that_fail(
    client: Client, name: str, statement: dict[str, Any], code: int
) -> None:
    documents = [{"_id": 1, "s": "text"}]
    client.run("insert", "c", db="app", documents=documents)
    reply = client.run(name[:-1], "c", db="app", **{name: [statement]})
    assert (reply["ok"], reply["n"]) == (1.0, 0)
    assert reply["writeErrors"][0]["code"] == code
    assert stored(client) == documents


def test_a_multi_update_that_fails_leaves_no_trace(client: Client) -> None:
    documents = [{"_id": 1, "n": 1}, {"_id": 2, "n": "text"}]
    client.run("insert", "c", db="app", documents=documents)
    updates = [{"q": {}, "u": {"$inc": {"n": 1}}, "multi": True}]
    assert "writeErrors" in client.run("update", "c", db="app", updates=updates)
    assert stored(client) == documents


@pytest.mark.parametrize(("limit", "left"), [(1, 2), (0, 0)])
def test_deletes(client: Client, limit: int, left: int) -> None:
    client.run("insert", "c", db="app", documents=[{"_id": n} for n in range(3)])
    reply = client.run("delete", "c", db="app", deletes=[{"q": {}, "limit": limit}])
    assert reply["n"] == 3 - left
    assert len(stored(client)) == left


def test_a_retry_is_not_carried_out_again(client: Client) -> None:
    fields = retryable(1, documents=[{"a": 1}, {"a": 2}])
    first = client.run("insert", "c", db="app", **fields)
    again = client.run("insert", "c", db="app", **fields)
    assert (first["n"], again["n"]) == (2, 2)
    assert len(stored(client)) == 2
    assert first["opTime"] == again["opTime"]


def test_statements_are_told_apart_by_their_ids(client: Client) -> None:
    insert = {"db": "app"}
    client.run("insert", "c", **insert, **retryable(1, documents=[{"_id": 0}], stmtId=5))
    documents = [{"_id": 10}, {"_id": 1}]
    client.run("insert", "c", **insert, **retryable(1, documents=documents, stmtIds=[5, 6]))
    assert [found["_id"] for found in stored(client)] == [0, 1]
    client.run("insert", "c", **insert, **retryable(2, documents=[{"_id": 2}], stmtId=5))
    assert [found["_id"] for found in stored(client)] == [0, 1, 2]


def test_a_failed_statement_may_be_tried_again(client: Client) -> None:
    client.run("insert", "c", db="app", documents=[{"_id": 1}])
    fields = retryable(1, documents=[{"_id": 1}])
    assert "writeErrors" in client.run("insert", "c", db="app", **fields)
    client.run("delete", "c", db="app", deletes=[{"q": {}, "limit": 0}])
    assert client.run("insert", "c", db="app", **fields)["n"] == 1


@pytest.mark.parametrize(
    ("name", "statement", "text"),
    [
        ("updates", {"q": {}, "u": {"$set": {"a": 1}}, "multi": True}, "multi=true"),
        ("deletes", {"q": {}, "limit": 0}, "limit=0"),
    ],
)
def test_what_cannot_be_retried(
    client: Client, name: str, statement: dict[str, Any], text: str
) -> None:
    reply = client.run(name[:-1], "c", db="app", **retryable(1, **{name: [statement]}))
    (error,) = reply["writeErrors"]
    assert error["code"] == 72
    assert error["errmsg"] == f"Cannot use (or request) retryable writes with {text}"


def test_an_upsert_is_retried_with_its_id(client: Client) -> None:
    updates = [{"q": {"a": 1}, "u": {"$inc": {"n": 1}}, "upsert": True}]
    first = client.run("update", "c", db="app", **retryable(1, updates=updates))
    again = client.run("update", "c", db="app", **retryable(1, updates=updates))
    assert first["upserted"] == again["upserted"]
    assert stored(client)[0]["n"] == 1


class TestFindAndModify:
    @pytest.mark.parametrize(
        ("fields", "value", "last", "left"),
        [
            ({"update": {"$inc": {"n": 1}}}, 1, {"n": 1, "updatedExisting": True}, [2, 5]),
            (
                {"update": {"$inc": {"n": 1}}, "new": True},
                2,
                {"n": 1, "updatedExisting": True},
                [2, 5],
            ),
            (
                {"update": {"$inc": {"n": 1}}, "sort": {"n": -1}},
                5,
                {"n": 1, "updatedExisting": True},
                [1, 6],
            ),
            ({"remove": True}, 1, {"n": 1}, [5]),
            ({"query": {"n": 9}, "remove": True}, None, {"n": 0}, [1, 5]),
            (
                {"query": {"n": 9}, "update": {"$inc": {"n": 1}}},
                None,
                {"n": 0, "updatedExisting": False},
                [1, 5],
            ),
            (
                {"query": {"_id": 3, "n": 9}, "update": {"$inc": {"n": 1}}, "upsert": True},
                None,
                {"n": 1, "updatedExisting": False, "upserted": 3},
                [1, 5, 10],
            ),
            (
                {"query": {"_id": 3}, "update": {"n": 7}, "upsert": True, "new": True},
                7,
                {"n": 1, "updatedExisting": False, "upserted": 3},
                [1, 5, 7],
            ),
        ],
    )
    def test_results(
        self, client: Client, fields: dict[str, Any], value: Any, last: Any, left: list[int]
    ) -> None:
        client.run("insert", "c", db="app", documents=[{"_id": 1, "n": 1}, {"_id": 2, "n": 5}])
        reply = client.run("findAndModify", "c", db="app", **fields)
        assert (reply["value"] or {}).get("n") == value
        assert reply["lastErrorObject"] == last
        assert [found["n"] for found in stored(client)] == left

    def test_a_retry_gives_what_was_given(self, client: Client) -> None:
        client.run("insert", "c", db="app", documents=[{"_id": 1, "n": 1}])
        fields = retryable(1, query={"_id": 1}, update={"$inc": {"n": 1}}, new=True)
        first = client.run("findAndModify", "c", db="app", **fields)
        again = client.run("findAndModify", "c", db="app", **fields)
        assert first["value"] == again["value"] == {"_id": 1, "n": 2}
        assert set(again) == set(first)

    @pytest.mark.parametrize(
        "fields",
        [{}, {"update": {}, "remove": True}, {"remove": True, "new": True}],
    )
    def test_arguments(self, client: Client, fields: dict[str, Any]) -> None:
        assert client.run("findAndModify", "c", db="app", **fields)["code"] == 9

    def test_projection(self, client: Client) -> None:
        client.run("insert", "c", db="app", documents=[{"_id": 1, "n": 1, "m": 2}])
        fields = {"update": {"$set": {"n": 2}}, "fields": {"n": 1, "_id": 0}}
        assert client.run("findAndModify", "c", db="app", **fields)["value"] == {"n": 1}


def test_write_concern_zero_tells_nothing(client: Client) -> None:
    reply = client.run("insert", "c", db="app", documents=[{}], writeConcern={"w": 0})
    assert "n" not in reply
    assert reply["ok"] == 1.0


@pytest.mark.parametrize(("w", "satisfied"), [(1, True), ("majority", True), (2, False)])
def test_there_is_only_one_member(client: Client, w: object, satisfied: bool) -> None:
    reply = client.run("insert", "c", db="app", documents=[{}], writeConcern={"w": w})
    assert reply["n"] == 1
    assert ("writeConcernError" not in reply) is satisfied


def test_the_oplog_moves_with_every_document(client: Client) -> None:
    first = client.run("insert", "c", db="app", documents=[{}])["opTime"]["ts"]
    second = client.run("insert", "c", db="app", documents=[{}, {}])["opTime"]["ts"]
    assert second.inc - first.inc == 2
    assert client.run("ping")["operationTime"] == second
