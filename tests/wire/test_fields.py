"""Walking and editing the top level of a document, with bson as the judge."""

from __future__ import annotations

import datetime
import re

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import TooManyFieldsError, WireError
from proxy.wire.fields import (
    MAX_ELEMENTS,
    Element,
    Fields,
    document_end,
    edited,
    integer,
    text,
    true_value,
    walk,
)
from proxy.wire.opcodes import INT32
from tests.build import element, raw_document

#: One value of every type that bson still encodes, by its number.
VALUES = {
    0x01: 1.5,
    0x02: "grüße",
    0x03: {"a": {"b": 1}},
    0x04: [1, "two", []],
    0x05: Binary(b"\0\xff", 0),
    0x07: ObjectId("0123456789abcdef01234567"),
    0x08: True,
    0x09: datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    0x0A: None,
    0x0B: re.compile("a.b", re.IGNORECASE),
    0x0D: Code("return 1"),
    0x0F: Code("return a", {"a": 1}),
    0x10: 7,
    0x11: Timestamp(4, 2),
    0x12: Int64(7),
    0x13: Decimal128("1.0"),
    0x7F: MaxKey(),
    0xFF: MinKey(),
}
#: And of those that only old clients send: undefined, DBPointer, symbol, old binary.
ANCIENT = {
    0x06: b"\x06v\0",
    0x0C: b"\x0cv\0\3\0\0\0db\0" + bytes(12),
    0x0E: b"\x0ev\0\3\0\0\0ab\0",
    0x05: b"\x05v\0\6\0\0\0\2\2\0\0\0ab",
}

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(max_size=8),
        st.binary(max_size=8),
        st.sampled_from(list(VALUES.values())),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "$c"]), inner, max_size=3)
    ),
    max_leaves=6,
)
# The encoder puts _id in front, wherever it stands.
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4).filter(
    lambda name: name != "_id"
)
documents = st.dictionaries(names, values, max_size=6)


def all_elements(found: Fields) -> list[Element]:
    return sorted([*found.values(), *found.repeats], key=lambda e: e.start)


def expect_tiling(found: Fields, data: bytes, start: int) -> None:
    """The elements cover the document between its length and its NUL, each once."""
    pos = start + 4
    for each in all_elements(found):
        assert each.start == pos
        assert each.start < each.value <= each.end
        assert data[each.start] == each.type
        pos = each.end
    assert data[pos] == 0
    assert pos + 1 == start + INT32.unpack_from(data, start)[0]


@given(documents, st.binary(max_size=3), st.binary(max_size=3))
def test_every_element_is_found_where_bson_puts_it(document, before, behind):
    data = before + bson.encode(document) + behind
    found = walk(data, len(before), len(data) - len(behind))
    assert [name.decode() for name in found] == list(document)
    assert found.duplicates == found.repeats == ()
    expect_tiling(found, data, len(before))
    for name, each in found.items():
        assert data[each.start : each.end] == element(name.decode(), document[name.decode()])


@pytest.mark.parametrize("number", VALUES, ids=hex)
def test_every_type_is_stepped_over(number):
    data = bson.encode({"before": 1, "v": VALUES[number], "after": 2})
    found = walk(data, 0, len(data))
    assert list(found) == [b"before", b"v", b"after"]
    assert found[b"v"].type == number
    assert integer(data, found[b"after"]) == 2


@pytest.mark.parametrize("number", ANCIENT, ids=hex)
def test_types_that_only_old_clients_send_are_stepped_over(number):
    data = raw_document(ANCIENT[number], element("after", 2))
    found = walk(data, 0, len(data))
    assert found[b"v"].type == number
    assert integer(data, found[b"after"]) == 2


def test_every_other_type_is_unknown():
    for number in set(range(256)) - set(VALUES) - set(ANCIENT):
        data = raw_document(bytes([number]) + b"v\0" + bytes(16))
        with pytest.raises(WireError, match=f"unknown BSON type {number}"):
            walk(data, 0, len(data))


