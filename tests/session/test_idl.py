"""Each malformation of an lsid, list, user or pattern field, with the server's exact error."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CommandError
from proxy.session import idl
from proxy.wire.fields import Element, walk
from tests import build
from tests.session.sessions import ALICE, uuid

UUID = Binary(uuid(2), 4)
TOO_SHORT = Binary(bytes(15), 4)
TOO_LONG = Binary(bytes(17), 4)
NOT_GENERAL = Binary(bytes(32), 4)


def field(value: Any) -> tuple[bytes, Element]:
    data = bson.encode({"f": value})
    return data, walk(data, 0, len(data))[b"f"]


def raw(*elements: bytes) -> tuple[bytes, Element]:
    """A field that holds a document of these element bytes."""
    inner = build.raw_document(*elements)
    data = build.raw_document(b"\x03f\0" + inner)
    return data, walk(data, 0, len(data))[b"f"]


def wrong(path: str, found: str, expected: str, kind: str = "type") -> str:
    return f"BSON field '{path}' is the wrong {kind} '{found}', expected type '{expected}'"


def bad_name(name: str) -> str:
    return f"BSON array field 'P' has an invalid value '{name}' for an array field name."


def bad_order(found: int, expected: int) -> str:
    return (
        f"BSON array field 'P' has a non-sequential value '{found}' for an array field name,"
        f" expected value '{expected}'."
    )


LSID_ERRORS = [
    (1, 14, wrong("P", "int", "object")),
    ([], 14, wrong("P", "array", "object")),
    ({}, 40414, "BSON field 'P.id' is missing but a required field"),
    ({"uid": Binary(ALICE, 0)}, 40414, "BSON field 'P.id' is missing but a required field"),
    ({"id": None}, 40414, "BSON field 'P.id' is missing but a required field"),
    ({"id": UUID, "foo": 1}, 40415, "BSON field 'P.foo' is an unknown field."),
    ({"foo": 1, "id": "x"}, 40415, "BSON field 'P.foo' is an unknown field."),
    ({"id": "x", "foo": 1}, 14, wrong("P.id", "string", "binData")),
    ({"Id": UUID}, 40415, "BSON field 'P.Id' is an unknown field."),
    ({"id": UUID, "txnNumber": Int64(1)}, 40415, "BSON field 'P.txnNumber' is an unknown field."),
    ({"id": Binary(bytes(16), 3)}, 14, wrong("P.id", "UUID(deprecated)", "UUID", "bindData type")),
    ({"id": Binary(bytes(16), 0)}, 14, wrong("P.id", "general", "UUID", "bindData type")),
    ({"id": Binary(bytes(16), 1)}, 14, wrong("P.id", "function", "UUID", "bindData type")),
    ({"id": Binary(bytes(16), 5)}, 14, wrong("P.id", "MD5", "UUID", "bindData type")),
    ({"id": Binary(bytes(16), 128)}, 14, wrong("P.id", "Custom", "UUID", "bindData type")),
    ({"id": Binary(bytes(16), 9)}, 14, wrong("P.id", "invalid", "UUID", "bindData type")),
    ({"id": TOO_SHORT}, 207, "uuid must be a 16-byte binary field with UUID (4) subtype"),
    (
        {"id": Binary(bytes(17), 4)},
        207,
        "uuid must be a 16-byte binary field with UUID (4) subtype",
    ),
    ({"id": UUID, "uid": Binary(bytes(31), 0)}, 12, "Unsupported SHA256Block hash length: 31"),
    ({"id": UUID, "uid": Binary(bytes(33), 0)}, 12, "Unsupported SHA256Block hash length: 33"),
    (
        {"id": UUID, "uid": Binary(bytes(32), 4)},
        14,
        wrong("P.uid", "UUID", "general", "bindData type"),
    ),
    ({"id": UUID, "uid": "bob"}, 14, wrong("P.uid", "string", "binData")),
]


@pytest.mark.parametrize(("value", "code", "errmsg"), LSID_ERRORS)
def test_malformed_lsids(value: Any, code: int, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        idl.lsid(*field(value), "P")
    assert (caught.value.code, caught.value.errmsg) == (code, errmsg)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": UUID}, (uuid(2), None)),
        ({"id": UUID, "uid": None}, (uuid(2), None)),
        ({"id": UUID, "uid": Binary(ALICE, 0)}, (uuid(2), ALICE)),
        ({"uid": Binary(ALICE, 0), "id": UUID}, (uuid(2), ALICE)),
        ({"id": Binary(bytes(16), 4)}, (bytes(16), None)),
    ],
)
def test_lsids(value: Any, expected: tuple[bytes, bytes | None]) -> None:
    assert idl.lsid(*field(value), "P") == expected


def test_fields_given_twice() -> None:
    one = build.element("id", UUID)
    with pytest.raises(CommandError) as caught:
        idl.lsid(*raw(one, one), "P")
    assert caught.value.code == 40413
    assert caught.value.errmsg == "BSON field 'P.id' is a duplicate field"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1.0, "double"),
        ("x", "string"),
        ([], "array"),
        (Binary(b""), "binData"),
        (ObjectId(bytes(12)), "objectId"),
        (True, "bool"),
        (None, "null"),
        (Regex("a"), "regex"),
        (Code("x"), "javascript"),
        (Code("x", {}), "javascriptWithScope"),
        (1, "int"),
        (Timestamp(1, 1), "timestamp"),
        (Int64(1), "long"),
        (Decimal128("1"), "decimal"),
        (MaxKey(), "maxKey"),
        (MinKey(), "minKey"),
    ],
)
def test_type_names(value: Any, name: str) -> None:
    with pytest.raises(CommandError) as caught:
        idl.lsid(*field(value), "P")
    assert (
        caught.value.errmsg == f"BSON field 'P' is the wrong type '{name}', expected type 'object'"
    )


@pytest.mark.parametrize(
    ("kind", "payload", "name"),
    [
        (0x06, b"", "undefined"),
        (0x09, bytes(8), "date"),
        (0x0C, b"\1\0\0\0\0" + bytes(12), "dbPointer"),
        (0x0E, b"\1\0\0\0\0", "symbol"),
    ],
)
def test_type_names_that_python_does_not_write(kind: int, payload: bytes, name: str) -> None:
    data = build.raw_document(bytes((kind,)) + b"f\0" + payload)
    with pytest.raises(CommandError) as caught:
        idl.lsid(data, walk(data, 0, len(data))[b"f"], "P")
    assert f"'{name}'" in caught.value.errmsg


def listed(data: bytes, element: Element) -> list[int]:
    return [position for position, _ in idl.entries(data, element, "list", "P")]


def test_a_document_does_for_an_array() -> None:
    assert listed(*field([1, None, "x"])) == [0, 1, 2]
    assert listed(*field({"0": 1, "1": 2})) == [0, 1]
    assert listed(*field({})) == []


@pytest.mark.parametrize("name", ["0x0", "+0", "00"])
def test_array_field_names_in_the_bases_that_the_server_reads(name: str) -> None:
    assert listed(*field({name: 1})) == [0]


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        (1, 10065, "invalid parameter: expected an object (list)"),
        ("x", 10065, "invalid parameter: expected an object (list)"),
        (None, 10065, "invalid parameter: expected an object (list)"),
        ({"x": 1}, 40422, bad_name("x")),
        ({"": 1}, 40422, bad_name("")),
        ({"0x": 1}, 40422, bad_name("0x")),
        ({"0x0 ": 1}, 40422, bad_name("0x0 ")),
        ({"0x 0": 1}, 40422, bad_name("0x 0")),
        ({"0x-0": 1}, 40422, bad_name("0x-0")),
        ({"0x_0": 1}, 40422, bad_name("0x_0")),
        ({"0_0": 1}, 40422, bad_name("0_0")),
        ({"-1": 1}, 40422, bad_name("-1")),
        ({"4294967296": 1}, 40422, bad_name("4294967296")),
        ({"99999999999": 1}, 40422, bad_name("99999999999")),
        ({"0": 1, "2": 1}, 40423, bad_order(2, 1)),
        ({"1": 1}, 40423, bad_order(1, 0)),
        ({"010": 1}, 40423, bad_order(8, 0)),
    ],
)
def test_malformed_arrays(value: Any, code: int, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        listed(*field(value))
    assert (caught.value.code, caught.value.errmsg) == (code, errmsg)
    assert caught.value.code_name == f"Location{code}"


def test_an_array_index_given_twice() -> None:
    one = build.element("0", 1)
    with pytest.raises(CommandError) as caught:
        listed(*raw(one, one))
    assert caught.value.code == 40423
    assert "value '0' for an array field name, expected value '1'" in caught.value.errmsg


def test_lists_have_a_limit() -> None:
    assert len(listed(*field([None] * idl.MAX_ENTRIES))) == idl.MAX_ENTRIES
    with pytest.raises(CommandError) as caught:
        listed(*field([None] * (idl.MAX_ENTRIES + 1)))
    assert caught.value.code == 22


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        ({}, 40414, "BSON field 'P.user' is missing but a required field"),
        ({"user": "a"}, 40414, "BSON field 'P.db' is missing but a required field"),
        ({"db": "a"}, 40414, "BSON field 'P.user' is missing but a required field"),
        ({"user": None, "db": "a"}, 40414, "BSON field 'P.user' is missing but a required field"),
        ({"user": 1, "db": "a"}, 14, wrong("P.user", "int", "string")),
        ({"user": "a", "db": 1}, 14, wrong("P.db", "int", "string")),
        ({"user": "a", "db": "b", "c": 1}, 40415, "BSON field 'P.c' is an unknown field."),
        ({"role": "a", "db": "b"}, 40415, "BSON field 'P.role' is an unknown field."),
    ],
)
def test_malformed_users(value: Any, code: int, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        idl.name_pair(*field(value), "P", "user")
    assert (caught.value.code, caught.value.errmsg) == (code, errmsg)


def test_users_and_roles() -> None:
    assert idl.name_pair(*field({"db": "d", "user": "u"}), "P", "user") == ("u", "d")
    assert idl.name_pair(*field({"role": "r", "db": "d"}), "P", "role") == ("r", "d")


def test_names_that_are_not_utf8_keep_their_bytes() -> None:
    user = b"\x02user\0\x02\0\0\0\xff\0"
    pair = idl.name_pair(*raw(user, build.element("db", "d")), "P", "user")
    assert pair[0].encode("utf-8", "surrogateescape") == b"\xff"


def test_numbers_and_bools_are_exact() -> None:
    assert idl.long(*field(Int64(-1)), "P") == -1
    assert idl.boolean(*field(True), "P") is True
    for value in (1, 1.0, "1"):
        with pytest.raises(CommandError):
            idl.long(*field(value), "P")
        with pytest.raises(CommandError):
            idl.boolean(*field(value), "P")


@given(st.binary(max_size=80), st.sampled_from([0x02, 0x03, 0x04, 0x05]))
def test_arbitrary_bytes_raise_nothing_but_command_errors(payload: bytes, kind: int) -> None:
    data = b"\0\0\0\0" + payload
    element = Element(kind, 0, 0, len(data))
    sized = len(data).to_bytes(4, "little") + payload
    for content in (data, sized, sized[:-1] + b"\0" if payload else sized):
        for read in (
            lambda one: idl.lsid(one, element, "P"),
            lambda one: idl.name_pair(one, element, "P", "user"),
            lambda one: list(idl.entries(one, element, "list", "P")),
        ):
            try:
                read(content)
            except CommandError:
                continue


@given(st.integers(0, 29), st.integers(0, 255))
def test_a_flipped_byte_in_a_plain_lsid_is_judged_or_kept(position: int, value: int) -> None:
    data, element = field({"id": UUID})
    changed = bytearray(data)
    changed[element.value + position] = value
    try:
        found, uid = idl.lsid(bytes(changed), element, "P")
    except CommandError:
        assert not 13 <= position < 29
    else:
        assert uid is None
        assert found == bytes(changed[element.value + 13 : element.value + 29])
