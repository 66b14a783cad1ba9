from __future__ import annotations

import datetime
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Regex, Timestamp

from proxy.embedded.engine import DuplicateKeyFailure, Engine
from proxy.errors import CommandError

NS = ("app", "c")

AN_ID = ObjectId("6b0a46205d090e663bc8e291")


@pytest.mark.parametrize(
    "value",
    [
        1,
        Int64(1),
        1.0,
        True,
        None,
        "é",
        b"\0\1",
        Binary(bytes(16), 4),
        AN_ID,
        Timestamp(1, 2),
        datetime.datetime(2020, 1, 2, 3, 4, 5, 6000),
        Decimal128("1.50"),
        {"b": [1, {"c": Int64(2)}]},
        [],
        Regex("a", "i"),
    ],
    ids=str,
)
def test_values_come_out_as_they_went_in(value: Any) -> None:
    engine = Engine()
    engine.insert(NS, {"_id": 1, "v": value})
    (found,) = engine.find(NS)
    assert found == {"_id": 1, "v": value}
    assert type(found["v"]) is type(value)


def test_what_is_found_is_a_copy() -> None:
    engine = Engine()
    engine.insert(NS, {"_id": 1, "v": [1]})
    engine.find(NS)[0]["v"].append(2)
    assert engine.get(NS, 1) == {"_id": 1, "v": [1]}


@pytest.mark.parametrize("key", [1, "x", {"a": 1}, None, AN_ID, b"x"], ids=str)
def test_ids_of_every_type(key: Any) -> None:
    engine = Engine()
    engine.insert(NS, {"_id": key})
    with pytest.raises(DuplicateKeyFailure) as twice:
        engine.insert(NS, {"_id": key})
    assert (twice.value.pattern, twice.value.value) == ({"_id": 1}, [key])
    engine.put(NS, key, {"_id": key, "v": 1})
    assert engine.get(NS, key) == {"_id": key, "v": 1}
    engine.put(NS, key, None)
    assert engine.get(NS, key) is None
    engine.put(NS, key, None)


def test_a_copy_is_on_its_own() -> None:
    source, copy = Engine(), Engine()
    source.insert(NS, {"_id": 1, "v": [1]})
    source.create_index(NS, "v", [("v", 1)], {"unique": True})
    copy.copy(source, NS)
    copy.copy(source, ("app", "missing"))
    copy.update(NS, {}, {"$push": {"v": 2}})
    assert source.get(NS, 1) == {"_id": 1, "v": [1]}
    assert copy.get(NS, 1) == {"_id": 1, "v": [1, 2]}
    assert copy.indexes(NS) == source.indexes(NS)
    assert not copy.exists(("app", "missing"))


@pytest.mark.parametrize(
    ("query", "change"),
    [
        ({"$nix": 1}, {"$set": {"a": 1}}),
        ({}, {"$nix": {"a": 1}}),
        ({}, {"$inc": {"s": 1}}),
        ({}, {"_id": 2}),
        ({}, {"$set": {"_id": 2}}),
        ({}, {"$unset": {"_id": 1}}),
        ({"_id": {"$in": 1}}, {"$set": {"a": 1}}),
    ],
)
def test_what_the_engine_cannot_do_is_a_command_error(query: Any, change: Any) -> None:
    engine = Engine()
    engine.insert(NS, {"_id": 1, "s": "text"})
    with pytest.raises(CommandError):
        engine.update(NS, query, change)
    assert engine.find(NS) == [{"_id": 1, "s": "text"}]


def test_an_update_that_breaks_a_unique_index_is_undone() -> None:
    engine = Engine()
    engine.create_index(NS, "v", [("v", 1)], {"unique": True})
    engine.insert(NS, {"_id": 1, "v": 1})
    engine.insert(NS, {"_id": 2, "v": 2})
    with pytest.raises(DuplicateKeyFailure):
        engine.update(NS, {"_id": 2}, {"$set": {"v": 1}})
    assert engine.get(NS, 2) == {"_id": 2, "v": 2}


def test_rename_takes_the_indexes_along() -> None:
    engine = Engine()
    engine.insert(NS, {"_id": 1})
    engine.create_index(NS, "v", [("v", 1)], {})
    engine.rename(NS, ("other", "d"))
    assert not engine.exists(NS)
    assert engine.get(("other", "d"), 1) == {"_id": 1}
    assert list(engine.indexes(("other", "d"))) == ["v"]