def test_the_first_of_equal_names_counts_and_the_rest_is_known():
    data = raw_document(
        element("a", 1), element("b", 2), element("a", "three"), element("a", 4), element("b", 5)
    )
    found = walk(data, 0, len(data))
    assert {name: integer(data, each) for name, each in found.items()} == {b"a": 1, b"b": 2}
    assert found.duplicates == (b"a", b"a", b"b")
    assert [each.type for each in found.repeats] == [0x02, 0x10, 0x10]
    expect_tiling(found, data, 0)


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_a_document_or_an_error(data):
    try:
        found = walk(data, 0, len(data))
    except WireError:
        return
    expect_tiling(found, data, 0)


@given(documents, st.data())
def test_a_changed_byte_makes_another_document_or_an_error(document, draw):
    data = bytearray(bson.encode(document))
    at = draw.draw(st.integers(0, len(data) - 1))
    data[at] = draw.draw(st.integers(0, 255))
    changed = bytes(data)
    try:
        found = walk(changed, 0, len(changed))
    except WireError:
        return
    expect_tiling(found, changed, 0)


@given(documents, st.integers(0, 100))
def test_what_bson_reads_can_be_walked_and_what_is_cut_cannot(document, cut):
    data = bson.encode(document)
    shorter = data[: max(0, len(data) - 1 - cut)]
    with pytest.raises(WireError):
        walk(shorter, 0, len(shorter))


@pytest.mark.parametrize("limit", range(5))
def test_a_document_needs_five_bytes(limit):
    with pytest.raises(WireError, match="no room"):
        document_end(b"\5\0\0\0\0", 0, limit)


@pytest.mark.parametrize("length", [-(2**31), -1, 0, 4, 6, 2**31 - 1])
def test_a_declared_length_has_to_fit(length):
    with pytest.raises(WireError, match="does not fit"):
        document_end(INT32.pack(length) + b"\0", 0, 5)


def test_a_length_may_not_reach_into_what_follows_the_document():
    inner = raw_document(element("a", "x"))
    behind = raw_document(b"\x02a\0\xff\0\0\0x\0") + bytes(300)
    assert document_end(inner, 0, len(inner)) == len(inner)
    with pytest.raises(WireError, match="overruns"):
        walk(behind, 0, len(behind))


def test_as_many_elements_as_anybody_needs_and_not_more():
    most = raw_document(element("a", None) * (MAX_ELEMENTS - 1), element("b", 1))
    found = walk(most, 0, len(most))
    assert len(found) == 2
    assert len(found.repeats) == MAX_ELEMENTS - 2
    more = raw_document(element("a", None) * MAX_ELEMENTS, element("b", 1))
    with pytest.raises(TooManyFieldsError):
        walk(more, 0, len(more))
    distinct = bson.encode({str(number): 1 for number in range(12)})
    with pytest.raises(TooManyFieldsError):
        walk(distinct, 0, len(distinct), max_elements=11)


# ------------------------------------------------------------------ values


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", ""), ("grüße", "grüße"), ("a\0b", "a\0b"), (1, None), (b"a", None), (Code("a"), None)],
)
def test_text(value, expected):
    data = bson.encode({"v": value})
    assert text(data, walk(data, 0, len(data))[b"v"]) == expected


def test_text_that_is_missing_or_not_utf8():
    data = raw_document(b"\x02v\0\2\0\0\0\xff\0")
    assert text(data, walk(data, 0, len(data))[b"v"]) is None
    assert text(data, None) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (-1, -1),
        (2**31 - 1, 2**31 - 1),
        (Int64(5), 5),
        (-(2**63), -(2**63)),
        (1.0, None),
        (True, None),
        ("1", None),
        (Timestamp(0, 1), None),
    ],
)
def test_integer(value, expected):
    data = bson.encode({"v": value})
    assert integer(data, walk(data, 0, len(data))[b"v"]) == expected
    assert integer(data, None) is None


