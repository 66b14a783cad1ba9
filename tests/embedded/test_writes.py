from __future__ import annotations

from typing import Any

import pytest
from bson import Int64

from tests.embedded.support import Client, node


@pytest.fixture
def client() -> Client:
    return Client(node())


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


def test_ids_and_collections_that_are_refused(client: Client) -> None:
    (error,) = client.run("insert", "c", db="app", documents=[{"_id": [1]}])["writeErrors"]
    assert error["code"] == 2
    assert client.run("insert", "system.users", db="app", documents=[{}])["code"] == 73
