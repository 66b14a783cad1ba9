"""A recognised layout has to be what reading gives."""

from __future__ import annotations

from itertools import permutations, product

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import WireError
from proxy.wire.fields import walk
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
    st.just({"id": bson.Binary(bytes(16), 4), "uid": bytes(32)}),
    st.fixed_dictionaries({"id": st.sampled_from([bson.Int64(7), 7]), "ns": st.just("a.b")}),
)
ONE = bson.Int64(1)
NAMES = ["a", "b", "lsid", "autocommit", "txnNumber", "ok", "cursor", "find", "$db", "comment"]
ELEMENTS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=4)


def outcome(find, data, start, limit):
    """What is found, with offsets in ``data``."""
    try:
        found = find(data, start, limit)
    except WireError as error:
        return str(error)
    layout, base, fields, aside = (
        found if isinstance(found, tuple) else (found.layout, start, found.fields, start)
    )
    if fields is not None:
        walked = walk(data, start, limit)
        assert fields == walked
        assert (fields.duplicates, fields.repeats) == (walked.duplicates, walked.repeats)
    return layout.moved(-base, -aside)


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


class Reads:
    """Counts what had to be read."""

    def __init__(self, read):
        self.read = read
        self.count = 0

    def __call__(self, data, start, limit):
        self.count += 1
        return self.read(data, start, limit)

    def takes(self, known, *documents):
        """How many of these are read, each of which stands behind some other bytes."""
        before = self.count
        for document in documents:
            message = b"head" + document
            where = message, 4, len(message)
            assert outcome(known.read, *where) == outcome(self.read, *where)
        return self.count - before


def find(name="things", number=1, **more):
    lsid = {"id": bson.Binary(bytes([number]) * 16, 4)}
    return bson.encode({"find": name, "filter": {}, "n": number, "lsid": lsid, **more})


def named(document):
    """The collection and the database as one finds them by the layout."""
    data = b"head" + document

    def text(at):
        return data[at + 4 : at + 3 + int.from_bytes(data[at : at + 4], "little")].decode()

    def names(known):
        layout, _, _, aside = known.read(data, 4, len(data))
        return text(4 + layout.collection), text(aside + layout.database)

    return names


@pytest.mark.parametrize("order", list(permutations(["lsid", "$db", "filter"])))
def test_the_names_are_where_the_layout_says_whatever_stands_between(order):
    reads = Reads(read_command)
    known = Shapes(reads)
    values = {"lsid": {"id": bson.Binary(bytes(16), 4)}}
    for collection, database, filter in product(
        ["c", "other", "c2"], ["d", "shop"], [{}, {"a": 1}]
    ):
        values |= {"$db": database, "filter": filter}
        document = bson.encode({"find": collection, **{name: values[name] for name in order}})
        assert named(document)(known) == (collection, database)
    before = reads.count
    document = bson.encode({"find": "more", **{name: values[name] for name in order}})
    assert named(document)(known) == ("more", "shop")
    assert reads.count == before, "it is recognised"


def test_what_reads_a_cursor_on_has_its_collection_in_a_field():
    known = Shapes(read_command)
    for number in range(9):
        more = {"getMore": bson.Int64(number), "collection": "c" * (1 + number % 3), "$db": "d"}
        assert named(bson.encode(more))(known) == (more["collection"], "d")
    apart = bson.encode({"getMore": bson.Int64(1), "x": "", "collection": "c", "$db": "d"})
    assert known.read(apart, 0, len(apart))[0].database == 0
    user = bson.encode({"dropUser": "alice", "$db": "d"})
    assert known.read(user, 0, len(user))[0].collection == 0


def test_what_comes_for_the_third_time_is_recognised_whatever_its_values():
    reads = Reads(read_command)
    known = Shapes(reads)
    assert reads.takes(known, *(find(number=n) for n in range(9))) == 2
    assert reads.takes(known, find("other1")) == 0
    assert reads.takes(known, *(find(more=n) for n in range(9))) == 2


