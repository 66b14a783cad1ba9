"""Inflating within bounds, and nothing but what was declared."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib

import cramjam
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import WireError
from proxy.wire.compression import (
    NAMES,
    NOOP,
    SNAPPY,
    ZLIB,
    ZSTD,
    compressor_of,
    declared_size,
    deflate,
    inflate,
    inflate_start,
)
from proxy.wire.opcodes import HEADER, MAX_MESSAGE_SIZE, OP_COMPRESSED, OP_MSG
from tests.build import frame, op_compressed, recorded
from tests.effort import milliseconds
from tests.malformed import UNREADABLE

COMPRESSORS = {"noop": 0, "snappy": 1, "zlib": 2, "zstd": 3}
COMPRESS = {
    0: bytes,
    1: lambda data: bytes(cramjam.snappy.compress_raw(data)),
    2: zlib.compress,
    3: zstd.compress,
}
compressors = st.sampled_from(sorted(COMPRESS))


def test_the_names_are_those_of_what_can_be_inflated():
    assert set(COMPRESSORS) == NAMES


@given(st.binary(max_size=300), compressors, st.integers(-(2**31), 2**31 - 1))
def test_what_is_deflated_inflates_again(payload, compressor, opcode):
    message = HEADER.pack(16 + len(payload), 7, 9, opcode) + payload
    compressed = deflate(message, compressor)
    assert HEADER.unpack_from(compressed) == (len(compressed), 7, 9, OP_COMPRESSED)
    assert declared_size(compressed) == len(payload)
    assert compressor_of(compressed) == compressor
    if opcode != OP_COMPRESSED:
        assert inflate(compressed) == message


@given(st.binary(max_size=300), compressors)
def test_what_others_compress_inflates(payload, compressor):
    compressed = op_compressed(COMPRESS[compressor](payload), len(payload), compressor)
    assert inflate(compressed) == frame(OP_MSG, payload)


def test_recorded_messages_inflate_and_keep_their_ids():
    seen = set()
    for where, data in recorded():
        length, request_id, response_to, opcode = HEADER.unpack_from(data)
        if opcode == OP_COMPRESSED:
            message = inflate(data)
            assert HEADER.unpack_from(message)[1:3] == (request_id, response_to), where
            assert len(message) == declared_size(data) + 16, where
            assert inflate(deflate(message, compressor_of(data))) == message
            seen.add(compressor_of(data))
        else:
            assert length == len(data)
    assert seen == {1, 2}


@pytest.mark.parametrize(
    "malformed",
    [
        m
        for m in UNREADABLE
        if HEADER.unpack_from(m.frame)[3] == OP_COMPRESSED and not m.name.startswith("OP_MSG")
    ],
    ids=lambda m: m.name,
)
def test_what_is_wrong_is_an_error(malformed):
    with pytest.raises(WireError):
        inflate(malformed.frame)


@given(compressors | st.integers(4, 255), st.integers(-5, 400), st.binary(max_size=80))
def test_arbitrary_data_inflates_to_the_declared_size_or_is_an_error(compressor, size, data):
    try:
        message = inflate(op_compressed(data, size, compressor))
    except WireError:
        return
    assert len(message) == 16 + size


@given(compressors, st.data())
def test_a_changed_byte_inflates_to_the_declared_size_or_is_an_error(compressor, draw):
    compressed = bytearray(
        deflate(frame(OP_MSG, b"some text, some text, some text" * 5), compressor)
    )
    at = draw.draw(st.integers(16, len(compressed) - 1))
    compressed[at] = draw.draw(st.integers(0, 255))
    try:
        message = inflate(bytes(compressed))
    except WireError:
        return
    assert len(message) == 16 + declared_size(bytes(compressed))


@pytest.mark.parametrize("size", [0, 1, MAX_MESSAGE_SIZE - 16])
def test_sizes_within_the_limit(size):
    assert declared_size(op_compressed(b"", size, 0)) == size


@pytest.mark.parametrize("size", [-(2**31), -1, MAX_MESSAGE_SIZE - 15, 2**31 - 1])
def test_sizes_out_of_range(size):
    with pytest.raises(WireError, match="out of range"):
        declared_size(op_compressed(b"", size, 0))


@pytest.mark.parametrize("length", range(9))
def test_no_room_for_the_prefix(length):
    with pytest.raises(WireError, match="too short"):
        inflate(frame(OP_COMPRESSED, bytes(length)))


@pytest.mark.parametrize("compressor", sorted(COMPRESS))
def test_the_largest_message(compressor):
    payload = bytes(MAX_MESSAGE_SIZE - 16)
    compressed = op_compressed(COMPRESS[compressor](payload), len(payload), compressor)
    assert inflate(compressed) == frame(OP_MSG, payload)
    over = op_compressed(COMPRESS[compressor](payload + b"\0"), len(payload) + 1, compressor)
    with pytest.raises(WireError, match="out of range"):
        inflate(over)


@pytest.mark.parametrize("compressor", [2, 3])
def test_a_bomb_takes_no_more_memory_than_it_declares(compressor):
    bomb = op_compressed(COMPRESS[compressor](bytes(40_000_000)), 1000, compressor)
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            inflate(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_a_snappy_bomb_is_refused_by_its_first_bytes():
    data = bytes(cramjam.snappy.compress_raw(bytes(40_000_000)))
    with pytest.raises(WireError, match="declares another size"):
        inflate(op_compressed(data, 1000, 1))


def test_data_behind_the_end_of_a_stream_adds_nothing():
    # zlib's and the server's own one-call inflaters stop there too.
    payload = b"payload" * 9
    compressed = op_compressed(zlib.compress(payload) + b"more", len(payload), 2)
    assert inflate(compressed) == frame(OP_MSG, payload)


@given(
    st.binary(max_size=300)
    | st.builds(lambda one, n: one * n, st.binary(max_size=9), st.integers(1, 99)),
    st.sampled_from([NOOP, SNAPPY, ZLIB, ZSTD]),
)
def test_the_start_of_a_message_is_that_of_the_whole(payload, compressor):
    packed = deflate(frame(OP_MSG, payload), compressor)
    assert inflate_start(packed) == frame(OP_MSG, payload)[:36]


@pytest.mark.parametrize("compressor", [SNAPPY, ZLIB, ZSTD])
def test_nothing_but_the_start_is_inflated(compressor):
    packed = deflate(frame(OP_MSG, b"\2\0\0\0" + bytes(40_000_000)), compressor)
    assert milliseconds(lambda: inflate_start(packed)) < 3


@given(st.sampled_from([NOOP, SNAPPY, ZLIB, ZSTD, 9]), st.binary(max_size=60))
def test_arbitrary_data_has_a_start_or_is_an_error(compressor, data):
    with contextlib.suppress(WireError):
        assert len(inflate_start(op_compressed(data, 20, compressor))) == 36
