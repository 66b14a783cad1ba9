"""One client connection and its upstream connection as a state machine: frames in, bytes out.

The relay feeds what both sides sent and empties ``to_upstream`` and ``to_client`` after each
call. Requests and replies are paired first in, first out, as the server answers them, and
verified by ``responseTo`` (``replies.py``). What the proxy asks on its own account waits in
the same queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import bson

from proxy.conversation.finished import Asked
from proxy.conversation.firsts import Firsts
from proxy.conversation.hello import HELLO_COMMANDS, ClientMetadata
from proxy.conversation.pending import Pending
from proxy.conversation.refusing import Refusing
from proxy.conversation.replies import Replies, own_request_ids
from proxy.conversation.tracking import Doubted
from proxy.errors import CommandError, WireError
from proxy.session.dialect import said_by
from proxy.session.stable_api import versioned
from proxy.wire.bursts import burst_of
from proxy.wire.messages import Request, read_request
from proxy.wire.opcodes import (
    COMPRESSED,
    EXHAUST_ALLOWED,
    OP_MSG,
    OP_QUERY,
    QUERY_EXHAUST,
)
from proxy.wire.replies import (
    Reply,
    command_frame,
    error_document,
    reply_frame,
)

if TYPE_CHECKING:
    from collections import deque

    from proxy.conversation.desk import Desk
    from proxy.conversation.exchange import Handlers, Observer, Presentation
    from proxy.conversation.pending import ReplyHandler
    from proxy.conversation.tracking import Tracked
    from proxy.counting import Usage
    from proxy.wire.bursts import Burst

    RequestHandler = Callable[["Conversation", Request, float], None]


class Conversation(Replies):
    """Decides what happens with every frame of one client connection."""

    __slots__ = (
        "_burst_usage",
        "_doubted",
        "_handlers",
        "_last_is_answered",
        "_namespaces",
        "balanced",
        "burst",
        "hellos",
        "hellos_wait",
        "metadata",
        "presentation",
        "requests",
        "takes_compressed",
        "to_upstream",
        "versioned",
        "waited",
    )

    def __init__(
        self,
        presentation: Presentation,
        observer: Observer,
        desk: Desk,
        handlers: Handlers,
    ) -> None:
        super().__init__(desk, observer)
        self._handlers = handlers.commands
        self._doubted = handlers.doubted
        self.presentation = presentation
        #: Whether compressed requests are read: servers without compressors close where one comes.
        self.takes_compressed = not presentation.strip_compression
        self._namespaces = observer.meter.namespaces
        #: For how many seconds the request that comes next could not be handed over.
        self.waited = 0.0
        #: Whether the last request that went upstream is among what is pending.
        self._last_is_answered = False
        #: Bytes to send upstream, in order, as :attr:`to_client`.
        self.to_upstream: list[bytes] = []
        #: What the client said of itself; None before its first hello.
        self.metadata: ClientMetadata | None = None
        #: Whether its driver said that there is a balancer in between.
        self.balanced = False
        #: How many requests there were, how many of them were a hello, and whether one waits for
        #: news, as a driver's that knows the server.
        self.requests = 0
        self.hellos = 0
        self.hellos_wait = False
        #: What :meth:`repeat` takes: others like the last unacknowledged write.
        self.burst: Burst | None = None
        self._burst_usage: Usage | None = None
        #: What is asked here carries an API version, because the client's own commands do or
        #: because upstream demands it.
        self.versioned = False

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
        handler = self._handlers.get(command)
        namespaces = self._namespaces
        if handler is not None or namespaces is None:
            self.meter.request(command)
            if handler is not None:
                handler(self, request, now)
                return
            usage: Usage | None = None
        else:
            usage = namespaces.usage(request)
            usage.requests += 1
            usage.received += len(frame)
        verdict = self.desk.admit(request, now)
        if isinstance(verdict, CommandError):
            self.refuse(request, verdict, now, usage)
        elif isinstance(verdict, Doubted):
            self._doubted(self, request, verdict, now)
            if request.expects_reply:
                self._pending[-1].usage = usage
        else:
            self.forward(request, now, tracked=verdict, usage=usage)
            if verdict is None and not request.expects_reply and not self.desk.judges_all:
                self.burst = burst_of(request)
                self._burst_usage = usage

    def repeat(self, frames: deque[bytes]) -> None:
        """Take those in front that say the same as the last unacknowledged write: they go upstream
        as it did."""
        if self._must_look():
            return
        assert self.burst is not None
        count = self.burst.count(frames)
        if count:
            self._repeated(count, [frames.popleft() for _ in range(count)])

    def repeat_run(self, data: bytes, most: int) -> int:
        """As :meth:`repeat`, of those that stand whole at the beginning of ``data``, each of
        ``most`` bytes at the most; returns where they end."""
        if self._must_look():
            return 0
        assert self.burst is not None
        end, count = self.burst.run(data, most)
        if count:
            self._repeated(count, (data if end == len(data) else data[:end],))
        return end

    def _must_look(self) -> bool:
        """Whether each request has to be read, or none may pass any more."""
        return self.burst is None or bool(self.ending or self.close) or self.desk.judges_all

    def _repeated(self, count: int, data: Sequence[bytes]) -> None:
        # What they are was judged with the first of them, and hangs on nothing that can change.
        assert self.burst is not None
        self.to_upstream.extend(data)
        self._last_is_answered = False
        self.requests += count
        usage = self._burst_usage
        if usage is None:
            self.meter.request(self.burst.command, count)
        else:
            usage.requests += count
            usage.received += sum(map(len, data))

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
        usage: Usage | None = None,
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
            pending = Pending(
                request.request_id,
                request.command,
                now - self.waited,
                opcode,
                exhaust,
                handler,
                tracked,
            )
            pending.usage = usage
            if self.meter.tells_from != inf:
                pending.told = self._asked(request)
            self._pending.append(pending)

    def refuse(
        self, request: Request, error: CommandError, now: float, usage: Usage | None = None
    ) -> None:
        """Answer here instead of forwarding, in turn; no answer where none is expected."""
        if not request.expects_reply:
            return
        self.meter.failed(error.code, "proxy")
        said = said_by(error, self.desk.upstream_facts.wire_version)
        answer = reply_frame(request, own_request_ids.next(), error_document(said))
        self.answers += len(answer)
        pending = Pending(0, request.command, now - self.waited, answer=answer)
        pending.usage = usage
        if self.meter.tells_from != inf:
            pending.told = self._asked(request, error.code)
        self._pending.append(pending)
        self._settle(now)

    def _asked(self, request: Request, code: int | None = None) -> Asked | None:
        """What is needed to tell of a request's end, if somebody may want to know."""
        if self.meter.slow_seconds == inf and not request.layout.commented:
            return None
        return Asked(request, self.waited, code)

    def until_used(self, first: Callable[[], CommandError | None]) -> None:
        """Call ``first`` at each request that is no part of a handshake, to have that refused,
        until it gives None."""
        self._handlers = Firsts(self._handlers, partial(self._go_on, self._handlers, first))

    def _go_on(
        self, handlers: Mapping[str, RequestHandler], first: Callable[[], CommandError | None]
    ) -> CommandError | None:
        error = first()
        if error is None:
            self._handlers = handlers
        return error

    def refuse_all(self, error: CommandError) -> None:
        """Answer the first request, whatever it is, with this error, and then close."""
        self._handlers = Refusing(error)

    def ask(
        self,
        question: Mapping[str, Any] | bytes,
        handler: ReplyHandler,
        now: float,
        known: Callable[[bytes], bool] | None = None,
    ) -> None:
        """Ask upstream something on the proxy's own account; ``handler`` gets the reply, unless it
        is ``known`` to tell nothing new."""
        request_id = own_request_ids.next()
        if not isinstance(question, bytes):
            question = bson.encode(question)
        if self.versioned or self.desk.upstream_facts.needs_api_version:
            question = versioned(question)
        self.to_upstream.append(command_frame(request_id, question))
        self._pending.append(Pending(request_id, "", now, handler=handler, known=known))

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

    def closed(self, now: float) -> None:
        """The connection is over: whatever is in flight will have no reply."""
        for pending in self._pending:
            if pending.tracked is not None:
                self.desk.tracking.lost(pending.tracked, now)
            if now - pending.started >= self.meter.tells_from:
                self._tell(pending, None, now, None)
        self._pending.clear()
        self.desk.noting.closed(now)
        self._arrived.clear()
        self.work = None
