from __future__ import annotations

from typing import Any

import pytest

from tests.embedded.support import Client, node


@pytest.fixture
def client() -> Client:
    made = Client(node())
    made.run("insert", "c", db="app", documents=[{"_id": n, "m": n % 3} for n in range(10)])
    return made


@pytest.mark.parametrize(
    ("fields", "ids"),
    [
        ({}, list(range(10))),
        ({"filter": {"m": 1}}, [1, 4, 7]),
        ({"filter": {"m": 1}, "limit": 2}, [1, 4]),
        ({"sort": {"_id": -1}, "limit": 3}, [9, 8, 7]),
        ({"sort": {"m": 1, "_id": -1}, "limit": 2}, [9, 6]),
        ({"skip": 8}, [8, 9]),
        ({"limit": 0}, list(range(10))),
        ({"filter": None, "sort": None, "projection": None}, list(range(10))),
        ({"limit": 3.0, "batchSize": 5.0}, [0, 1, 2]),
    ],
)
def test_find(client: Client, fields: dict[str, Any], ids: list[int]) -> None:
    reply = client.run("find", "c", db="app", **fields)["cursor"]
    assert [found["_id"] for found in reply["firstBatch"]] == ids
    assert (reply["id"], reply["ns"]) == (0, "app.c")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"limit": -1}, 2),
        ({"skip": -1}, 2),
        ({"limit": "x"}, 14),
        ({"filter": 1}, 14),
        ({"batchSize": -1}, 2),
        ({"batchSize": "x"}, 9),
        ({"filter": {"$nix": 1}}, 2),
        ({"tailable": True}, 2),
    ],
)
def test_find_is_refused(client: Client, fields: dict[str, Any], code: int) -> None:
    assert client.run("find", "c", db="app", **fields)["code"] == code


@pytest.mark.parametrize(("fields", "count"), [({"batchSize": 3}, 3), ({}, 10)])
def test_a_single_batch_opens_none(client: Client, fields: dict[str, Any], count: int) -> None:
    reply = client.run("find", "c", db="app", singleBatch=True, **fields)["cursor"]
    assert (len(reply["firstBatch"]), reply["id"]) == (count, 0)


@pytest.mark.parametrize(
    ("fields", "n"),
    [
        ({}, 10),
        ({"query": {"m": 0}}, 4),
        ({"query": {"m": 0}, "limit": 2}, 2),
        ({"query": {"m": 0}, "limit": -2}, 2),
        ({"query": {"m": 0}, "skip": 3}, 1),
    ],
)
def test_count(client: Client, fields: dict[str, Any], n: int) -> None:
    assert client.run("count", "c", db="app", **fields)["n"] == n


def test_distinct(client: Client) -> None:
    assert sorted(client.run("distinct", "c", db="app", key="m")["values"]) == [0, 1, 2]
    query = {"_id": {"$lt": 2}}
    assert client.run("distinct", "c", db="app", key="m", query=query)["values"] == [0, 1]
    assert client.run("distinct", "c", db="app", key=1)["code"] == 14


def test_explain(client: Client) -> None:
    reply = client.run("explain", {"find": "c"}, db="app")
    assert reply["queryPlanner"]["namespace"] == "app.c"
    assert client.run("explain", 1, db="app")["code"] == 14
