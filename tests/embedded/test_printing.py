from __future__ import annotations

import datetime
from typing import Any

import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from proxy.embedded.printing import printed, printed_command, subtype_name, type_name

OID = ObjectId("65a000000000000000000001")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "{}"),
        ([], "[]"),
        ({"a": 1, "b": {"c": "x"}}, '{ a: 1, b: { c: "x" } }'),
        ([1, Int64(2), 1.5, 1.0], "[ 1, 2, 1.5, 1.0 ]"),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        (b"\x01\xab", "BinData(0, 01AB)"),
        (Binary(bytes(15) + b"\1", 4), 'UUID("00000000-0000-0000-0000-000000000001")'),
        (Binary(b"\1", 4), "BinData(4, 01)"),
        (OID, f"ObjectId('{OID}')"),
        (Timestamp(5, 6), "Timestamp(5, 6)"),
        (datetime.datetime(1970, 1, 1, 0, 0, 1), "new Date(1000)"),
        (DatetimeMS(2**60), f"new Date({2**60})"),
        (Regex("a.b"), "/a.b/"),
        (MinKey(), "MinKey"),
        (MaxKey(), "MaxKey"),
    ],
)
def test_printed(value: Any, text: str) -> None:
    assert printed(value) == text


def test_batches_are_counted_and_secrets_are_hidden() -> None:
    assert printed_command({"insert": "c", "documents": [{}, {}]}) == (
        '{ insert: "c", documents: 2 }'
    )
    assert printed_command({"insert": "c", "documents": [{}]}) == (
        '{ insert: "c", documents: [ {} ] }'
    )
    assert printed_command({"createUser": "u", "pwd": "secret"}) == (
        '{ createUser: "u", pwd: "xxx" }'
    )


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "int"),
        (Int64(1), "long"),
        (True, "bool"),
        (1.0, "double"),
        ("", "string"),
        ({}, "object"),
        ([], "array"),
        (b"", "binData"),
        (None, "null"),
        (OID, "objectId"),
        (Decimal128("1"), "decimal"),
        (datetime.datetime(2020, 1, 1), "date"),
    ],
)
def test_type_names(value: Any, name: str) -> None:
    assert type_name(value) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"", "general"),
        (Binary(b"", 3), "UUID(deprecated)"),
        (Binary(b"", 4), "UUID"),
        (Binary(b"", 9), "invalid"),
    ],
)
def test_subtype_names(value: bytes, name: str) -> None:
    assert subtype_name(value) == name
