"""Any split of any byte stream gives the same frames."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import WireError
from proxy.wire.frames import MOST_AT_ONCE, FrameBuffer, FramingError
from proxy.wire.opcodes import HEADER, MAX_MESSAGE_SIZE
from tests.build import frame, recorded
from tests.malformed import FRAMING

frames = st.binary(max_size=60).map(lambda payload: frame(2013, payload))
PING = frame(2013, b"payload")


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at every one of ``cuts`` (taken modulo its length)."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(places)]


def fed(chunks: list[bytes]) -> tuple[list[bytes], str, FrameBuffer]:
    """The frames of a stream, what was wrong with it, and the buffer afterwards."""
    buffer = FrameBuffer()
    whole: list[bytes] = []
    for chunk in chunks:
        try:
            whole += buffer.feed(chunk)
        except FramingError as error:
            return whole + error.frames, str(error), buffer
    return whole, "", buffer


@given(st.lists(frames, max_size=8), st.binary(max_size=3), st.lists(st.integers(0, 1000)))
def test_any_split_gives_the_same_frames(stream, rest, cuts):
    whole, problem, buffer = fed(pieces(b"".join(stream) + rest, cuts))
    assert whole == stream
    assert not problem
    assert buffer.buffered == len(rest)
    assert buffer.declared == 0


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000)))
def test_any_split_of_arbitrary_bytes_gives_the_same_frames_and_the_same_end(data, cuts):
    whole, problem, buffer = fed(pieces(data, cuts))
    expected, expected_problem, _ = fed([data])
    assert (whole, problem) == (expected, expected_problem)
    if not problem:
        assert b"".join(whole) + buffer.take() == data


@given(st.integers(1, 60))
def test_the_recorded_frames_survive_a_split_into_equal_pieces(size):
    stream = [data for _, data in list(recorded())[:40]]
    data = b"".join(stream)
    assert fed([data[at : at + size] for at in range(0, len(data), size)])[0] == stream


def test_one_message_in_one_read_is_not_copied():
    assert FrameBuffer().feed(PING)[0] is PING


def test_frames_are_bytes_whatever_they_are_cut_from():
    assert [type(whole) for whole in FrameBuffer().feed(PING + PING)] == [bytes, bytes]


@pytest.mark.parametrize("malformed", FRAMING, ids=lambda m: m.name)
@pytest.mark.parametrize("split", [1, 3, 4, 16, 1000])
def test_a_length_out_of_range_is_refused_as_soon_as_it_is_there(malformed, split):
    data = malformed.frame
    buffer = FrameBuffer()
    last = (3 // split) * split  # where the piece begins that completes the length
    for at in range(0, last, split):
        assert buffer.feed(data[at : at + split]) == []
    with pytest.raises(WireError, match="out of range"):
        buffer.feed(data[last : last + split])


@pytest.mark.parametrize("malformed", FRAMING, ids=lambda m: m.name)
def test_what_was_whole_before_a_bad_length_is_not_lost(malformed):
    with pytest.raises(FramingError) as caught:
        FrameBuffer().feed(PING + PING + malformed.frame)
    assert caught.value.frames == [PING, PING]


def test_the_limit_is_the_servers():
    buffer = FrameBuffer()
    assert buffer.feed(HEADER.pack(48_000_000, 1, 0, 2013)) == []
    assert buffer.declared == 48_000_000
    with pytest.raises(WireError):
        FrameBuffer().feed(HEADER.pack(48_000_001, 1, 0, 2013))


def test_the_largest_message_arrives_whole_in_one_read_or_many():
    largest = HEADER.pack(MAX_MESSAGE_SIZE, 1, 0, 2013) + bytes(MAX_MESSAGE_SIZE - 16)
    assert FrameBuffer().feed(largest) == [largest]
    buffer = FrameBuffer()
    for at in range(0, MAX_MESSAGE_SIZE - 65536, 65536):
        assert buffer.feed(largest[at : at + 65536]) == []
    assert buffer.feed(largest[at + 65536 :]) == [largest]
    assert buffer.buffered == 0


@pytest.mark.parametrize("chunks", [[PING], [PING[:10], PING[10:]]])
def test_a_limit_of_its_own_holds_for_both_ways_to_a_frame(chunks):
    assert fed_within(len(PING), chunks) == [PING]
    with pytest.raises(WireError, match="out of range"):
        fed_within(len(PING) - 1, chunks)


def fed_within(limit: int, chunks: list[bytes]) -> list[bytes]:
    buffer = FrameBuffer(max_length=limit)
    return [whole for chunk in chunks for whole in buffer.feed(chunk)]


def test_an_unfinished_frame_can_be_looked_at_and_taken_over():
    long = frame(2013, bytes(range(200)))
    buffer = FrameBuffer()
    assert buffer.feed(PING + long[:100]) == [PING]
    assert (buffer.buffered, buffer.declared) == (100, len(long))
    assert buffer.peek() == long[:64]
    assert buffer.take() == long[:100]
    assert (buffer.buffered, buffer.declared, buffer.peek()) == (0, 0, b"")
    assert buffer.feed(PING) == [PING]


def test_nothing_is_nothing():
    buffer = FrameBuffer()
    assert buffer.feed(b"") == []
    assert buffer.feed(PING[:4]) == []
    assert buffer.feed(b"") == []
    assert buffer.feed(PING[4:]) == [PING]


def test_many_frames_of_one_read_come_some_at_a_time():
    one = frame(2005, b"")
    buffer = FrameBuffer()
    found = [buffer.feed(one * (2 * MOST_AT_ONCE) + one[:5])]
    while buffer.more:
        found.append(buffer.feed(b""))
    assert [len(some) for some in found] == [MOST_AT_ONCE, MOST_AT_ONCE]
    assert buffer.feed(one[5:]) == [one]
    assert buffer.buffered == 0
