"""Unacknowledged writes that are known by the one in front of them."""

from __future__ import annotations

from collections import deque
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.bursts import Burst, burst_of
from proxy.wire.frames import MOST_AT_ONCE, FrameBuffer, FramingError
from proxy.wire.messages import read_request
from proxy.wire.opcodes import CHECKSUM_PRESENT, HEADER, MORE_TO_COME, OP_MSG
from tests.talk import Watching, converse

INSERT = {"insert": "things", "writeConcern": {"w": 0}, "$db": "db"}


def body(document: dict[str, Any]) -> bytes:
    return b"\0" + bson.encode(document)


def documents(*values: int, name: str = "documents") -> bytes:
    inner = name.encode() + b"\0" + b"".join(bson.encode({"_id": value}) for value in values)
    return b"\1" + (len(inner) + 4).to_bytes(4, "little") + inner


def message(*sections: bytes, flags: int = MORE_TO_COME, number: int = 1) -> bytes:
    payload = flags.to_bytes(4, "little") + b"".join(sections)
    return HEADER.pack(HEADER.size + len(payload), number, 0, OP_MSG) + payload


WRITE = message(body(INSERT), documents(1))
PING = message(body({"ping": 1, "$db": "admin"}), flags=0, number=5)


def of(frame: bytes) -> Burst | None:
    return burst_of(read_request(frame))


def test_other_documents_in_the_same_command_are_taken():
    burst = of(WRITE)
    assert burst is not None
    assert burst.command == "insert"
    for values in ((2,), (), tuple(range(500))):
        assert burst.takes(message(body(INSERT), documents(*values), number=9))


TOKEN = b"\2token\0"


@pytest.mark.parametrize(
    "frame",
    [
        message(body(INSERT), documents(1), flags=0),
        message(body(INSERT), documents(1), flags=MORE_TO_COME | CHECKSUM_PRESENT) + bytes(4),
        message(body(INSERT), documents(1), flags=MORE_TO_COME | 1 << 20),
        message(body(INSERT)),
        message(documents(1), body(INSERT)),
        message(body(INSERT), documents(1), documents(1, name="more")),
        message(body(INSERT), documents(1), TOKEN),
        message(body(INSERT), TOKEN, documents(1)),
        message(body(INSERT), documents(1, name="updates")),
        message(body(INSERT), documents(1, name="documents.lsid")),
        message(body(INSERT), documents(1, name="lsid")),
        message(body({**INSERT, "insert": "thingz"}), documents(1)),
        message(body({**INSERT, "lsid": {"id": bson.Binary(bytes(16), 4)}}), documents(1)),
        message(body({"insert": "things"}), documents(1)),
        message(body({"ping": 1, "$db": "admin"}), flags=0),
        WRITE + b"\0",
        WRITE[:-1],
        WRITE[:20],
        HEADER.pack(16, 1, 0, OP_MSG),
        HEADER.pack(len(WRITE), 1, 0, 2012) + WRITE[16:],
    ],
)
def test_anything_else_is_not(frame):
    burst = of(WRITE)
    assert burst is not None
    assert not burst.takes(frame)


@pytest.mark.parametrize(
    "frame",
    [
        message(body(INSERT), documents(1), flags=0),
        message(body(INSERT)),
        message(documents(1), body(INSERT)),
        message(body(INSERT), documents(1), TOKEN),
        message(body(INSERT), TOKEN, documents(1)),
        message(body(INSERT), documents(1), documents(1, name="more")),
        message(body({"getMore": 5, "$db": "db"}), documents(1)),
        message(body({"killCursors": "c", "cursors": [], "$db": "db"}), documents(1)),
        message(body({**INSERT, "lsid": {"id": bson.Binary(bytes(16), 4)}}), documents(1)),
        message(b"\0" + b"\5\0\0\0\0", documents(1)),
        message(body(INSERT), documents(1), flags=MORE_TO_COME | CHECKSUM_PRESENT),
        HEADER.pack(len(WRITE), 1, 0, 2001) + WRITE[16:],
    ],
)
def test_after_others_each_is_read(frame):
    assert of(frame) is None


