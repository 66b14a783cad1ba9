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
