"""One client connection and its upstream connection as a state machine: frames in, bytes out.

The relay feeds what both sides sent and empties ``to_upstream`` and ``to_client`` after each
call. Requests and replies are paired first in, first out, as the server answers them, and
verified by ``responseTo``. What the proxy asks on its own account waits in the same queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import bson

from proxy.conversation.hello import AUTHENTICATION_COMMANDS, HELLO_COMMANDS, ClientMetadata
from proxy.conversation.passing import PASS_ABOVE, Passing
from proxy.conversation.pending import Pending
from proxy.conversation.tracking import Doubted
from proxy.errors import CommandError, WireError
from proxy.session.dialect import said_by
from proxy.session.records import Operation
from proxy.session.refusals import INTERRUPTED
from proxy.session.stable_api import versioned
from proxy.wire.bursts import burst_of
from proxy.wire.compression import declared_size, inflate_start
from proxy.wire.frames import FrameBuffer, FramingError
from proxy.wire.messages import Request, read_request
from proxy.wire.opcodes import (
    COMPRESSED,
    EXHAUST_ALLOWED,
    HEADER,
    OP_COMPRESSED,
    OP_MSG,
    OP_QUERY,
    QUERY_EXHAUST,
)
from proxy.wire.replies import (
    Reply,
    command_frame,
    error_document,
    plain_reply,
    read_reply,
    reply_frame,
)
from proxy.wire.requestids import RequestIds

if TYPE_CHECKING:
    from proxy.conversation.desk import Desk
    from proxy.conversation.exchange import Handlers, Observer, Presentation
    from proxy.conversation.pending import ReplyHandler
    from proxy.conversation.tracking import Tracked
    from proxy.session.records import InFlight
    from proxy.wire.bursts import Burst

    RequestHandler = Callable[["Conversation", Request, float], None]

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


def _never() -> bool:
    return False


_own_request_ids = RequestIds(0x4D530000)


class Conversation:
    """Decides what happens with every frame of one client connection."""

    __slots__ = (
        "_arrived",
        "_broken",
        "_doubted",
        "_handlers",
        "_last_is_answered",
        "_passing",
        "_pending",
        "_replies",
        "answers",
        "blocked",
        "burst",
        "close",
        "desk",
        "ending",
        "hellos",
        "metadata",
        "meter",
        "observer",
        "presentation",
        "requests",
        "streaming",
        "takes_compressed",
        "to_client",
        "to_upstream",
        "versioned",
        "work",
    )

    def __init__(
        self,
        presentation: Presentation,
        observer: Observer,
        desk: Desk,
        handlers: Handlers,
    ) -> None:
        self._handlers = handlers.commands
        self._doubted = handlers.doubted
        self.desk = desk
        self.presentation = presentation
        #: Whether compressed requests are read: servers without compressors close where one comes.
        self.takes_compressed = not presentation.strip_compression
        self.observer = observer
        self.meter = observer.meter
        self._pending: deque[Pending] = deque()
        self._replies = FrameBuffer()
        #: Whether the last request that went upstream is among those.
        self._last_is_answered = False
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
        self.to_upstream: list[bytes] = []
        #: What comes next depends on an answer that is due: no request is handed over meanwhile.
        self.blocked = False
        #: Upstream is inside an exhaust stream: it sends unasked and reads nothing.
        self.streaming = False
        #: Why no further request is read: the connection closes when all replies are out.
        self.ending = ""
        #: Why both connections close as soon as the bytes to send are sent; "" to go on.
        self.close = ""
        #: What the client said of itself; None before its first hello.
        self.metadata: ClientMetadata | None = None
        self.requests = 0
        #: What the last request may be followed by that :meth:`repeat` takes.
        self.burst: Burst | None = None
        #: How many of them were a hello.
        self.hellos = 0
        #: What is asked here carries an API version, because the client's own commands do or
        #: because upstream demands it.
        self.versioned = False
        #: Bytes of refusals that wait until what was asked before them is answered.
        self.answers = 0

    @property
    def in_flight(self) -> int:
        """How many requests wait for a reply."""
        return len(self._pending)

    def is_behind(self) -> bool:
        """Whether the last request waits for upstream to answer another one first."""
        return self.blocked or len(self._pending) > self._last_is_answered

    def let_in(self) -> bool:
        """Whether upstream has let the client in, or lets everybody in."""
        return self.desk.let_in

    @property
    def command(self) -> str:
        """The command whose reply is due next; "" when idle."""
        return self._pending[0].command if self._pending else ""

    @property
    def idle(self) -> bool:
        """Nothing but a monitor's hello is under way, so closing now loses no work."""
        return self._passing is None and all(p.command in HELLO_COMMANDS for p in self._pending)

    # ------------------------------------------------------------------ from the client

    def on_request(self, frame: bytes, now: float, message: bytes | None = None) -> None:
        """One whole frame from the client; ``message`` is its inflated form if known."""
        if self.ending or self.close:
            return
        if not self.takes_compressed and frame[12:16] == COMPRESSED:
            self.end("client message", "compressed, which nobody agreed to")
            return
        try:
            request = read_request(frame, message)
        except WireError as error:
            self.end("client message", str(error))
            return
        self.requests += 1
        command = request.command
        self.meter.request(command)
        handler = self._handlers.get(command)
        if handler is not None:
            handler(self, request, now)
            return
        verdict = self.desk.admit(request, now)
        if isinstance(verdict, CommandError):
            self.refuse(request, verdict, now)
        elif isinstance(verdict, Doubted):
            self._doubted(self, request, verdict, now)
        else:
            self.forward(request, now, tracked=verdict)
            if verdict is None and not request.expects_reply:
                self.burst = burst_of(request)

    def repeat(self, frames: deque[bytes]) -> None:
        """Take those in front that say the same as the last request: they go upstream as it did."""
        burst, out = self.burst, self.to_upstream
        self.burst = None
        if burst is None:
            return
        before = len(out)
        while frames and burst.takes(frames[0]):
            out.append(frames.popleft())
        count = len(out) - before
        self.requests += count
        self.meter.request(burst.command, count)

    def on_garbage(self, problem: str) -> None:
        """The client's bytes cannot be framed any more."""
        self.end("client framing", problem)

    def end(self, kind: str, problem: str) -> None:
        """Answer what was asked before, then close: what a server does with a broken message."""
        self.meter.violation(kind)
        self.ending = f"{kind}: {problem}"
        if not self._pending:
            self.close = self.ending

    def forward(
        self,
        request: Request,
        now: float,
        handler: ReplyHandler | None = None,
        frame: bytes | None = None,
        tracked: Tracked | None = None,
    ) -> None:
        """Send a request upstream, as ``frame`` where it had to be changed."""
        self.to_upstream.append(request.frame if frame is None else frame)
        self._last_is_answered = request.expects_reply
        if request.expects_reply:
            opcode = request.opcode
            exhaust = bool(
                request.flags & EXHAUST_ALLOWED
                if opcode == OP_MSG
                else opcode == OP_QUERY and request.flags & QUERY_EXHAUST
            )
            self._pending.append(
                Pending(request.request_id, request.command, now, opcode, exhaust, handler, tracked)
            )

    def refuse(self, request: Request, error: CommandError, now: float) -> None:
        """Answer here instead of forwarding, in turn; no answer where none is expected."""
        if not request.expects_reply:
            return
        self.meter.failed(error.code, "proxy")
        said = said_by(error, self.desk.upstream_facts.wire_version)
        answer = reply_frame(request, _own_request_ids.next(), error_document(said))
        self.answers += len(answer)
        self._pending.append(Pending(0, request.command, now, answer=answer))
        self._settle(now)

    def ask(self, question: Mapping[str, Any] | bytes, handler: ReplyHandler, now: float) -> None:
        """Ask upstream something on the proxy's own account; ``handler`` gets the reply."""
        request_id = _own_request_ids.next()
        if self.versioned or self.desk.upstream_facts.needs_api_version:
            question = versioned(question if isinstance(question, bytes) else bson.encode(question))
        self.to_upstream.append(command_frame(request_id, question))
        self._pending.append(Pending(request_id, "", now, handler=handler))

    @property
    def quiet(self) -> bool:
        """Nothing is under way in either direction: upstream can be asked something."""
        return not (self._pending or self.blocked or self.ending or self.close)

    def ask_between(
        self, questions: Sequence[bytes], handler: Callable[[int, Reply, float], None], now: float
    ) -> None:
        """Ask upstream while :attr:`quiet`; ``handler`` gets each question's number and reply.

        The client's next request waits for the last answer.
        """
        self.blocked = True
        for number, question in enumerate(questions):
            last = number == len(questions) - 1
            self.ask(question, partial(self._between, handler, number, last), now)

    def _between(
        self,
        handler: Callable[[int, Reply, float], None],
        number: int,
        last: bool,
        _pending: Pending,
        reply: Reply,
        now: float,
    ) -> None:
        if last:
            self.blocked = False
        handler(number, reply, now)

    def interrupt(self, operation: InFlight, now: float) -> None:
        """End an operation that is in flight here with 11601, and the connection with it.

        The server's own interruption cannot be had, so upstream's connection has to go.
        """
        first = self._pending[0] if self._pending else None
        tracked = None if first is None else first.tracked
        if first is None or not isinstance(tracked, Operation):
            return
        if tracked.place != operation:  # it waits for its turn, or is over
            return
        if self._passing is None and not self.streaming:
            self.meter.failed(INTERRUPTED.code, "proxy")
            document = error_document(INTERRUPTED)
            frame = plain_reply(first.opcode, _own_request_ids.next(), first.expected, document)
            self.release(first, frame, False, now)
        self.close = "interrupted: the operation's session was killed"

    def closed(self, now: float) -> None:
        """The connection is over: whatever is in flight will have no reply."""
        for pending in self._pending:
            if pending.tracked is not None:
                self.desk.tracking.lost(pending.tracked, now)
        self._pending.clear()
        self.desk.closed(now)
        self._arrived.clear()
        self.work = None

    def do(self, steps: Iterator[None]) -> None:
        """Do something that may take long, on behalf of a reply: at once if it takes no steps,
        else as :attr:`work`. Nothing may come behind it there."""
        for _ in steps:
            self.work = steps
            return

    # ------------------------------------------------------------------ from upstream

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
        self._cut(data)
        self.go_on(now, enough)

    def _cut(self, data: bytes) -> None:
        try:
            self._arrived.extend(self._replies.feed(data))
        except FramingError as broken:
            self._arrived.extend(broken.frames)
            self._broken = str(broken)

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
        pending = self._pending[0]
        if pending.tracked is not None:
            self.desk.tracking.replied_at_length(
                pending.tracked, passing.edges(), now, last=not self.streaming
            )
        self._passing = None
        self._finish(pending, now, ok=True)
        return data[len(passed) :]

    def _on_reply(self, frame: bytes, now: float) -> None:
        _, request_id, response_to, opcode = _header(frame)
        pending = self._due(response_to)
        if pending is None:
            return
        if pending.handler is not None:
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
            pending.handler(pending, reply, now)
            self._settle(now)
            return
        known = self._look_into(pending, frame, opcode)
        if known is not None:
            self.streaming = pending.goes_on_after(known, request_id)
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
                tracking.replied_at_length(tracked, None, now, last=last)
        # Legacy queries have replies without ok.
        ok = known is None or known.layout.ok or not pending.command
        if not ok and known is not None:
            self.meter.failed(known.integer(b"code"), "upstream")
        self._finish(pending, now, ok)

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
            self.to_client.append(reply_frame(request, _own_request_ids.next(), document))
            self.meter.replied(request.command, now - started, ok)

    def release(self, pending: Pending, frame: bytes, ok: bool, now: float) -> None:
        """For handlers: send the client the reply to its request."""
        self.to_client.append(frame)
        self.meter.replied(pending.command, now - pending.started, ok)

    def _finish(self, pending: Pending, now: float, ok: bool) -> None:
        """The plain reply at the front is out; unless it goes on, so is its request."""
        if not self.streaming:
            self._pending.popleft()
        self.meter.replied(pending.command, now - pending.started, ok)
        if self._pending or self.ending:
            self._settle(now)

    def _settle(self, now: float) -> None:
        """Send the answers made here whose turn has come."""
        queue = self._pending
        while queue and queue[0].answer:
            pending = queue.popleft()
            self.answers -= len(pending.answer)
            self.release(pending, pending.answer, False, now)
        if self.ending and not queue and not self.blocked:
            self.close = self.ending
