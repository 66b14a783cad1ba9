"""One client connection from accept to close: TLS, dialling upstream, logging and counting."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from functools import partial
from logging import DEBUG
from typing import TYPE_CHECKING, Any

import trio

from proxy import logs
from proxy.addresses import Address
from proxy.conversation.conversation import Conversation
from proxy.conversation.desk import Desk
from proxy.conversation.exchange import Presentation
from proxy.conversation.handlers import HANDLERS
from proxy.errors import CommandError, NotDialledError
from proxy.net.gone import PeerGoneError
from proxy.net.limits import Share
from proxy.net.relay import Relay
from proxy.net.tls_transport import NOTHING_SAID, TlsTransport
from proxy.net.transport import SocketTransport
from proxy.process.arrival import Arrival, header_of, own_context
from proxy.process.asking import Asking
from proxy.process.dialling import Meant
from proxy.process.membership import Membership

if TYPE_CHECKING:
    import ssl

    from structlog.typing import FilteringBoundLogger

    from proxy.conversation.finished import Finished
    from proxy.net.transport import Transport
    from proxy.observe.telemetry import Telemetry
    from proxy.process.primary import Front
    from proxy.process.shared import Shared
    from proxy.session.identity import Identity
    from proxy.session.records import InFlight


class Connection(Asking):
    """A client connection that leads to ``upstream``, or is ``refused``."""

    __slots__ = (
        "_conversation",
        "_counted",
        "_handshake",
        "_leaving",
        "_log",
        "_membership",
        "_reached",
        "_refused",
        "_say",
        "_server_name",
        "_shared",
        "_sock",
        "_strange",
        "_tls_context",
        "front",
        "id",
        "opened",
        "peer",
        "relay",
        "upstream",
    )

    def __init__(
        self,
        shared: Shared,
        number: int,
        sock: socket.socket,
        peer: str,
        upstream: Address,
        refused: CommandError | None = None,
    ) -> None:
        self._shared = shared
        self._sock = sock
        #: Where the client has connected to, by a PROXY header or the socket; None for unix.
        self._reached: Address | None = None
        self._log: FilteringBoundLogger = logs.connection_logger(number, shared.cluster)
        #: Logs that it comes and goes; None while it is not known whose connection it is.
        self._say: Callable[..., Any] | None = None
        self._conversation: Conversation | None = None
        self._membership = Membership(shared)
        self._counted = (0, 0, 0, 0)
        #: Why it is to end soon, "" where it is not.
        self._leaving = ""
        #: Whether a side speaks another protocol.
        self._strange = False
        self._handshake: trio.CancelScope | None = None
        self._tls_context: ssl.SSLContext | None = None
        self._refused = refused
        self._server_name = ""
        self.id = number
        self.peer = peer
        self.upstream = upstream
        #: Set where it follows the primary.
        self.front: Front | None = None
        self.opened = trio.current_time()
        self.relay: Relay | None = None

    async def run(self) -> None:
        """Serve the client until either side ends it. Never raises but to be cancelled."""
        telemetry = self._shared.telemetry
        telemetry.connection_opened()
        if self._shared.senders is None and self._tells_of_probes:
            self._greet(self._log.info)
        reason = "cancelled"
        try:
            reason = await self._serve()
        except Exception:
            reason = "bug"
            self._log.exception("connection failed")
        finally:
            self._sock.close()
            self._membership.leave()
            self.count_bytes()
            telemetry.connection_closed(reason.partition(":")[0])
            if reason.startswith("upstream"):
                self._shared.lost()
            probe = self._is_probe(reason)
            if probe:
                self._shared.probes.seen(self.peer)
            say = self._say or self._greet(self._log.debug if probe else self._log.info)
            say("client gone", reason=reason, **self._totals())
            # They refer back: see :mod:`proxy.memory`.
            self._conversation = self.relay = None

    def drain(self) -> None:
        """End as soon as no work is in flight."""
        self._leaving = "draining"
        if self._handshake is not None:
            self._handshake.cancel()
        if self.relay is not None:
            self.relay.drain()

    def rest(self, resting: bool) -> None:
        """Have requests wait from now on, but for those that begin nothing; or all go on."""
        if self.relay is not None:
            self.relay.rest(resting)

    def end_operation(self, operation: InFlight) -> None:
        """Answer an operation that is in flight here with 11601 and close."""
        self.cut(operation.request_id, "the operation's session was killed")

    def hang_up(self, reason: str) -> None:
        """Close both sides now."""
        if self.relay is not None:
            self.relay.stop(reason)
            return
        self._leaving = reason
        if self._handshake is not None:
            self._handshake.cancel()

    def _greet(self, say: Callable[..., Any]) -> Callable[..., Any]:
        """Log that it has come, and use ``say`` for the rest too."""
        self._say = say
        say("client connected", client=self.peer, upstream=str(self.upstream))
        return say

    @property
    def _tells_of_probes(self) -> bool:
        """Whether its coming is logged before it is known what for."""
        return self._shared.config.log.probes or self._log.is_enabled_for(DEBUG)

    def _is_probe(self, reason: str) -> bool:
        """Whether it has ended in the ordinary way and asked for nothing but hello."""
        conversation, relay = self._conversation, self.relay
        if conversation is None or relay is None:
            return reason == "client closed" or reason.endswith(NOTHING_SAID)
        asked = conversation.requests > conversation.hellos
        # Half a message is none.
        begun = not conversation.requests and relay.byte_counts()[0]
        return not (asked or begun or self._strange) and reason.startswith(
            ("client closed", "client: ", "draining", "idle: ")
        )

    def _used(self) -> CommandError | None:
        """A request has come that is no part of a handshake: the first, or one as another user."""
        if self._say is None:
            self._greet(self._log.info)
        assert self._conversation is not None
        return self._membership.join(self.peer, self._conversation.desk)

    async def _arrive(self) -> Transport | str:
        """The client, ready to be heard; or why it is not to be."""
        shared = self._shared
        arrival = Arrival(self._sock, self.peer, self._reached)
        until = self.opened + shared.config.limits.handshake_seconds
        problem = ""
        try:
            with trio.move_on_at(until) as self._handshake:
                await arrival.receive(shared.senders, shared.listener_tls, shared.lets_in)
        except PeerGoneError as error:
            problem = arrival.failed(error)
            if error.protocol:
                self.foreign("client", error.protocol, problem.removeprefix("client "))
        self._handshake = None
        self.peer, self._reached = arrival.peer, arrival.reached
        if self._say is None and (arrival.local or (self._tells_of_probes and not arrival.quiet)):
            self._greet(self._log.debug if arrival.local else self._log.info)
        return arrival.client or problem or self._leaving or "handshake timeout"

    async def _serve(self) -> str:
        shared = self._shared
        if self._sock.family != socket.AF_UNIX:
            self._reached = Address(*self._sock.getsockname()[:2])
        if shared.listener_tls is None and shared.senders is None:
            client: Transport = SocketTransport(self._sock)
        else:
            arrived = await self._arrive()
            if isinstance(arrived, str):
                return arrived
            client = arrived
        tls = shared.upstream_tls
        try:
            self._tls_context = own_context(client, tls)
        except ValueError as error:
            client.close()
            return f"client TLS: {error}"
        if shared.dialler.reached is not None and isinstance(client, TlsTransport):
            self._server_name = client.server_name
        named = self._reached if self._sock.family != socket.AF_UNIX else None
        local_host = named.host if named is not None else ""
        topology, rewrite = shared.topology, shared.config.rewrites
        if self.front is None:
            own_address = topology.own(self.upstream, local_host) if rewrite and local_host else ""
            shown: Callable[[], Mapping[str, str]] = partial(topology.addresses, local_host)
        else:
            own_address = self.front.shown(local_host)
            shown = partial(topology.alone, self.upstream, own_address)
        presentation = Presentation(
            own=own_address,
            addresses=lambda: shown() if rewrite else None,
            strip_compression=shared.config.upstream.compression == "strip",
            refuse_x509=tls is not None and tls.shows_certificate and self._tls_context is None,
            known=shared.ready.is_set,
        )
        desk = Desk(
            shared.sessions,
            self.id,
            self.peer.rpartition(":")[0] or self.peer,
            str(self.upstream),
            shared.upstreams.at(self.upstream).now,
        )
        self._conversation = Conversation(presentation, self, desk, HANDLERS)
        self._conversation.until_used(self._used)
        self.relay = Relay(
            client,
            self._dial,
            self._conversation,
            shared.config.limits,
            Share(shared.budget),
            shared.telemetry.legs,
            self.opened,
        )
        if self._leaving:
            self.relay.drain()
        try:
            await self.relay.run()
        finally:
            self._conversation.closed(trio.current_time())
        return self.relay.reason or "cancelled"

    async def _dial(self, first: bytes) -> Transport:
        if self._say is None and self._tells_of_probes:
            self._greet(self._log.info)
        shared = self._shared
        if self._refused is not None:
            shared.telemetry.not_connected("refused")
            raise NotDialledError(self._refused)
        if self.front is not None and self.front.refusal is not None:
            shared.telemetry.not_connected("no primary")
            raise NotDialledError(self.front.refusal.again())
        header = b""
        if shared.config.upstream.proxy_protocol:
            header = header_of(self.peer, self._reached)
        meant = Meant(self._server_name, self._tls_context, header)
        try:
            return await shared.dialler.dial(self.upstream, first, meant)
        except PeerGoneError as error:
            if error.protocol:
                self.foreign("upstream", error.protocol, str(error))
            raise

    # ------------------------------------------------------------------ what operators see

    @property
    def in_flight(self) -> int:
        """How many requests wait for a reply."""
        return 0 if self._conversation is None else self._conversation.in_flight

    @property
    def state(self) -> str:
        """``starting`` until upstream is reached, then ``idle``, ``active``, ``monitoring``."""
        conversation = self._conversation
        if conversation is None or self.relay is None or not self.relay.connected:
            return "starting"
        if not conversation.in_flight:
            return "idle"
        return "monitoring" if conversation.idle else "active"

    @property
    def whose(self) -> tuple[str, str]:
        """The user and the application; empty where nobody has said so yet."""
        desk = None if self._conversation is None else self._conversation.desk
        return (desk.identity.name, desk.origin.application) if desk else ("", "")

    def row(self, now: float) -> dict[str, Any]:
        """This connection for a listing; times in seconds."""
        conversation, relay = self._conversation, self.relay
        row: dict[str, Any] = {
            "conn": self.id,
            "client": self.peer,
            "upstream": str(self.upstream),
            "age_seconds": round(now - self.opened, 3),
        }
        if conversation is not None and relay is not None:
            metadata = conversation.metadata
            row |= dict(zip(("user", "application"), self.whose, strict=True)) | {
                "driver": metadata.driver if metadata else "",
                "driver_version": metadata.driver_version if metadata else "",
                "use": self.use,
                "requests": conversation.requests,
                "in_flight": conversation.in_flight,
                "command": conversation.command,
                **self.at_front(now),
                "received_bytes": relay.byte_counts()[0],
                "sent_bytes": relay.byte_counts()[3],
            }
        return row

    def _totals(self) -> dict[str, Any]:
        if self._conversation is None or self.relay is None:
            return {}
        return {"requests": self._conversation.requests, "user": self.whose[0]}

    def count_bytes(self) -> None:
        """Add what was relayed since the last call to the metrics."""
        if self.relay is None:
            return
        counts = self.relay.byte_counts()
        before = self._counted
        self._shared.telemetry.moved(
            counts[0] - before[0],
            counts[1] - before[1],
            counts[2] - before[2],
            counts[3] - before[3],
        )
        self._counted = counts

    # ------------------------------------------------------------------ conversation.Observer

    @property
    def meter(self) -> Telemetry:
        return self._shared.telemetry

    def identified(self, identity: Identity) -> None:
        if self._say is None and identity.name:
            self._greet(self._log.info)
        say = self._say or self._log.debug
        say("authenticated", user=identity.name or "nobody")
        if self._membership.groups and self._conversation is not None:
            self._conversation.until_used(self._used)

    def interrupt(self, operation: InFlight) -> None:
        self._shared.interrupt(operation)

    def ask_as(self, owner: bytes, upstream: str, question: bytes) -> bool:
        other = self._shared.find_idle(upstream, owner)
        if other is None:
            return False
        other.ask(question, lambda _reply, _now: None)
        return True

    def later(self, seconds: float, what: Callable[[float], None]) -> None:
        if self.relay is not None:
            self.relay.later(seconds, what)

    def foreign(self, side: str, protocol: str, problem: str) -> None:
        self._strange = True
        where = {"client": self.peer, "upstream": str(self.upstream)}
        self._shared.strangers.met(trio.current_time(), side, protocol, problem, **where)

    def slow(self, request: Finished, now: float) -> None:
        if self._conversation is not None:
            self._shared.slow.tell(request, self._conversation.desk, now)

    def traced(self, request: Finished) -> None:
        if self._shared.traces is not None and self._conversation is not None:
            self._shared.traces.tell(request, self._conversation.desk)

    def unknown_member(self) -> None:
        self._shared.unknown_member()

    def another_process(self) -> None:
        self._shared.lost()
