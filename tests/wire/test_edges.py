"""A long reply's cursor from its two ends, with the whole reply as the judge."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.compression import deflate
from proxy.wire.edges import EDGE, Cursor, Edges, Verdict, beginning, cursor, verdict
from tests.build import command, frame, op_msg, op_reply, raw_document, reply, sequence


def ends(message: bytes, head: int = EDGE, tail: int = EDGE) -> Edges:
    return Edges(message[:head], message[-tail:], len(message))


def found(value: dict[str, Any] | bytes, **how: Any) -> Cursor | None:
    return cursor(ends(reply(value, 1, **how)))


def batch(size: int) -> list[dict[str, Any]]:
    """Documents of about ``size`` bytes in all."""
    return [{"_id": number, "text": "x" * 90} for number in range(size // 100)]


def said(value: dict[str, Any] | bytes, **how: Any) -> Verdict | None:
    return verdict(ends(reply(value, 1), **how))


TIMES = {
    "ok": 1.0,
    "operationTime": bson.Timestamp(1, 1),
    "$clusterTime": {
        "clusterTime": bson.Timestamp(1, 1),
        "signature": {"hash": bytes(20), "keyId": bson.Int64(7)},
    },
}


@pytest.mark.parametrize("name", ["firstBatch", "nextBatch"])
@pytest.mark.parametrize("size", [0, 100, 900, 2_000, 70_000, 1_000_000])
@pytest.mark.parametrize("number", [0, 5, -5, 2**62])
def test_mongods_cursor_behind_its_batch(name, size, number):
    value = {name: batch(size), "id": bson.Int64(number), "ns": "db.some.coll"}
    assert found({"cursor": value, **TIMES}) == Cursor(number, "db.some.coll")


@pytest.mark.parametrize("size", [0, 70_000])
def test_mongos_cursor_in_front_of_its_batch(size):
    value = {"id": bson.Int64(9), "ns": "db.c", "firstBatch": batch(size)}
    assert found({"cursor": value, **TIMES}) == Cursor(9, "db.c")
    assert found({"cursor": value, **TIMES}, flags=1 << 1) == Cursor(9, "db.c")


def test_what_stands_between_the_batch_and_the_id_is_stepped_over():
    value = {
        "firstBatch": batch(70_000),
        "partialResultsReturned": True,
        "postBatchResumeToken": {"_data": "8" * 12_000},
        "id": bson.Int64(9),
        "ns": "db.c",
    }
    assert found({"cursor": value, **TIMES}) == Cursor(9, "db.c")


def test_fields_in_front_of_the_cursor_are_stepped_over():
    value = {"cursor": {"firstBatch": batch(70_000), "id": bson.Int64(9), "ns": "db.c"}}
    before = {"a": 1, "b": "text", "c": None, "d": [1, 2], "e": b"bin"}
    assert found({**before, **value, **TIMES}) == Cursor(9, "db.c")


def test_the_longest_namespace():
    value = {"firstBatch": batch(70_000), "id": bson.Int64(9), "ns": "db." + "c" * 252}
    assert found({"cursor": value, **TIMES}) == Cursor(9, "db." + "c" * 252)


@pytest.mark.parametrize(
    "value",
    [
        {"ok": 1.0, "text": "x" * 5_000},
        {"cursor": 1, "ok": 1.0},
        {"cursor": {"firstBatch": []}, "ok": 1.0},
        {"cursor": {"firstBatch": [], "id": 1, "ns": "a.b"}, "ok": 1.0},
        {"cursor": {"firstBatch": [], "id": "1", "ns": "a.b"}, "ok": 1.0},
        {"a": batch(30_000), "cursor": {"id": bson.Int64(1)}, "c": batch(30_000)},
        {str(number): 1 for number in range(40)} | {"cursor": {"id": bson.Int64(1)}},
    ],
)
def test_no_cursor_is_none(value):
    assert found(value) is None


def test_a_namespace_that_is_no_string_is_not_seen():
    value = {"firstBatch": batch(70_000), "id": bson.Int64(9), "ns": 1}
    assert found({"cursor": value}) == Cursor(9, "")


def test_a_command_s_reply_by_the_old_opcode_has_it_in_its_document():
    value = {"firstBatch": batch(5_000), "id": bson.Int64(-77), "ns": "db.c"}
    message = op_reply({"cursor": value, "ok": 1.0}, response_to=1)
    assert cursor(ends(message)) == Cursor(-77, "db.c")
    assert cursor(ends(op_reply({"ok": 1.0}, response_to=1))) is None


def test_other_messages_have_none():
    assert cursor(ends(frame(2011, bytes(100)))) is None
    assert cursor(ends(deflate(command({"ping": 1}), 2))) is None
    assert cursor(ends(op_msg(sequence("a", *batch(5_000))))) is None


numbers = st.integers(-(2**63), 2**63 - 1)


@given(
    st.integers(0, 4_000),
    numbers,
    st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=40),
    st.sampled_from(["id first", "id last"]),
    st.integers(64, EDGE),
    st.integers(64, EDGE),
)
def test_the_ends_tell_the_truth_or_nothing(size, number, namespace, order, head, tail):
    batch_ = {"firstBatch": [{"b": bytes(size)}]}
    about = {"id": bson.Int64(number), "ns": namespace}
    value = {**about, **batch_} if order == "id first" else {**batch_, **about}
    message = reply({"cursor": value, **TIMES}, 1)
    told = cursor(ends(message, head, tail))
    assert told in (Cursor(number, namespace), Cursor(number, ""), None)
    if head == tail == EDGE:
        assert told == Cursor(number, namespace)


@given(st.binary(min_size=64, max_size=400), st.integers(20, 300))
def test_garbage_is_read_without_an_error(data, length):
    for opcode in (1, 2013):
        message = frame(opcode, data)
        cursor(ends(message))
        cursor(ends(message, 64, 70))
        cursor(Edges(message[:64], message[-70:], len(message) + length))


def test_declared_sizes_that_lie_lead_nowhere():
    for size in (-(2**31), -1, 0, 2**31 - 1):
        lying = raw_document(
            b"\x03cursor\0"
            + (30).to_bytes(4, "little")
            + b"\x04firstBatch\0"
            + size.to_bytes(4, "little", signed=True)
            + bytes(60)
        )
        assert cursor(ends(op_msg(b"\0" + lying, response_to=1))) is None


# ------------------------------------------------------------------ success


@pytest.mark.parametrize("ok", [1, 1.0, bson.Int64(1), True])
def test_a_long_reply_says_behind_its_batch_that_it_has_succeeded(ok):
    value = {"firstBatch": batch(70_000), "id": bson.Int64(5), "ns": "db.c"}
    assert said({"cursor": value, **TIMES, "ok": ok}) == Verdict(True)


@pytest.mark.parametrize("ok", [0, 0.0, bson.Int64(0), False, 2])
def test_a_long_error_says_its_code_and_labels(ok):
    error = {"ok": ok, "errmsg": "x" * 70_000, "code": 251, "codeName": "NoSuchTransaction"}
    labels = bson.encode({"0": "TransientTransactionError"})
    assert said(error) == Verdict(False, 251)
    assert said({"errorLabels": ["TransientTransactionError"], **error}) == Verdict(
        False, 251, labels
    )
    assert said({**error, "errorLabels": ["TransientTransactionError"]}) == Verdict(
        False, 251, labels
    )


@pytest.mark.parametrize(
    "value",
    [{}, {"n": 1}, {"ok": "1", "n": 1}, {"a": {"b": "x" * 70_000}, "c": "x" * 70_000, "ok": 1}],
)
def test_what_says_nothing_of_its_success(value):
    assert said(value, head=100, tail=16) in (None, Verdict(False))


@given(st.binary(max_size=200))
def test_arbitrary_ends_say_nothing_or_something(data):
    message = reply({}, 1)[:21] + data
    verdict(ends(message))


@pytest.mark.parametrize("compressor", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [2_000, 70_000, 3_000_000])
def test_a_compressed_error_says_at_its_beginning_that_it_is_one(compressor, size):
    packed = deflate(reply({"ok": 0.0, "errmsg": "x" * size, "code": 9}, 1), compressor)
    found = beginning(packed)
    assert found is not None
    assert verdict(found) == Verdict(False)
    whole = beginning(deflate(reply({"cursor": {"firstBatch": batch(size)}}, 1), compressor))
    assert whole is not None
    assert verdict(whole) is None


def test_a_plain_reply_has_no_such_beginning():
    assert beginning(reply({"ok": 1.0}, 1)) is None