def test_lengths_may_vary_once_they_were_seen_to():
    reads = Reads(read_command)
    known = Shapes(reads)
    filters = [{"x" * n: "y" * 3 * n} for n in range(50)]
    assert reads.takes(known, *(find(filter=one) for one in filters)) == 3
    # Another one that varies, and not always at once.
    reads.takes(known, *(find("x" * n) for n in range(20)))
    assert reads.takes(known, *(find("x" * (n % 20), filter=filters[n]) for n in range(50))) == 0


@pytest.mark.parametrize("name", ["firstBatch", "nextBatch"])
def test_batches_may_vary(name):
    reads = Reads(read_answer)
    known = Shapes(reads)

    def answer(size, namespace, number):
        batch = [{"x": "y" * size}] * (number % 4)
        inner = {name: batch, "id": bson.Int64(number), "ns": namespace}
        return bson.encode({"cursor": inner, "ok": 1.0, "n": 1})

    several = [answer(n * 7, "d." + "c" * (n % 5), n) for n in range(200)]
    reads.takes(known, *several[:10])
    assert reads.takes(known, *several) == 0
    # A batch, and then a cursor, that say to be longer than they are.
    long, at = several[9], several[9].index(name.encode()) + len(name) + 1
    for where in (at, at - len(name) - 6, 0):
        for by in (1, 2, 255):
            wrong = bytearray(long)
            wrong[where] = (wrong[where] + by) % 256
            data = bytes(wrong)
            assert outcome(known.read, data, 0, len(data)) == outcome(
                read_answer, data, 0, len(data)
            )


def test_a_session_id_in_another_form_hides_none_in_the_usual_one():
    reads = Reads(read_command)
    known = Shapes(reads)
    uuid = bson.Binary(bytes(16), 4)
    odd = [{"id": uuid, "uid": bytes(31)}, {}, {"uid": bytes(32), "id": uuid}, {"id": 1}]
    for _ in range(3):
        reads.takes(known, *(find(lsid=one) for one in odd), find())
    assert reads.takes(known, *(find(lsid=one) for one in odd), find()) == len(odd)


def test_places_that_vary_by_themselves_are_found_anew():
    """An array between the lsid and the number: no one place is known for both."""
    reads = Reads(read_command)
    known = Shapes(reads)

    def write(size):
        lsid = {"id": bson.Binary(bytes(16), 4)}
        return bson.encode({"insert": "c", "lsid": lsid, "x": [1] * size, "txnNumber": ONE})

    assert reads.takes(known, *(write(n) for n in range(20))) == 20


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
    reads = Reads(read_answer)
    assert reads.takes(Shapes(reads), *[message] * 4) == 4


@pytest.mark.parametrize("again", [1, 3])
def test_no_more_than_so_many_are_remembered(again):
    known = Shapes(read_command, most=10)
    for size in range(100):
        message = raw_document(element("x" * size, ""))
        for _ in range(again):
            known.read(message, 0, len(message))
        assert len(known._known) <= 10
        assert sum(map(len, known._alike.values())) <= 20
        assert len(known._seen) <= 10


@pytest.mark.parametrize("number", [int, bson.Int64])
def test_what_begins_with_a_short_name_is_remembered_once(number):
    """The value that follows is none of what it begins with."""
    reads = Reads(read_answer)
    known = Shapes(reads)
    counts = [bson.encode({"n": number(n), "ok": 1.0}) for n in range(1000)]
    assert reads.takes(known, *counts) == 2
    assert sum(map(len, known._alike.values())) == len(known._alike) == 1


def test_only_so_many_lengths_vary():
    reads = Reads(read_command)
    known = Shapes(reads)
    for count, takes in [(16, 0), (17, 8)]:
        several = [bson.encode({f"x{n}": "y" * size for n in range(count)}) for size in range(10)]
        reads.takes(known, *several)
        assert reads.takes(known, *several[2:]) == takes