# ------------------------------------------------------------------ edits


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), values), max_size=7),
    st.dictionaries(st.sampled_from("abcdx"), st.none() | st.integers(0, 9), max_size=3),
    st.binary(max_size=3),
)
def test_edits_are_what_a_list_of_elements_would_become(items, edits, around):
    data = around + raw_document(*(element(*item) for item in items)) + around
    found = walk(data, len(around), len(data) - len(around))
    seen: set[str] = set()
    expected = []
    for name, value in items:
        first = name not in seen
        seen.add(name)
        if name not in edits:
            expected.append(element(name, value))
        elif first and edits[name] is not None:
            expected.append(element(name, edits[name]))
    changes = {
        name.encode(): None if value is None else element(name, value)
        for name, value in edits.items()
    }
    assert edited(data, len(around), found, changes) == raw_document(*expected)


@given(documents)
def test_no_edits_change_nothing(document):
    data = bson.encode(document)
    assert edited(data, 0, walk(data, 0, len(data)), {}) == data


def test_what_is_not_edited_stays_byte_for_byte():
    odd = [b"\x02u\0\2\0\0\0\xff\0", ANCIENT[0x06], b"\x08t\0\x02", element("d", Decimal128("NaN"))]
    data = raw_document(odd[0], element("x", 1), odd[1], odd[2], odd[3])
    found = walk(data, 0, len(data))
    assert edited(data, 0, found, {b"x": element("x", "long" * 50)}) == raw_document(
        odd[0], element("x", "long" * 50), odd[1], odd[2], odd[3]
    )
    assert edited(data, 0, found, {b"x": None}) == raw_document(*odd)


# ------------------------------------------------------------------ truth


def decimal(number: int) -> bytes:
    return b"\x13v\0" + number.to_bytes(16, "little")


EXPONENTS = [0, 1, 0x1820, 0x2FFF]
SIGNS = [0, 1 << 127]
LARGEST = 10**34 - 1

FALSE = [
    element("v", False),
    element("v", None),
    b"\x06v\0",
    element("v", 0),
    element("v", Int64(0)),
    element("v", 0.0),
    element("v", -0.0),
    *(
        decimal(sign | exponent << 113 | coefficient)
        for sign in SIGNS
        for exponent in EXPONENTS
        # What has more than 34 digits is another way to write 0.
        for coefficient in (0, LARGEST + 1, (1 << 113) - 1)
    ),
    # The form for large coefficients: all of them are too large.
    *(
        decimal(sign | 0b11 << 125 | exponent << 111 | coefficient)
        for sign in SIGNS
        for exponent in EXPONENTS
        for coefficient in (0, 1, (1 << 111) - 1)
    ),
]
TRUE = [
    *(element("v", value) for number, value in VALUES.items() if number != 0x0A),
    *ANCIENT.values(),
    element("v", ""),
    element("v", {}),
    element("v", -1),
    element("v", Int64(1 << 40)),
    element("v", float("nan")),
    element("v", float("inf")),
    element("v", 5e-324),
    b"\x08v\0\x02",
    *(
        decimal(sign | exponent << 113 | coefficient)
        for sign in SIGNS
        for exponent in EXPONENTS
        for coefficient in (1, LARGEST)
    ),
    *(decimal(sign | kind << 122) for sign in SIGNS for kind in (0b11110, 0b11111)),
]


@pytest.mark.parametrize(
    ("bytes_", "truth"),
    [*((one, False) for one in FALSE), *((one, True) for one in TRUE if one[:1] != b"\x06")],
)
def test_truth_is_the_servers(bytes_, truth):
    data = raw_document(bytes_)
    [found] = walk(data, 0, len(data)).values()
    assert true_value(data, found) is truth


def test_what_is_missing_is_false():
    assert not true_value(b"", None)


@given(st.integers(0, (1 << 128) - 1))
def test_the_zeros_among_decimals_are_those_of_bson(number):
    data = raw_document(decimal(number))
    value = Decimal128.from_bid(number.to_bytes(16, "little")).to_decimal()
    canonical = number & (1 << 113) - 1 <= LARGEST and number >> 125 & 3 != 3
    if canonical or not value.is_finite():
        [found] = walk(data, 0, len(data)).values()
        assert true_value(data, found) is not value.is_zero()
