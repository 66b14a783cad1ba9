"""Unacknowledged writes, which come many at a time and mostly differ in their documents alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.wire.frames import MOST_AT_ONCE
from proxy.wire.opcodes import INT32, MORE_TO_COME
from proxy.wire.sections import MSG_BODY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.wire.messages import Request

_int32 = INT32.unpack_from

#: Where a message's opcode stands. Its length and its numbers are in front of that.
_OPCODE: Final = 12

#: Commands that mean cursors, each by its number.
_OF_CURSORS: Final = frozenset(("getMore", "killCursors"))


class Burst:
    """All messages with the very command of one that was read, and one document sequence.

    They come out of :func:`proxy.wire.messages.read_request` alike but for the documents, of which
    it says nothing: outside a session, with a command that has no answer.
    """

    __slots__ = ("_at", "_head", "_least", "_name", "command")

    def __init__(self, request: Request, at: int) -> None:
        message = request.message
        self.command = request.command
        #: Where the length of the sequence stands: in front of it all is the same, and so is the
        #: name behind it.
        self._at = at
        self._head = message[_OPCODE:at]
        self._name = request.sequences[0] + b"\0"
        self._least = at + 4 + len(self._name)

    def takes(self, frame: bytes) -> bool:
        """Whether the message is one of these."""
        return self.count((frame,)) == 1

    def count(self, frames: Iterable[bytes]) -> int:
        """How many of the first messages are."""
        at, head, name, behind = self._at, self._head, self._name, self._at + 4
        count = 0
        for frame in frames:
            if not (
                frame.startswith(head, _OPCODE)
                and frame.startswith(name, behind)
                and len(frame) - at == _int32(frame, at)[0]
            ):
                break
            count += 1
        return count

    def run(self, data: bytes, most: int) -> tuple[int, int]:
        """Where the messages end that are these and stand whole at the beginning of ``data``, and
        how many they are: no more than :data:`MOST_AT_ONCE`, each of ``most`` bytes at the most.
        """
        at, head, name, least = self._at, self._head, self._name, self._least
        start, end = 0, len(data)
        for count in range(MOST_AT_ONCE):
            if end - start < least:
                return start, count
            size = _int32(data, start)[0]
            stop = start + size
            if (
                not least <= size <= most
                or stop > end
                or size - at != _int32(data, start + at)[0]
                or not data.startswith(head, start + _OPCODE)
                or not data.startswith(name, start + at + 4)
            ):
                return start, count
            start = stop
        return start, MOST_AT_ONCE


def burst_of(request: Request) -> Burst | None:
    """Those that are like ``request``, None where each has to be read."""
    if (
        request.flags != MORE_TO_COME
        or len(request.sequences) != 1
        or request.body != MSG_BODY
        or not request.layout.sessionless
        or request.frame is not request.message
        or request.command in _OF_CURSORS
    ):
        return None
    message = request.message
    at = MSG_BODY + _int32(message, MSG_BODY)[0] + 1
    if message[at - 1] != 1 or len(message) - at != _int32(message, at)[0]:
        return None
    return Burst(request, at)
