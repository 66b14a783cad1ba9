from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.shelltext import MAX_ELEMENTS, document_text
from tests import build


def printed(document: bytes, **how: Any) -> str:
    return document_text(document, 0, len(document), **how)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (Int64(7), "7"),
        (1.0, "1.0"),
        (1.5, "1.5"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        (float("nan"), "nan.0"),
        ("x", '"x"'),
        ("a" * 159, f'"{"a" * 159}"'),
        ("a" * 160, f'"{"a" * 150}..."'),
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ({}, "{}"),
        ([], "[]"),
        ({"b": [1, "c"]}, '{ b: [ 1, "c" ] }'),
        (ObjectId("0123456789abcdef01234567"), "ObjectId('0123456789abcdef01234567')"),
        (datetime.fromtimestamp(1, UTC), "new Date(1000)"),
        (Timestamp(5, 6), "Timestamp(5, 6)"),
        (Regex("a.c", "i"), "/a.c/i"),
        (Code("f()"), "f()"),
        (Code("f()", {"a": 1}), "CodeWScope( f(), { a: 1 })"),
        (Decimal128("1.5"), "1.5"),
        (MinKey(), "MinKey"),
        (MaxKey(), "MaxKey"),
        (Binary(b"\1\xab", 0), "BinData(0, 01AB)"),
        (Binary(b"\1", 2), "BinData(2, 01)"),
        (Binary(bytes(81), 0), f"BinData(0, {'00' * 70}...)"),
        (Binary(bytes(16), 4), 'UUID("00000000-0000-0000-0000-000000000000")'),
        (Binary(bytes(15), 4), f"BinData(4, {'00' * 15})"),
    ],
)
def test_values(value: Any, text: str) -> None:
    assert printed(bson.encode({"a": value})) == f"{{ a: {text} }}"


@pytest.mark.parametrize(
    ("kind", "payload", "text"),
    [
        (0x06, b"", "undefined"),
        (0x0C, b"\2\0\0\0c\0" + bytes(12), "DBRef('c',000000000000000000000000)"),
        (0x0E, b"\2\0\0\0s\0", '"s"'),
    ],
)
def test_values_that_python_does_not_write(kind: int, payload: bytes, text: str) -> None:
    data = build.raw_document(bytes((kind,)) + b"a\0" + payload)
    assert printed(data) == f"{{ a: {text} }}"


def test_the_database_is_printed_where_the_message_had_none() -> None:
    assert printed(bson.encode({"a": 1}), extra='$db: "x"') == '{ a: 1, $db: "x" }'


def test_depth_is_bounded() -> None:
    value: Any = 1
    for _ in range(300):
        value = [value]
    assert "..." in printed(bson.encode({"a": value}))


def test_length_is_bounded() -> None:
    many = printed(bson.encode({"a": [0] * (MAX_ELEMENTS + 1)}))
    assert many == "{ a: ... }"
    nested = printed(bson.encode({"a": [[0] * 100] * 500}))
    assert 0 < nested.count("0") <= MAX_ELEMENTS
    assert nested.endswith("..., ... ] }")
    assert printed(bson.encode({"a": [0] * (MAX_ELEMENTS - 1)})).count("0") == MAX_ELEMENTS - 1


@pytest.mark.parametrize(
    "value",
    [
        {"x" * 1_000_000: 1},
        {"a": ["x" * 159] * 900},
        {"a": bson.Regex("x" * 1_000_000)},
        {"a": bson.Code("x" * 1_000_000)},
        {"a": bson.Code("x" * 1_000_000, {"b": 1})},
        {"a": {"x" * 1_000_000: {"x" * 1_000_000: 1}}},
    ],
)
def test_no_text_of_a_client_makes_it_long(value: Any) -> None:
    assert len(printed(bson.encode(value))) < 20_000


@given(st.binary(max_size=60), st.integers(0, 255))
def test_arbitrary_code_is_printed_without_raising(payload: bytes, size: int) -> None:
    inner = size.to_bytes(4, "little") + payload
    value = (len(inner) + 4).to_bytes(4, "little") + inner
    assert isinstance(printed(build.raw_document(b"\x0fa\0" + value)), str)


@given(st.binary(max_size=60), st.integers(0, 255))
def test_arbitrary_bytes_are_printed_without_raising(payload: bytes, kind: int) -> None:
    document = build.raw_document(bytes((kind,)) + b"a\0" + payload)
    assert isinstance(printed(document), str)
