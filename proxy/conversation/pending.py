"""A request whose reply is due, and whether that reply is the last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.errors import WireError
from proxy.wire.opcodes import (
    HEADER_SIZE,
    INT64,
    MORE_TO_COME,
    OP_MSG,
    OP_REPLY,
    UINT32,
)

if TYPE_CHECKING:
    from proxy.conversation.exchange import Meter
    from proxy.conversation.finished import Asked
    from proxy.conversation.tracking import Tracked
    from proxy.counting import Usage
    from proxy.wire.replies import Reply

    ReplyHandler = Callable[["Pending", Reply, float], None]

#: How much of a reply has to be there to see whether another one follows.
_SMALLEST_REPLY: Final = {OP_MSG: HEADER_SIZE + 4, OP_REPLY: HEADER_SIZE + 20}

_uint32 = UINT32.unpack_from
_int64 = INT64.unpack_from


@dataclass(slots=True)
class Pending:
    """A request whose reply is due. ``expected`` is the responseTo its next reply must carry.

    In a stream of replies, ``asked`` is the request itself: some servers answer that each time.
    ``opcode`` is the request's; ``exhaust`` says that it allows more than one reply. Without a
    ``handler`` the reply is passed on; with one it is collected whole and the handler decides.
    Where ``known`` is True of a reply's frame, it tells the handler nothing new, and nobody reads
    it. ``tracked`` is what the sessions have to hear of the reply. ``answer`` is set for what is
    answered here and waits its turn. ``told`` is set where somebody may have to be told of the
    request when it is over.
    ``usage`` is where it is counted beside all others. ``streams`` is set when the first reply of a
    stream is counted.
    """

    expected: int
    command: str
    started: float
    opcode: int = OP_MSG
    exhaust: bool = False
    handler: ReplyHandler | None = None
    tracked: Tracked | None = None
    answer: bytes = b""
    asked: int | None = None
    known: Callable[[bytes], bool] | None = None
    told: Asked | None = None
    usage: Usage | None = None
    streams: bool = False

    @property
    def request_id(self) -> int:
        """The ``requestID`` of the request itself."""
        return self.expected if self.asked is None else self.asked

    def goes_on(self, message: bytes, request_id: int, opcode: int) -> bool:
        """Whether another reply follows this one, of which only the start is needed.

        That one is expected then: each reply of a stream answers the one before it on MongoDB.

        Raises:
            WireError: not even the start is there.
        """
        if len(message) < _SMALLEST_REPLY.get(opcode, HEADER_SIZE):
            raise WireError("a reply without room for its flags")
        if opcode == OP_MSG:
            more = bool(_uint32(message, HEADER_SIZE)[0] & MORE_TO_COME)
        else:
            more = opcode == OP_REPLY and self.exhaust and _int64(message, HEADER_SIZE + 4)[0] != 0
        if more:
            self._expect(request_id)
        return more

    def goes_on_after(self, reply: Reply, request_id: int) -> bool:
        """As :meth:`goes_on`, of a reply that was read."""
        more = reply.more_to_come or (self.exhaust and reply.cursor_id != 0)
        if more:
            self._expect(request_id)
        return more

    def counted(self, meter: Meter, now: float, ok: bool, size: int) -> bool:
        """Have a reply of so many bytes counted; whether the request's end is to be told.

        Of a stream the first reply was asked for, and the others come when there is something.
        """
        seconds = now - self.started
        if self.streams:
            return meter.replied_again(self.command, seconds, ok, self.usage, size)
        self.streams = self.asked is not None
        return meter.replied(self.command, seconds, ok, self.usage, size)

    def _expect(self, reply: int) -> None:
        if self.asked is None:
            self.asked = self.expected
        self.expected = reply
