"""What upstream sends to one client connection: each reply paired with the request it answers,
passed on to the client or handed to whoever asked, whole or while it is still arriving.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from proxy.conversation.finished import Over
from proxy.conversation.hello import AUTHENTICATION_COMMANDS, HELLO_COMMANDS
from proxy.conversation.passing import PASS_ABOVE, Passing
from proxy.errors import WireError
from proxy.session.records import Operation
from proxy.session.refusals import INTERRUPTED
from proxy.wire.compression import declared_size, inflate_start
from proxy.wire.edges import verdict
from proxy.wire.frames import FrameBuffer, FramingError
from proxy.wire.opcodes import HEADER, OP_COMPRESSED
from proxy.wire.replies import Reply, error_document, plain_reply, read_reply, reply_frame
from proxy.wire.requestids import RequestIds

if TYPE_CHECKING:
    from proxy.conversation.desk import Desk
    from proxy.conversation.exchange import Observer
    from proxy.conversation.pending import Pending
    from proxy.wire.messages import Request

    #: Whether others should have their turn now.
    Enough = Callable[[], bool]

#: A compressed reply that inflates to more than this is not looked into for its cursor, as one
#: that is not compressed is not either.
_INFLATE_UP_TO: Final = PASS_ABOVE

#: The longest reply to a hello or to a login, of which real servers' have a few KiB, and the
#: longest that a compressed one may be that has to be looked into: what the proxy asks itself is
#: not compressed, and what upstream must refuse has a short answer.
_LONGEST_HELD: Final = 1 << 20

#: Bytes of a long reply that every connection may hold.
_LITTLE: Final = 16_384

_header = HEADER.unpack_from

#: Ids of what the proxy itself asks and answers, on whichever connection.
own_request_ids: Final = RequestIds(0x4D530000)


def _never() -> bool:
    return False


class Replies:
    """The half of a :class:`~proxy.conversation.conversation.Conversation` that upstream feeds.

    A base and no object of its own: what comes from both sides goes into the same two lists.
    """

    __slots__ = (
        "_arrived",
        "_broken",
        "_passing",
        "_pending",
        "_replies",
        "answers",
        "blocked",
        "close",
        "desk",
        "ending",
        "meter",
        "observer",
        "streaming",
        "to_client",
        "work",
    )

    def __init__(self, desk: Desk, observer: Observer) -> None:
        self.desk = desk
        self.observer = observer
        self.meter = observer.meter
        self._pending: deque[Pending] = deque()
        self._replies = FrameBuffer()
        #: Replies that were not looked at yet, and what is wrong with the bytes behind them.
        self._arrived: deque[bytes] = deque()
        self._broken = ""
        #: What takes long and is done some at a time (:meth:`go_on`), each step well below a
        #: millisecond. It sees to it itself that :attr:`blocked` is set meanwhile.
        self.work: Iterator[None] | None = None
        #: The long reply to the first of what is pending that goes through at the moment.
        self._passing: Passing | None = None
        #: Bytes to send, in order. The relay takes them after every call.
        self.to_client: list[bytes] = []
        #: What comes next depends on an answer that is due: no request is handed over meanwhile.
        self.blocked = False
        #: Upstream is inside an exhaust stream: it sends unasked and reads nothing.
        self.streaming = False
        #: Why no further request is read: the connection closes when all replies are out.
        self.ending = ""
        #: Why both connections close as soon as the bytes to send are sent; "" to go on.
        self.close = ""
        #: Bytes of refusals that wait until what was asked before them is answered.
        self.answers = 0

    def on_upstream(self, data: bytes, now: float, enough: Enough = _never) -> None:
        """Bytes from upstream, cut anywhere.

        ``enough`` is asked while there is more to do; where it says True, :meth:`go_on` has to do
        the rest, before more bytes are handed over.
        """
        if self.close:
            return
        if self._passing is not None:
            data = self._pass_on(self._passing, data, now)
            if not data:
                return
        arrived, replies = self._arrived, self._replies
        try:
            frames = replies.feed(data)
            if len(frames) == 1 and not arrived and self.work is None:
                # As most often. What may be left to do is seen to below.
                self._on_reply(frames[0], now)
            else:
                arrived.extend(frames)
        except FramingError as broken:
            arrived.extend(broken.frames)
            self._broken = str(broken)
        except WireError as error:
            self.upstream_broke("upstream message", str(error))
        if arrived or self.work is not None or replies.declared or self._broken:
            self.go_on(now, enough)

    def _cut(self, data: bytes) -> None:
        try:
            self._arrived.extend(self._replies.feed(data))
        except FramingError as broken:
            self._arrived.extend(broken.frames)
            self._broken = str(broken)

    @property
    def at_rest(self) -> bool:
        """Whether nothing of a reply is held here: there is nothing that is :attr:`unfinished`,
        and nothing that is being collected."""
        return self.work is None and not self._arrived and not self._replies.buffered

    @property
    def unfinished(self) -> bool:
        """Whether :meth:`go_on` has something to do."""
        return bool(self.work is not None or self._arrived or self._replies.more) and not self.close

    def go_on(self, now: float, enough: Enough = _never) -> None:
        """Do what was left to do, until it is ``enough``."""
        arrived = self._arrived
        try:
            while not self.close:
                if self.work is not None:
                    work = self.work
                    for _ in work:
                        if enough():
                            return
                    if self.work is work:
                        self.work = None
                        self._settle(now)
                elif arrived:
                    self._on_reply(arrived.popleft(), now)
                elif self._replies.more:
                    self._cut(b"")
                    continue
                else:
                    break
                if self.unfinished and enough():
                    return
            if self.close:
                return
            if self._broken:
                self.upstream_broke("upstream framing", self._broken)
            elif self._replies.declared > PASS_ABOVE:
                self._begin_passing()
        except WireError as error:
            self.upstream_broke("upstream message", str(error))

    def upstream_broke(self, kind: str, problem: str) -> None:
        """Upstream cannot be followed any more: close, so that nothing is taken for another."""
        self.meter.violation(kind)
        self.close = f"{kind}: {problem}"

    def _due(self, response_to: int) -> Pending | None:
        """The request that a reply with this responseTo answers; None is a violation."""
        if not self._pending:
            self.upstream_broke("upstream pairing", "a reply that nobody asked for")
            return None
        pending = self._pending[0]
        if response_to not in (pending.expected, pending.asked):
            self.upstream_broke("upstream pairing", "a reply to another request")
            return None
        return pending

    def _begin_passing(self) -> None:
        """Pass on the long reply that has begun, if nobody has to see it whole."""
        pending = self._pending[0] if self._pending else None
        if pending is None or self._replies.buffered < 64:
            return
        if pending.handler is not None:
            self._collects(pending, self._replies.declared)
            return
        head = self._replies.peek()
        _, request_id, response_to, opcode = _header(head)
        if opcode == OP_COMPRESSED and pending.exhaust:
            return
        if self._due(response_to) is None:
            return
        self.streaming = pending.goes_on(head, request_id, opcode)
        length = self._replies.declared
        begun = self._replies.take()
        self._passing = Passing(begun, length)
        self.to_client.append(begun)

    def _collects(self, pending: Pending, length: int, inflates: bool = False) -> bool:
        """Whether a reply of ``length`` bytes is held until it is whole; else both sides close."""
        greeting = pending.command in HELLO_COMMANDS or pending.command in AUTHENTICATION_COMMANDS
        if length <= _LONGEST_HELD or not (greeting or inflates):
            return True
        self.upstream_broke("upstream message", f"{length} bytes, which no such reply has")
        return False

    @property
    def collecting(self) -> int:
        """Bytes held of a long reply that is not passed on while it arrives."""
        replies = self._replies
        if replies.declared <= PASS_ABOVE or replies.buffered < _LITTLE:
            return 0
        return replies.buffered

    def _pass_on(self, passing: Passing, data: bytes, now: float) -> bytes:
        """Send the client what of ``data`` is the long reply's; the rest is returned."""
        passed = passing.take(data)
        self.to_client.append(passed)
        if passing.left:
            return b""
        pending, edges = self._pending[0], passing.edges()
        if pending.tracked is not None:
            self.desk.tracking.replied_at_length(
                pending.tracked, edges, now, last=not self.streaming
            )
        self._passing = None
        # Compressed ones are not looked into for this.
        said = verdict(edges) if pending.command and edges is not None else None
        ok = said is None or said.ok
        if said is not None and not ok:
            self.meter.failed(said.code, "upstream")
        self._finish(pending, now, ok=ok, size=passing.length)
        return data[len(passed) :]

    def _on_reply(self, frame: bytes, now: float) -> None:
        _, request_id, response_to, opcode = _header(frame)
        queue = self._pending
        if queue and response_to == queue[0].expected:
            pending = queue[0]
        elif (found := self._due(response_to)) is not None:
            pending = found
        else:
            return
        if pending.handler is not None:
            if pending.known is not None and pending.known(frame):
                self._pending.popleft()
                self._settle(now)
                return
            inflates = opcode == OP_COMPRESSED
            if not self._collects(
                pending, declared_size(frame) if inflates else len(frame), inflates
            ):
                return
            reply = read_reply(frame)
            self.streaming = pending.goes_on_after(reply, request_id)
            if not self.streaming:
                self._pending.popleft()
            if pending.command and not reply.ok():
                self.meter.failed(reply.integer(b"code"), "upstream")
            if pending.tracked is not None:
                self.desk.tracking.replied(pending.tracked, reply, now, last=not self.streaming)
            if pending.told is not None:
                pending.told.answered = now
            pending.handler(pending, reply, now)
            self._settle(now)
            return
        known = self._look_into(pending, frame, opcode)
        if known is not None:
            # Nearly no reply is one of several.
            more = known.more_to_come or pending.exhaust
            self.streaming = more and pending.goes_on_after(known, request_id)
        elif opcode == OP_COMPRESSED and pending.exhaust:
            start = inflate_start(frame)
            self.streaming = pending.goes_on(start, request_id, _header(start)[3])
        else:
            self.streaming = pending.goes_on(frame, request_id, opcode)
        self.to_client.append(frame)
        tracked = pending.tracked
        if tracked is not None:
            tracking, last = self.desk.tracking, not self.streaming
            if known is not None:
                tracking.replied(tracked, known, now, last=last)
            else:
                tracking.replied_unread(tracked, frame, now, last=last)
        # Legacy queries have replies without ok.
        ok = known is None or known.layout.ok or not pending.command
        if not ok and known is not None:
            self.meter.failed(known.integer(b"code"), "upstream")
        # As :meth:`_finish`.
        if not self.streaming:
            queue.popleft()
        if pending.asked is None:
            seconds = now - pending.started
            told = self.meter.replied(pending.command, seconds, ok, pending.usage, len(frame))
        else:
            told = pending.counted(self.meter, now, ok, len(frame))
        if told:
            self._tell(pending, known, now, ok)
        if queue or self.ending:
            self._settle(now)

    def _look_into(self, pending: Pending, frame: bytes, opcode: int) -> Reply | None:
        """A plain reply's fields, None where they cannot or need not be read."""
        if opcode != OP_COMPRESSED:
            try:
                return read_reply(frame)
            except WireError:
                return None
        # Compressed ones are inflated only for the sessions' sake, and not at any price.
        if pending.tracked is not None and declared_size(frame) <= _INFLATE_UP_TO:
            return read_reply(frame)
        return None

    def respond(
        self, request: Request, document: bytes, ok: bool, started: float, now: float
    ) -> None:
        """For handlers: answer a request of the client's with a document (BSON) of one's own."""
        if request.expects_reply:
            self.to_client.append(reply_frame(request, own_request_ids.next(), document))
            self.meter.replied(request.command, now - started, ok)

    def release(self, pending: Pending, frame: bytes, ok: bool, now: float) -> None:
        """For handlers: send the client the reply to its request."""
        self.to_client.append(frame)
        if pending.counted(self.meter, now, ok, len(frame)):
            self._tell(pending, None, now, ok)

    @property
    def front(self) -> Pending | None:
        """The client's request whose reply is due next; None for what is part of a handshake."""
        first = self._pending[0] if self._pending else None
        if first is None or not first.command or first.answer or self.close:
            return None
        greets = first.command in HELLO_COMMANDS or first.command in AUTHENTICATION_COMMANDS
        return None if greets else first

    def interrupt(self, request_id: int, now: float, why: str) -> bool:
        """End the client's request that is in flight here with 11601, and the connection with it.

        The server's own interruption cannot be had, so upstream's connection has to go. False
        where another one is in front, as this one waits for its turn or is over.
        """
        first = self.front
        if first is None or first.request_id != request_id:
            return False
        if self._passing is None and not self.streaming:
            self.meter.failed(INTERRUPTED.code, "proxy")
            document = error_document(INTERRUPTED)
            frame = plain_reply(first.opcode, own_request_ids.next(), first.expected, document)
            self.release(first, frame, False, now)
        self.close = f"interrupted: {why}"
        return True

    def _finish(self, pending: Pending, now: float, ok: bool, size: int) -> None:
        """The plain reply at the front is out, and so is its request unless it goes on."""
        if not self.streaming:
            self._pending.popleft()
        if pending.counted(self.meter, now, ok, size):
            self._tell(pending, None, now, ok)
        if self._pending or self.ending:
            self._settle(now)

    def _tell(self, pending: Pending, reply: Reply | None, now: float, ok: bool | None) -> None:
        """Tell of a request that was slow or has a traceparent, when it is over."""
        if pending.told is None or self.streaming:
            return
        tracked = pending.tracked
        session = tracked.session.key if isinstance(tracked, Operation) else None
        answered = None if pending.answer else pending.told.answered or now
        over = Over(session, pending.started, answered, now, ok)
        finished = pending.told.finished(pending.command, over, reply)
        if finished is None:
            return
        if finished.seconds >= self.meter.slow_seconds:
            self.observer.slow(finished, now)
        if finished.parent:
            self.observer.traced(finished)

    def _settle(self, now: float) -> None:
        """Send the answers made here whose turn has come."""
        queue = self._pending
        while queue and queue[0].answer:
            pending = queue.popleft()
            self.answers -= len(pending.answer)
            self.release(pending, pending.answer, False, now)
        if self.ending and not queue and not self.blocked:
            self.close = self.ending

    def do(self, steps: Iterator[None]) -> None:
        """Do something that may take long, on behalf of a reply: at once if it takes no steps,
        else as :attr:`work`. Nothing may come behind it there."""
        for _ in steps:
            self.work = steps
            return