@given(st.data())
def test_what_is_taken_would_be_read_alike(data):
    frame = bytearray(message(body(INSERT), documents(1, 2)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(frame) - 1))
        if data.draw(st.booleans()):
            frame[at] = data.draw(st.integers(0, 255))
        else:
            frame[at:at] = data.draw(st.binary(max_size=8))
    burst = of(WRITE)
    assert burst is not None
    if burst.takes(bytes(frame)):
        read, known = read_request(bytes(frame)), read_request(WRITE)
        assert read.command == known.command
        assert read.layout == known.layout
        assert read.sequences == known.sequences
        assert read.body_bytes() == known.body_bytes()
        assert read.flags == known.flags
        assert not (read.problem)
        assert not (read.overlong)
        assert not (read.expects_reply)


MIXED = st.lists(
    st.sampled_from(
        [
            WRITE,
            message(body(INSERT), documents(*range(20))),
            message(body({**INSERT, "insert": "others"}), documents(3)),
            message(body({**INSERT, "lsid": {"id": bson.Binary(bytes(16), 4)}}), documents(4)),
            PING,
        ]
    ),
    max_size=30,
)


@given(st.data())
def test_a_run_ends_where_one_is_none_of_them(data):
    burst = of(WRITE)
    assert burst is not None
    stream = bytearray(b"".join(data.draw(MIXED)))
    for _ in range(data.draw(st.integers(0, 2))):
        if stream:
            stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    stream = stream[: data.draw(st.integers(0, len(stream)))]
    most = data.draw(st.sampled_from([48_000_000, 200]))
    frames: list[bytes] = []
    try:
        frames = FrameBuffer(most).feed(bytes(stream))
    except FramingError as error:
        frames = error.frames
    count = burst.count(frames)
    assert burst.run(bytes(stream), most) == (len(b"".join(frames[:count])), count)


def test_a_run_is_no_longer_than_what_is_cut_in_one_go():
    burst = of(WRITE)
    assert burst is not None
    most = len(WRITE)
    assert burst.run(WRITE * (MOST_AT_ONCE + 5), most) == (most * MOST_AT_ONCE, MOST_AT_ONCE)
    assert burst.run(WRITE, most - 1) == (0, 0)


@given(MIXED)
def test_it_makes_no_difference_to_anybody(frames):
    one_by_one, together = Watching(), Watching()
    plain, quick = converse(one_by_one), converse(together)
    for frame in frames:
        plain.on_request(frame, 1.0)
    left = deque(frames)
    while left:
        end = quick.repeat_run(b"".join(left), 48_000_000)
        while end:
            end -= len(left.popleft())
        if left:
            quick.on_request(left.popleft(), 1.0)
            quick.repeat(left)
    assert b"".join(quick.to_upstream) == b"".join(plain.to_upstream) == b"".join(frames)
    assert quick.requests == plain.requests == len(frames)
    assert together.seen == one_by_one.seen
    assert len(quick.desk.store) == len(plain.desk.store)
    assert quick.in_flight == plain.in_flight
    assert quick.is_behind() == plain.is_behind()


def test_without_one_nothing_is_taken():
    conversation = converse(Watching())
    frames = deque([WRITE])
    conversation.repeat(frames)
    assert list(frames) == [WRITE]
    assert conversation.repeat_run(WRITE, len(WRITE)) == 0


def test_what_ends_takes_none_either():
    conversation = converse(Watching())
    conversation.on_request(WRITE, 1.0)
    conversation.on_request(PING, 1.0)
    assert conversation.repeat_run(WRITE * 2 + WRITE[:9], len(WRITE)) == 2 * len(WRITE)
    assert conversation.is_behind() is True
    conversation.end("client message", "wrong")
    frames = deque([WRITE])
    conversation.repeat(frames)
    assert list(frames) == [WRITE]
    assert conversation.repeat_run(WRITE, len(WRITE)) == 0
