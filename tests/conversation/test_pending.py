"""Which replies say that another one follows, by flags or by a cursor."""

from __future__ import annotations

import pytest

from proxy.conversation.pending import Pending
from proxy.errors import WireError
from proxy.wire.opcodes import (
    CHECKSUM_PRESENT,
    HEADER,
    HEADER_SIZE,
    MORE_TO_COME,
    OP_COMMAND_REPLY,
    OP_COMPRESSED,
    OP_MSG,
    OP_REPLY,
)
from tests.build import frame, op_reply, reply

OK = {"ok": 1.0}


def goes_on(pending: Pending, message: bytes) -> bool:
    return pending.goes_on(message, 501, HEADER.unpack_from(message)[3])


@pytest.mark.parametrize(
    ("message", "exhaust", "follows"),
    [
        (reply(OK, 1), False, False),
        (reply(OK, 1), True, False),
        (reply(OK, 1, flags=CHECKSUM_PRESENT), True, False),
        # The flag is the server's word, whatever was asked for.
        (reply(OK, 1, flags=MORE_TO_COME), False, True),
        (reply(OK, 1, flags=MORE_TO_COME), True, True),
        # A cursor goes on by itself only where the query asked for that.
        (op_reply(OK, response_to=1, cursor_id=9), False, False),
        (op_reply(OK, response_to=1, cursor_id=9), True, True),
        (op_reply(OK, response_to=1, cursor_id=-9), True, True),
        (op_reply(OK, response_to=1), True, False),
        (frame(OP_COMMAND_REPLY, b"\xff" * 20), True, False),
        (frame(OP_COMPRESSED, b"\xff" * 20), True, False),
    ],
)
def test_a_reply_is_the_last_one_or_not(message: bytes, exhaust: bool, follows: bool) -> None:
    for start in (message, message[: HEADER_SIZE + 20]):
        pending = Pending(1, "find", 0.0, exhaust=exhaust)
        assert goes_on(pending, start) is follows
        # Each reply of a stream answers the one before it.
        assert pending.expected == (501 if follows else 1)


@pytest.mark.parametrize(
    ("opcode", "needs"),
    [(OP_MSG, 4), (OP_REPLY, 20), (OP_COMMAND_REPLY, 0), (OP_COMPRESSED, 0)],
)
def test_a_reply_without_room_for_its_flags_is_none(opcode: int, needs: int) -> None:
    assert not goes_on(Pending(1, "find", 0.0), frame(opcode, bytes(needs)))
    for size in range(needs):
        with pytest.raises(WireError, match="room for its flags"):
            goes_on(Pending(1, "find", 0.0), frame(opcode, bytes(size)))
