"""Lists of plain lsids: read in bulk, and only where reading them one by one gives the same."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import CommandError
from proxy.session import idl
from proxy.session.plainlists import plain_ints, plain_lsids
from proxy.wire.fields import Element, walk
from proxy.wire.layouts import PLAIN_LSID_SIZE
from tests import build
from tests.session.sessions import ALICE, uuid

UUID = Binary(uuid(2), 4)
TOO_LONG = Binary(bytes(17), 4)


def field(value: Any) -> tuple[bytes, Element]:
    data = bson.encode({"f": value})
    return data, walk(data, 0, len(data))[b"f"]


def plain(count: int) -> tuple[list[bytes], bytes, Element]:
    ids = [number.to_bytes(16, "big") for number in range(count)]
    return ids, *field([{"id": Binary(one, 4)} for one in ids])


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 101, 1_000, 1_001, 10_001])
def test_plain_lists_are_read_at_once(count: int) -> None:
    ids, data, element = plain(count)
    assert plain_lsids(data, element) == ids


@pytest.mark.parametrize("number", [0, 9, 10, 57, 99, 100, 999, 1_000, 1_109])
def test_one_byte_that_is_not_plain_is_seen(number: int) -> None:
    _, data, element = plain(1_110)
    start = data.index(b"\x03%d\0" % number)
    size = 2 + len(str(number)) + PLAIN_LSID_SIZE
    uuid_starts = size - 17
    for column in (*range(uuid_starts), size - 1):
        changed = bytearray(data)
        changed[start + column] ^= 1
        assert plain_lsids(bytes(changed), element) is None
    changed = bytearray(data)
    changed[start + uuid_starts] ^= 1
    assert plain_lsids(bytes(changed), element) is not None


def test_nor_is_a_list_that_ends_in_something_else() -> None:
    for count in (1, 10, 12):
        _, data, element = plain(count)
        assert plain_lsids(data[: element.end - 1] + b"\1" + data[element.end :], element) is None
        cut = Element(element.type, element.start, element.value, element.end - 3)
        assert plain_lsids(data[: element.end - 4] + b"\0", cut) is None


def test_nor_is_one_that_is_too_long() -> None:
    ids, data, element = plain(idl.MAX_ENTRIES)
    assert plain_lsids(data, element) == ids
    _, data, element = plain(idl.MAX_ENTRIES + 1)
    assert plain_lsids(data, element) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"id": UUID, "uid": ALICE},
        {"id": Binary(bytes(16), 3)},
        {"id": TOO_LONG},
        {"Id": UUID},
        None,
        1,
        {},
    ],
)
@pytest.mark.parametrize("position", [0, 1, 2])
def test_other_lists_are_not(odd: Any, position: int) -> None:
    values: list[Any] = [{"id": UUID}, {"id": UUID}]
    values.insert(position, odd)
    assert plain_lsids(*field(values)) is None


@pytest.mark.parametrize("names", [("1",), ("0", "2"), ("0", "0"), ("00",), ("x",), ("0", "")])
def test_nor_are_lists_that_are_not_numbered(names: tuple[str, ...]) -> None:
    inner = build.raw_document(*(build.element(name, {"id": UUID}) for name in names))
    data = build.raw_document(b"\x04f\0" + inner)
    assert plain_lsids(data, walk(data, 0, len(data))[b"f"]) is None


def test_a_uuid_may_hold_what_looks_like_an_entry() -> None:
    tricky = Binary(b"\x030\0\x1e\0\0\0\x05id\0\x10\0\0\0\x04"[:16], 4)
    values = [{"id": tricky}, {"id": UUID}]
    assert plain_lsids(*field(values)) == [bytes(tricky), uuid(2)]


@given(st.binary(max_size=200))
def test_a_list_is_plain_only_if_it_reads_the_same_one_by_one(payload: bytes) -> None:
    values = [{"id": Binary(payload[n : n + 16], 4)} for n in range(0, len(payload), 16)]
    data, element = field(values)
    found = plain_lsids(data, element)
    if found is None:
        with pytest.raises(CommandError):
            [idl.lsid(data, one, "P") for _, one in idl.entries(data, element, "list", "P")]
    else:
        entries = idl.entries(data, element, "list", "P")
        assert found == [idl.lsid(data, one, "P")[0] for _, one in entries]


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 99, 100, 101, 1_000, 1_001, 100_000])
def test_plain_integers_are_read_at_once(count: int) -> None:
    numbers = [one * 3 - 5 for one in range(count)]
    assert plain_ints(*field(numbers)) == numbers


@pytest.mark.parametrize("number", [0, 9, 10, 57, 99, 100, 109])
def test_one_byte_that_is_not_of_plain_integers_is_seen(number: int) -> None:
    data, element = field([0] * 110)
    start = data.index(b"\x10%d\0" % number)
    head = 2 + len(str(number))
    for column in range(head + 4):
        changed = bytearray(data)
        changed[start + column] ^= 1
        assert (plain_ints(bytes(changed), element) is None) is (column < head)


@pytest.mark.parametrize("odd", [Int64(1), 1.0, None, "x", {}])
@pytest.mark.parametrize("position", [0, 9, 10, 11])
def test_other_lists_are_not_of_plain_integers(odd: Any, position: int) -> None:
    values: list[Any] = [0] * 12
    values[position] = odd
    assert plain_ints(*field(values)) is None


def test_nor_are_documents_or_too_many() -> None:
    assert plain_ints(*field({"0": 1})) is None
    assert plain_ints(*field([0] * (idl.MAX_ENTRIES + 1))) is None


@given(st.lists(st.one_of(st.integers(-(2**31), 2**31 - 1), st.floats(), st.none()), max_size=30))
def test_plain_integers_are_what_reading_one_by_one_gives(values: list[Any]) -> None:
    all_plain = all(isinstance(one, int) for one in values)
    assert plain_ints(*field(values)) == (values if all_plain else None)
