"""One client connection and its upstream connection as a state machine: frames in, bytes out.

The relay feeds what both sides sent and empties ``to_upstream`` and ``to_client`` after each
call. Requests and replies are paired first in, first out, as the server answers them, and
verified by ``responseTo``. What the proxy asks on its own account waits in the same queue.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Protocol

from proxy.errors import CommandError, WireError
from proxy.hello import (
    AUTHENTICATION_COMMANDS,
    HELLO_COMMANDS,
    ClientMetadata,
    client_metadata,
    edited_reply,
    edited_request,
    is_authentication,
    names_in_reply,
    names_x509,
)
from proxy.identity import (
    CONNECTION_STATUS,
    NOBODY,
    Identity,
    IdentityUnknownError,
    read_connection_status,
)
from proxy.wire.fields import BOOL, DOCUMENT, Element, walk
from proxy.wire.frames import FrameBuffer, FramingError
from proxy.wire.messages import Reply, Request, read_reply, read_request
from proxy.wire.opcodes import (
    EXHAUST_ALLOWED,
    HEADER,
    HEADER_SIZE,
    INT64,
    MORE_TO_COME,
    OP_COMPRESSED,
    OP_MSG,
    OP_QUERY,
    OP_REPLY,
    QUERY_EXHAUST,
    UINT32,
)
from proxy.wire.replies import command_frame, error_document, reply_frame

#: A longer reply to an ordinary request is passed on while it arrives instead of being
#: collected first: a 1 MB reply then costs one receive buffer and no added latency.
PASS_ABOVE: Final = 65_536

#: What a server without a client certificate to look at answers to MONGODB-X509.
_NO_CLIENT_CERTIFICATE = CommandError(
    18, "AuthenticationFailed", "There is no x.509 client certificate matching the user."
)

#: Upstream runs with requireApiVersion: the question has to be put again with a version.
_API_VERSION_REQUIRED = 498870
_STATUS = "connectionStatus"
_STATUS_WITH_VERSION = "connectionStatus with apiVersion"

#: How much of a reply has to be there to see whether another one follows.
_SMALLEST_REPLY: Final = {OP_MSG: HEADER_SIZE + 4, OP_REPLY: HEADER_SIZE + 20}

_header = HEADER.unpack_from
_uint32 = UINT32.unpack_from
_int64 = INT64.unpack_from
_own_request_ids = itertools.cycle(range(0x4D530000, 0x7FFFFFFF))


class Observer(Protocol):
    """What a conversation tells about itself while it happens; must not raise or wait."""

    def request(self, command: str) -> None:
        """A request was read; ``command`` is "" for what is none."""

    def replied(self, command: str, seconds: float, ok: bool) -> None:
        """A client's request was answered after so many seconds, with ``ok: 1`` or not."""

    def violation(self, kind: str) -> None:
        """One side broke the protocol in a way that ends the connection."""

    def identified(self, identity: Identity) -> None:
        """Upstream said anew who is authenticated on this connection."""

    def unknown_member(self) -> None:
        """A hello named a replica-set member that no listener stands for."""


@dataclass(frozen=True, slots=True)
class Presentation:
    """How upstream is shown to clients of one listener.

    ``addresses`` gives the map of upstream names to advertised ones (lower case), or None
    where hello has none to rewrite. ``own`` is this listener's advertised address.
    ``refuse_x509`` is set where the upstream leg shows a certificate that is not the client's.
    """

    own: str = ""
    addresses: Callable[[], Mapping[str, str] | None] = field(default=lambda: None)
    strip_compression: bool = False
    refuse_x509: bool = False


class Role(IntEnum):
    """What is to happen with a reply."""

    PLAIN = 0
    HELLO = 1
    AUTHENTICATION = 2
    #: The proxy's own question: the reply is swallowed.
    STATUS = 3
    #: Answered here; waits until every earlier request has its reply.
    LOCAL = 4


@dataclass(slots=True)
class Pending:
    """A request whose reply is due. ``expected`` is the responseTo its next reply must carry."""

    role: Role
    expected: int
    command: str
    started: float
    exhaust: bool = False
    #: An authentication step: its reply, and upstream's word on it, end the wait for both.
    settles: bool = False
    answer: bytes = b""


