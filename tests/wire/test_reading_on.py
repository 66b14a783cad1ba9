from __future__ import annotations

import struct

import bson
import pytest
from bson import Decimal128, Int64
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from proxy.wire.reading_on import cursors_read
from tests.build import command, element, frame, op_get_more, op_query, raw_document

OP_GET_MORE = 2005


def twice(*values: object) -> bytes:
    """A getMore with its name there more than once."""
    return raw_document(*(element("getMore", value) for value in values), element("$db", "db"))


@pytest.mark.parametrize(
    ("request_frame", "cursors"),
    [
        (command({"getMore": Int64(7), "$db": "db"}), [7]),
        (command({"getMore": 7, "$db": "db"}), [7]),
        (command({"getMore": 7.0, "$db": "db"}), [7]),
        (command({"getMore": 7.9, "$db": "db"}), [7]),
        (command({"getMore": Decimal128("7"), "$db": "db"}), [7, 7]),
        (command({"getMore": Decimal128("6.6"), "$db": "db"}), [6, 7]),
        (command({"getMore": Decimal128("1E+6000"), "$db": "db"}), []),
        (command({"getMore": Decimal128("NaN"), "$db": "db"}), []),
        (command({"getMore": Decimal128("-Infinity"), "$db": "db"}), []),
        (command({"getMore": float("nan"), "$db": "db"}), []),
        (command({"getMore": float("inf"), "$db": "db"}), []),
        (command({"getMore": 1e300, "$db": "db"}), []),
        (command({"getMore": "7", "$db": "db"}), []),
        (command(twice(Int64(1), Int64(7))), [1, 7]),
        (command(twice(7, 7.0)), [7, 7]),
        (command({"find": Int64(7), "$db": "db"}), []),
        (op_query("db.$cmd", {"getMore": Int64(7)}), [7]),
        (op_query("db.$cmd", {"$query": {"getMore": Int64(7)}}), [7]),
        (op_get_more("db.c", 7), [7]),
        (op_get_more("db.c", -7), [-7]),
        (frame(OP_GET_MORE, bytes(4) + b"db.c\0"), []),
        (frame(OP_GET_MORE, bytes(4) + b"db.c"), []),
    ],
)
def test_which_cursors_a_request_reads_on(request_frame, cursors):
    assert cursors_read(read_request(request_frame)) == cursors
    for compressor in range(4):
        assert cursors_read(read_request(deflate(request_frame, compressor))) == cursors


@given(st.binary(max_size=40))
def test_arbitrary_requests_read_on_something_or_nothing(data):
    cursors_read(read_request(frame(OP_GET_MORE, data)))


@given(st.binary(min_size=16, max_size=16))
def test_any_decimal_is_read(data):
    body = struct.pack("<i", 4 + 9 + 16 + 1) + b"\x13getMore\0" + data + b"\0"
    assert len(bson.decode(body)) == 1
    cursors_read(read_request(op_query("db.$cmd", body)))
