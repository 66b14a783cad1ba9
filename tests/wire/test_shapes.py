"""A recognised layout has to be what reading gives."""

from __future__ import annotations

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import WireError
from proxy.wire.layouts import read_answer, read_command
from proxy.wire.shapes import Shapes
from tests.build import element, raw_document

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**63 - 1),
    st.floats(allow_nan=False),
    st.sampled_from([0.0, 1.0, 1]),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.integers(0, 9), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 9)),
    st.just(bson.Regex("a+", "i")),
    st.just(bson.Timestamp(1, 2)),
    st.just(bson.ObjectId(bytes(12))),
    st.just(bson.DBRef("c", 1)),
    st.fixed_dictionaries({"id": st.just(bson.Binary(bytes(16), 4))}),
    st.fixed_dictionaries({"id": st.sampled_from([bson.Int64(7), 7]), "ns": st.just("a.b")}),
)
NAMES = ["a", "b", "lsid", "autocommit", "txnNumber", "ok", "cursor"]
ELEMENTS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4)


def outcome(read, *where):
    try:
        layout = read(*where)
    except WireError as error:
        return str(error)
    return layout, list(layout.fields), layout.fields.duplicates, layout.fields.repeats


@pytest.mark.parametrize("read", [read_command, read_answer])
@given(
    st.lists(ELEMENTS, min_size=1, max_size=6),
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 200), st.integers(0, 255), st.integers(0, 3)),
        max_size=20,
    ),
)
def test_any_documents_in_any_order_with_any_byte_changed(read, documents, changes):
    known = Shapes(read)
    messages = [
        b"head" + raw_document(*(element(name, value) for name, value in elements)) + b"tail"
        for elements in documents
    ]
    for message in messages * 3:
        assert outcome(known.read, message, 4, len(message)) == outcome(
            read, message, 4, len(message)
        )
    for which, at, byte, cut in changes:
        changed = bytearray(messages[which % len(messages)])
        changed[at % len(changed)] = byte
        where = bytes(changed), 4, len(changed) - cut
        assert outcome(known.read, *where) == outcome(read, *where)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (read_command, {"find": "c", "lsid": {"id": bson.Binary(b"0123456789abcdef", 4)}}),
        (read_command, {"find": "c", "autocommit": False, "startTransaction": True}),
        (read_answer, {"cursor": {"firstBatch": [], "id": bson.Int64(7), "ns": "d.c"}, "ok": 1.0}),
        (read_answer, {"ok": 0.0, "code": 26}),
    ],
)
def test_each_byte_changed(read, value):
    message = bson.encode(value)
    for at in range(len(message)):
        for byte in (0, 1, 7, message[at] ^ 1, message[at] ^ 0x80):
            known = Shapes(read)
            changed = message[:at] + bytes([byte]) + message[at + 1 :]
            for one in (message, message, message, changed, changed, changed, message):
                where = one, 0, len(one)
                assert outcome(known.read, *where) == outcome(read, *where)


def document(number: int, name: str = "find") -> bytes:
    return raw_document(element(name, "things"), element("n", number))


def test_what_comes_for_the_third_time_is_recognised_whatever_its_values():
    known = Shapes(read_command)
    first, second, third = (known.read(document(n), 0, 100) for n in (1, 2, 3))
    assert first is not second is third
    assert known.read(document(4), 0, 100) is third
    assert known.read(document(4, "drop"), 0, 100) is not third
    assert known.read(document(4, "drop"), 0, 100).name == "drop"


@pytest.mark.parametrize(
    "message",
    [
        # Names of more bytes than are kept, more fields, and a cursor that cannot be read.
        bson.encode({"x" * 1024: 1}),
        bson.encode({f"x{n}": "" for n in range(100)}),
        raw_document(b"\x03cursor\0" + raw_document(b"\x77x\0")),
    ],
)
def test_some_are_read_each_time(message):
    known = Shapes(read_answer)
    found = [known.read(message, 0, len(message)) for _ in range(4)]
    assert len({id(one) for one in found}) == 4
    assert all(one == read_answer(message, 0, len(message)) for one in found)


@pytest.mark.parametrize("again", [1, 3])
def test_no_more_than_so_many_are_remembered(again):
    known = Shapes(read_command, most=10)
    for size in range(100):
        message = raw_document(element("a", "x" * size))
        for _ in range(again):
            known.read(message, 0, len(message))
        assert len(known._known) <= 10
        assert len(known._seen) <= 10