class Conversation:
    """Decides what happens with every frame of one client connection."""

    __slots__ = (
        "_held_reply",
        "_observer",
        "_passing",
        "_pending",
        "_presentation",
        "_replied_in_stream",
        "_replies",
        "blocked",
        "close",
        "ending",
        "identity",
        "metadata",
        "requests",
        "to_client",
        "to_upstream",
    )

    def __init__(self, presentation: Presentation, observer: Observer) -> None:
        self._presentation = presentation
        self._observer = observer
        self._pending: deque[Pending] = deque()
        self._replies = FrameBuffer()
        self._passing = 0
        self._replied_in_stream = False
        self._held_reply = b""
        #: Bytes to send, in order. The relay takes them after every call.
        self.to_client: list[bytes] = []
        self.to_upstream: list[bytes] = []
        #: An authentication step is not settled: the relay hands over no request before it is.
        self.blocked = False
        #: Why no further request is read: the connection closes when all replies are out.
        self.ending = ""
        #: Why both connections close as soon as the bytes to send are sent; "" to go on.
        self.close = ""
        self.identity: Identity = NOBODY
        self.metadata: ClientMetadata | None = None
        self.requests = 0

    @property
    def in_flight(self) -> int:
        """How many requests wait for a reply."""
        return len(self._pending)

    @property
    def command(self) -> str:
        """The command whose reply is due next; "" when idle."""
        return self._pending[0].command if self._pending else ""

    @property
    def streaming(self) -> bool:
        """Upstream is inside an exhaust stream: it sends unasked and reads nothing."""
        return self._replied_in_stream

    @property
    def idle(self) -> bool:
        """Nothing but a monitor's hello is under way, so closing now loses no work."""
        return not self._passing and all(p.role is Role.HELLO for p in self._pending)

    # ------------------------------------------------------------------ from the client

    def on_request(self, frame: bytes, now: float, message: bytes | None = None) -> None:
        """One whole frame from the client; ``message`` is its inflated form if known."""
        if self.ending:
            return
        try:
            request = read_request(frame, message)
        except WireError as error:
            self._end("client message", str(error))
            return
        self.requests += 1
        command = request.command
        self._observer.request(command)
        handler = _HANDLERS.get(command)
        if handler is not None:
            handler(self, request, now)
            return
        self._forward(request, now)

    def on_garbage(self, problem: str) -> None:
        """The client's bytes cannot be framed any more."""
        self._end("client framing", problem)

    def _end(self, kind: str, problem: str) -> None:
        """Answer what was asked before, then close: what a server does with a broken message."""
        self._observer.violation(kind)
        self.ending = f"{kind}: {problem}"
        if not self._pending:
            self.close = self.ending

    def _forward(
        self,
        request: Request,
        now: float,
        role: Role = Role.PLAIN,
        *,
        frame: bytes | None = None,
        settles: bool = False,
    ) -> None:
        self.to_upstream.append(request.frame if frame is None else frame)
        if request.expects_reply:
            exhaust = bool(
                request.flags & EXHAUST_ALLOWED
                if request.opcode == OP_MSG
                else request.opcode == OP_QUERY and request.flags & QUERY_EXHAUST
            )
            self._pending.append(
                Pending(role, request.request_id, request.command, now, exhaust, settles)
            )
        elif settles:
            # Nobody will say whether it worked, so ask right behind it.
            self._ask_who(now)
        if settles:
            self.blocked = True

    def _refuse(self, request: Request, error: CommandError, now: float) -> None:
        """Answer here instead of forwarding, in turn; no answer where none is expected."""
        if not request.expects_reply:
            return
        answer = reply_frame(request, next(_own_request_ids), error_document(error))
        if self._pending:
            self._pending.append(Pending(Role.LOCAL, 0, request.command, now, answer=answer))
        else:
            self.to_client.append(answer)

    def _hello(self, request: Request, now: float) -> None:
        if self.metadata is None:
            self.metadata = client_metadata(request)
        presentation = self._presentation
        frame = edited_request(
            request,
            strip_compression=presentation.strip_compression,
            refuse_x509=presentation.refuse_x509,
        )
        if frame is not None and not request.has_valid_checksum():
            # To change it would make a new checksum and so mend what arrived broken.
            self._end("client message", "the checksum is wrong")
            return
        self._forward(request, now, Role.HELLO, frame=frame, settles=is_authentication(request))

    def _authentication(self, request: Request, now: float) -> None:
        if self._presentation.refuse_x509 and names_x509(request):
            self._refuse(request, _NO_CLIENT_CERTIFICATE, now)
            return
        self._forward(request, now, Role.AUTHENTICATION, settles=True)

    def _ask_who(
        self, now: float, question: Mapping[str, Any] = CONNECTION_STATUS, name: str = _STATUS
    ) -> None:
        request_id = next(_own_request_ids)
        self.to_upstream.append(command_frame(request_id, question))
        self._pending.append(Pending(Role.STATUS, request_id, name, now))

    # ------------------------------------------------------------------ from upstream

    def on_upstream(self, data: bytes, now: float) -> None:
        """Bytes from upstream, cut anywhere."""
        if self._passing:
            if len(data) <= self._passing:
                self.to_client.append(data)
                self._passing -= len(data)
                if not self._passing:
                    self._answered(now)
                return
            rest = data[self._passing :]
            self.to_client.append(data[: self._passing])
            self._passing = 0
            self._answered(now)
            data = rest
        problem = ""
        try:
            frames = self._replies.feed(data)
        except FramingError as error:
            frames, problem = error.frames, str(error)
        try:
            for frame in frames:
                self._on_reply(frame, now)
                if self.close:
                    return
            if problem:
                self._upstream_broke("upstream framing", problem)
            elif self._replies.declared > PASS_ABOVE:
                self._begin_passing()
        except WireError as error:
            self._upstream_broke("upstream message", str(error))

    def _upstream_broke(self, kind: str, problem: str) -> None:
        self._observer.violation(kind)
        self.close = f"{kind}: {problem}"

    def _due(self, response_to: int) -> Pending | None:
        """The request that a reply with this responseTo answers; None is a violation."""
        if not self._pending:
            self._upstream_broke("upstream pairing", "a reply that nobody asked for")
            return None
        pending = self._pending[0]
        if pending.expected != response_to:
            self._upstream_broke("upstream pairing", "a reply to another request")
            return None
        return pending

    def _begin_passing(self) -> None:
        """Pass on the long reply that has begun, if nobody has to see it whole."""
        pending = self._pending[0] if self._pending else None
        if pending is None or pending.role is not Role.PLAIN or self._replies.buffered < 64:
            return
        length = self._replies.declared
        head = self._replies.peek()
        _, request_id, response_to, opcode = _header(head)
        if opcode == OP_COMPRESSED and pending.exhaust:
            return
        if self._due(response_to) is None:
            return
        self._note_stream(pending, head, request_id, opcode)
        begun = self._replies.take()
        self._passing = length - len(begun)
        self.to_client.append(begun)

    def _note_stream(self, pending: Pending, message: bytes, request_id: int, opcode: int) -> None:
        """Expect another reply where this one, of which only the start is needed, says so."""
        more = False
        if opcode == OP_MSG:
            more = bool(_uint32(message, HEADER_SIZE)[0] & MORE_TO_COME)
            # Each reply of a stream answers the one before it.
            pending.expected = request_id if more else pending.expected
        elif opcode == OP_REPLY and pending.exhaust:
            more = _int64(message, HEADER_SIZE + 4)[0] != 0
            pending.expected = request_id if more else pending.expected
        self._replied_in_stream = more

    def _on_reply(self, frame: bytes, now: float) -> None:
        _, request_id, response_to, opcode = _header(frame)
        pending = self._due(response_to)
        if pending is None:
            return
        role = pending.role
        if role is Role.PLAIN and not (opcode == OP_COMPRESSED and pending.exhaust):
            if len(frame) < _SMALLEST_REPLY.get(opcode, HEADER_SIZE):
                raise WireError("a reply without room for its flags")
            self._note_stream(pending, frame, request_id, opcode)
            self.to_client.append(frame)
            self._answered(now, _succeeded(frame, opcode))
            return
        reply = read_reply(frame)
        self._note_stream(pending, reply.message, request_id, reply.opcode)
        if role is Role.PLAIN:
            self.to_client.append(frame)
            self._answered(now, reply.ok())
        elif role is Role.HELLO:
            self._on_hello_reply(pending, reply, now)
        elif role is Role.AUTHENTICATION:
            self._on_authentication_reply(pending, reply, now)
        else:
            self._on_status_reply(pending, reply, now)

    def _answered(self, now: float, ok: bool = True) -> None:
        """The reply at the front is out; unless it goes on, so are the answers behind it."""
        pending = self._pending[0]
        if not self._replied_in_stream:
            self._pending.popleft()
        if pending.role is not Role.STATUS:
            self._observer.replied(pending.command, now - pending.started, ok)
        while self._pending and self._pending[0].role is Role.LOCAL:
            self.to_client.append(self._pending.popleft().answer)
        if self.ending and not self._pending and not self.blocked:
            self.close = self.ending

    def _on_hello_reply(self, pending: Pending, reply: Reply, now: float) -> None:
        addresses = self._presentation.addresses()
        frame = edited_reply(reply, addresses, self._presentation.own)
        if addresses is not None and any(n not in addresses for n in names_in_reply(reply)):
            self._observer.unknown_member()
        changed = pending.settles and _speculation_succeeded(reply)
        self._release_or_ask(pending, frame or reply.frame, reply.ok(), changed, now)

    def _on_authentication_reply(self, pending: Pending, reply: Reply, now: float) -> None:
        ok = reply.ok()
        changed = ok and not _is_false(reply.message, reply.fields.get(b"done"))
        self._release_or_ask(pending, reply.frame, ok, changed, now)

    def _release_or_ask(
        self, pending: Pending, frame: bytes, ok: bool, changed: bool, now: float
    ) -> None:
        """Let an authentication's reply go, but not before it is known whom it let in."""
        if not changed:
            self.to_client.append(frame)
            if pending.settles:
                self.blocked = False
            self._answered(now, ok)
        elif self._replied_in_stream:
            self._upstream_broke("upstream message", "authentication inside an exhaust stream")
        else:
            self._held_reply = frame
            self._answered(now)
            self._ask_who(now)

    def _on_status_reply(self, pending: Pending, reply: Reply, now: float) -> None:
        if reply.integer(b"code") == _API_VERSION_REQUIRED and pending.command == _STATUS:
            self._pending.popleft()
            self._ask_who(now, {**CONNECTION_STATUS, "apiVersion": "1"}, _STATUS_WITH_VERSION)
            return
        try:
            self.identity = read_connection_status(reply.body_bytes())
        except IdentityUnknownError as error:
            self._upstream_broke("upstream identity", str(error))
            return
        self._observer.identified(self.identity)
        if self._held_reply:
            self.to_client.append(self._held_reply)
            self._held_reply = b""
        self.blocked = False
        self._answered(now)


def _succeeded(frame: bytes, opcode: int) -> bool:
    """Whether an ordinary reply says ``ok: 1``. Compressed ones are not inflated to count them."""
    if opcode != OP_MSG:
        return True
    try:
        return read_reply(frame).ok()
    except WireError:
        return False


def _is_false(message: bytes, element: Element | None) -> bool:
    return element is not None and element.type == BOOL and not message[element.value]


def _speculation_succeeded(reply: Reply) -> bool:
    """Whether a hello reply says that the authentication begun in hello is complete."""
    element = reply.fields.get(b"speculativeAuthenticate")
    if element is None or element.type != DOCUMENT:
        return False
    done = walk(reply.message, element.value, element.end).get(b"done")
    return not _is_false(reply.message, done)


_Handler = Callable[[Conversation, Request, float], None]

#: Commands that are more to this proxy than bytes to pass on.
_HANDLERS: Final[Mapping[str, _Handler]] = {
    **dict.fromkeys(HELLO_COMMANDS, Conversation._hello),
    **dict.fromkeys(AUTHENTICATION_COMMANDS, Conversation._authentication),
}
