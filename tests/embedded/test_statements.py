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


def test_an_id_comes_first_and_is_made_where_missing(client: Client) -> None:
    client.run("insert", "c", db="app", documents=[{"a": 1, "_id": 5}, {"a": 2}])
    first, second = stored(client)
    assert list(first) == ["_id", "a"]
    assert list(second) == ["_id", "a"]


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
