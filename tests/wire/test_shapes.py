"""A recognised layout has to give what a walk gives."""

from __future__ import annotations

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import WireError
from proxy.wire import shapes
from proxy.wire.fields import walk
from proxy.wire.shapes import Shapes
from tests.build import element, raw_document

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.lists(st.integers(0, 9), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 9)),
    st.just(bson.Regex("a+", "i")),
    st.just(bson.Timestamp(1, 2)),
    st.just(bson.ObjectId(bytes(12))),
    st.just(bson.DBRef("c", 1)),
)
ELEMENTS = st.lists(st.tuples(st.sampled_from(["a", "b", "lsid"]), VALUES), max_size=4)


def outcome(find, *where):
    try:
        fields = find(*where)
    except WireError as error:
        return str(error)
    return list(fields.items()), fields.duplicates, fields.repeats


@given(
    st.lists(ELEMENTS, min_size=1, max_size=6),
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 200), st.integers(0, 255), st.integers(0, 3)),
        max_size=20,
    ),
)
def test_any_documents_in_any_order_with_any_byte_changed(documents, changes):
    known = Shapes()
    messages = [
        b"head" + raw_document(*(element(name, value) for name, value in elements)) + b"tail"
        for elements in documents
    ]
    for message in messages * 3:
        assert outcome(known.walk, message, 4, len(message)) == outcome(
            walk, message, 4, len(message)
        )
    for which, at, byte, cut in changes:
        changed = bytearray(messages[which % len(messages)])
        changed[at % len(changed)] = byte
        where = bytes(changed), 4, len(changed) - cut
        assert outcome(known.walk, *where) == outcome(walk, *where)


def document(number: int, name: str = "find") -> bytes:
    return raw_document(element(name, "things"), element("n", number))


def test_what_comes_for_the_third_time_is_recognised_whatever_its_values():
    known = Shapes()
    first, second, third = (known.walk(document(n), 0, 100) for n in (1, 2, 3))
    assert first is not second is third
    assert known.walk(document(4), 0, 100) is third
    assert known.walk(document(4, "drop"), 0, 100) is not third
    assert list(known.walk(document(4, "drop"), 0, 100)) == [b"drop", b"n"]


def test_long_documents_are_walked():
    known = Shapes()
    long = raw_document(element("a", "x" * 1024))
    assert known.walk(long, 0, len(long)) is not known.walk(long, 0, len(long))
    assert known.walk(long, 0, len(long)) is not known.walk(long, 0, len(long))


@pytest.mark.parametrize("again", [1, 3])
def test_no_more_than_so_many_are_remembered(again, monkeypatch):
    monkeypatch.setattr(shapes, "_MOST", 10)
    known = Shapes()
    for size in range(100):
        message = raw_document(element("a", "x" * size))
        for _ in range(again):
            known.walk(message, 0, len(message))
        assert len(known._known) <= 10
        assert len(known._seen) <= 10
