from __future__ import annotations

from typing import Any

import pytest

from tests.embedded.support import Client, node


@pytest.fixture
def client() -> Client:
    made = Client(node())
    spec = [
        {"key": {"a": 1, "b": -1}, "name": "ab"},
        {"key": {"u": 1}, "name": "u", "unique": True},
    ]
    reply = made.run("createIndexes", "c", db="app", indexes=spec)
    assert (reply["numIndexesBefore"], reply["numIndexesAfter"]) == (1, 3)
    assert reply["createdCollectionAutomatically"] is True
    return made


def test_listing(client: Client) -> None:
    listed = client.run("listIndexes", "c", db="app")["cursor"]["firstBatch"]
    assert [(index["name"], index["key"]) for index in listed] == [
        ("_id_", {"_id": 1}),
        ("ab", {"a": 1, "b": -1}),
        ("u", {"u": 1}),
    ]
    assert listed[2]["unique"] is True
    assert client.run("listIndexes", "nix", db="app")["code"] == 26


def test_the_same_again_is_no_change(client: Client) -> None:
    again = [{"key": {"a": 1, "b": -1}, "name": "ab"}, {"key": {"_id": 1}, "name": "_id_"}]
    reply = client.run("createIndexes", "c", db="app", indexes=again)
    assert reply["note"] == "all indexes already exist"


@pytest.mark.parametrize(
    ("indexes", "code"),
    [
        (1, 10065),
        ([], 2),
        ([1], 9),
        ([{"name": "x"}], 9),
        ([{"key": {"a": 1}}], 9),
        ([{"key": {}, "name": "x"}], 9),
        ([{"key": {"z": 1}, "name": "ab"}], 86),
        ([{"key": {"u": 1}, "name": "u"}], 85),
    ],
)
def test_create_is_refused(client: Client, indexes: Any, code: int) -> None:
    assert client.run("createIndexes", "c", db="app", indexes=indexes)["code"] == code


@pytest.mark.parametrize(
    ("index", "left"),
    [
        ("ab", ["_id_", "u"]),
        ({"u": 1}, ["_id_", "ab"]),
        (["ab", "u"], ["_id_"]),
        ("*", ["_id_"]),
    ],
)
def test_drop(client: Client, index: Any, left: list[str]) -> None:
    assert client.run("dropIndexes", "c", db="app", index=index)["nIndexesWas"] == 3
    listed = client.run("listIndexes", "c", db="app")["cursor"]["firstBatch"]
    assert [entry["name"] for entry in listed] == left


@pytest.mark.parametrize(
    ("collection", "index", "code"),
    [("c", "nix", 27), ("c", {"z": 1}, 27), ("c", "_id_", 72), ("nix", "*", 26)],
)
def test_drop_is_refused(client: Client, collection: str, index: Any, code: int) -> None:
    assert client.run("dropIndexes", collection, db="app", index=index)["code"] == code


def test_a_unique_index_is_kept(client: Client) -> None:
    assert client.run("insert", "c", db="app", documents=[{"u": 1}])["n"] == 1
    (error,) = client.run("insert", "c", db="app", documents=[{"u": 1}])["writeErrors"]
    assert (error["code"], error["keyPattern"]) == (11000, {"u": 1})
    assert error["errmsg"].endswith("index: u dup key: { u: 1 }")


def test_a_unique_index_needs_unique_values(client: Client) -> None:
    client.run("insert", "d", db="app", documents=[{"v": 1}, {"v": 1}])
    spec = [{"key": {"v": 1}, "name": "v", "unique": True}]
    assert client.run("createIndexes", "d", db="app", indexes=spec)["ok"] == 0.0
