"""One client connection from accept to close: TLS, dialling upstream, logging and counting."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from proxy import logs
from proxy.conversation.conversation import Conversation
from proxy.conversation.desk import Desk
from proxy.conversation.exchange import Presentation
from proxy.conversation.handlers import HANDLERS
from proxy.errors import NotDialledError
from proxy.net.limits import Share
from proxy.net.relay import Relay
from proxy.net.tls_transport import start_tls
from proxy.net.transport import PeerGoneError, SocketTransport, Transport, open_socket
from proxy.session.identity import EVERYBODY

if TYPE_CHECKING:
    import ssl

    from structlog.typing import FilteringBoundLogger

    from proxy.addresses import Address
    from proxy.conversation.desk import Sessions
    from proxy.net.limits import BufferBudget
    from proxy.net.tls import ListenerTls, UpstreamTls
    from proxy.observe.telemetry import Telemetry
    from proxy.session.identity import Identity
    from proxy.session.ids import Origin
    from proxy.session.records import InFlight
    from proxy.settings.config import Config
    from proxy.upstream.facts import Upstreams
    from proxy.upstream.topology import Topology
    from proxy.upstream.ways import Ways
    from proxy.wire.replies import Reply


@dataclass(slots=True)
class Shared:
    """What all connections of a process use."""

    config: Config
    telemetry: Telemetry
    budget: BufferBudget
    topology: Topology
    sessions: Sessions
    upstreams: Upstreams
    listener_tls: ListenerTls | None
    upstream_tls: UpstreamTls | None
    ways: Ways
    #: Ends an operation on whichever connection it is in flight.
    interrupt: Callable[[InFlight], None]
    #: Finds a connection to this upstream that works as the owner of this digest and is quiet.
    find_idle: Callable[[str, bytes], Connection | None]
    #: Set once it is known what upstream is: before that no hello can be shown to a client.
    ready: trio.Event = field(default_factory=trio.Event)
    #: A hello named a member without a listener.
    unknown_member: Callable[[], None] = lambda: None


class Connection:
    """A client connection that was accepted on the listener for ``upstream``."""

    __slots__ = (
        "_conversation",
        "_counted",
        "_draining",
        "_handshake",
        "_log",
        "_shared",
        "_sock",
        "_tls_context",
        "id",
        "opened",
        "peer",
        "relay",
        "upstream",
    )

    def __init__(
        self, shared: Shared, number: int, sock: socket.socket, peer: str, upstream: Address
    ) -> None:
        self._shared = shared
        self._sock = sock
        self._log: FilteringBoundLogger = logs.connection_logger(number)
        self._conversation: Conversation | None = None
        self._counted = (0, 0, 0, 0)
        self._draining = False
        self._handshake: trio.CancelScope | None = None
        self._tls_context: ssl.SSLContext | None = None
        self.id = number
        self.peer = peer
        self.upstream = upstream
        self.opened = trio.current_time()
        self.relay: Relay | None = None

    async def run(self) -> None:
        """Serve the client until either side ends it. Never raises but to be cancelled."""
        telemetry = self._shared.telemetry
        telemetry.connection_opened()
        self._log.info("client connected", client=self.peer, upstream=str(self.upstream))
        reason = "cancelled"
        try:
            reason = await self._serve()
        except Exception:
            reason = "bug"
            self._log.exception("connection failed")
        finally:
            self._sock.close()
            self.count_bytes()
            telemetry.connection_closed(reason.partition(":")[0])
            self._log.info("client gone", reason=reason, **self._totals())
            # They refer back: see :mod:`proxy.memory`.
            self._conversation = self.relay = None

    def drain(self) -> None:
        """End as soon as no work is in flight."""
        self._draining = True
        if self._handshake is not None:
            self._handshake.cancel()
        if self.relay is not None:
            self.relay.drain()

    def rest(self, resting: bool) -> None:
        """Have requests wait from now on, but for those that read a cursor on; or all go on."""
        if self.relay is not None:
            self.relay.rest(resting)

    @property
    def origin(self) -> Origin | None:
        """Where it comes from, as its sessions say too; None before that is known."""
        return None if self._conversation is None else self._conversation.desk.origin

    def end_operation(self, operation: InFlight) -> None:
        """Answer an operation that is in flight here with 11601 and close."""
        if self._conversation is not None and self.relay is not None:
            self._conversation.interrupt(operation, trio.current_time())
            self.relay.flush_soon()

    @property
    def greets(self) -> bool:
        """Whether it was asked for hello and for nothing else yet."""
        conversation = self._conversation
        return conversation is not None and conversation.requests == conversation.hellos > 0

    @property
    def monitors(self) -> bool:
        """Whether a driver watches the server by it: it said hello more than once."""
        return self.greets and self._conversation is not None and self._conversation.hellos > 1

    @property
    def works(self) -> bool:
        """Whether it was asked for anything but hello."""
        conversation = self._conversation
        return conversation is not None and conversation.requests > conversation.hellos

    @property
    def speaks_for(self) -> bytes | None:
        """The owner (a digest) as whom :meth:`ask` would work now; None where it would not."""
        conversation = self._conversation
        if (
            conversation is None
            or self.relay is None
            or not self.relay.connected
            or self.relay.reason
            or not conversation.quiet
        ):
            return None
        return conversation.desk.caller.digest

    @property
    def place(self) -> tuple[str, bytes] | None:
        """The upstream address and the owner (a digest) for which :meth:`ask` would work now."""
        owner = self.speaks_for
        return None if owner is None else (str(self.upstream), owner)

    @property
    def acts_for_all(self) -> bool:
        """Whether upstream would take what :meth:`ask` says of anybody's session."""
        return self._conversation is not None and self._conversation.desk.caller.may("impersonate")

    @property
    def kills_for_all(self) -> bool:
        """Whether :meth:`ask` may kill anybody's sessions."""
        if self._conversation is None:
            return False
        desk = self._conversation.desk
        # Where upstream cannot kill sessions itself, that comes to killing cursors and the like.
        enough = ("killAnySession", "impersonate") if desk.native else ("anyAction",)
        return any(map(desk.caller.may, enough))

    def could_ask(self, upstream: str, uid: bytes) -> bool:
        """Whether :meth:`ask` would work now, upstream and as the owner of ``uid``."""
        return str(self.upstream) == upstream and self.speaks_for == uid

    def ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        """Put a command (BSON) to upstream between the client's own requests."""
        self.ask_all((question,), lambda _number, reply, now: handler(reply, now))

    def ask_all(
        self, questions: Sequence[bytes], handler: Callable[[int, Reply, float], None]
    ) -> None:
        """As :meth:`ask`, one behind the other; ``handler`` gets each one's number too."""
        assert self._conversation is not None
        assert self.relay is not None
        self._conversation.ask_between(questions, handler, trio.current_time())
        self.relay.flush_soon()

    async def _serve(self) -> str:
        shared = self._shared
        local_host = ""
        if self._sock.family != socket.AF_UNIX:
            local_host = self._sock.getsockname()[0]
        client: Transport
        refuse_x509 = shared.upstream_tls is not None and shared.upstream_tls.shows_certificate
        if shared.listener_tls is None:
            client = SocketTransport(self._sock)
        else:
            until = self.opened + shared.config.limits.handshake_seconds
            tls = None
            try:
                with trio.move_on_at(until) as self._handshake:
                    tls = await start_tls(self._sock, shared.listener_tls.context, server_side=True)
            except PeerGoneError as error:
                return f"client TLS: {error}"
            self._handshake = None
            if tls is None:
                return "draining" if self._draining else "handshake timeout"
            client = tls
            certificate = tls.peer_certificate()
            if certificate is not None and shared.upstream_tls is not None:
                try:
                    own = shared.upstream_tls.context_for(certificate)
                except ValueError as error:
                    tls.close()
                    return f"client TLS: {error}"
                if own is not None:
                    self._tls_context = own
                    refuse_x509 = False
        topology, rewrite = shared.topology, shared.config.upstream.hello == "rewrite"
        presentation = Presentation(
            own=topology.own(self.upstream, local_host) if rewrite and local_host else "",
            addresses=lambda: topology.addresses(local_host) if rewrite else None,
            strip_compression=shared.config.upstream.compression == "strip",
            refuse_x509=refuse_x509,
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
        self.relay = Relay(
            client,
            self._dial,
            self._conversation,
            shared.config.limits,
            Share(shared.budget),
            shared.telemetry.legs,
            self.opened,
        )
        if self._draining:
            self.relay.drain()
        try:
            await self.relay.run()
        finally:
            self._conversation.closed(trio.current_time())
        return self.relay.reason or "cancelled"

    async def _dial(self, first: bytes) -> Transport:
        """Connect upstream, and do not go on before it is known what upstream is."""
        shared = self._shared
        try:
            await shared.ways.await_safe(self.upstream, first)
        except NotDialledError:
            shared.telemetry.not_connected("loop")
            raise
        began = trio.current_time()
        try:
            with trio.fail_after(shared.config.upstream.connect_seconds):
                sock = await open_socket(self.upstream)
                upstream: Transport
                if shared.upstream_tls is None:
                    upstream = SocketTransport(sock)
                else:
                    upstream = await shared.upstream_tls.start(
                        sock, self.upstream, self._tls_context
                    )
                try:
                    # To another proxy's own question an error may come back before that.
                    if not shared.ways.finds_out(first):
                        await shared.ready.wait()
                except BaseException:
                    upstream.close()
                    raise
        except trio.TooSlowError:
            shared.telemetry.not_connected("timeout")
            raise PeerGoneError(f"{self.upstream}: connect timeout") from None
        except PeerGoneError:
            shared.telemetry.not_connected("failed")
            raise
        shared.telemetry.connected(trio.current_time() - began)
        return upstream

    # ------------------------------------------------------------------ what operators see

    @property
    def in_flight(self) -> int:
        """How many requests wait for a reply."""
        return 0 if self._conversation is None else self._conversation.in_flight

    @property
    def state(self) -> str:
        """``starting`` until upstream is reached, then ``idle``, ``active`` with a request in
        flight, or ``monitoring`` where that is only a hello."""
        conversation = self._conversation
        if conversation is None or self.relay is None or not self.relay.connected:
            return "starting"
        if not conversation.in_flight:
            return "idle"
        return "monitoring" if conversation.idle else "active"

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
            row |= {
                "user": conversation.desk.identity.name,
                "application": metadata.application if metadata else "",
                "driver": metadata.driver if metadata else "",
                "driver_version": metadata.driver_version if metadata else "",
                "requests": conversation.requests,
                "in_flight": conversation.in_flight,
                "command": conversation.command,
                "received_bytes": relay.byte_counts()[0],
                "sent_bytes": relay.byte_counts()[3],
            }
        return row

    def _totals(self) -> dict[str, Any]:
        if self._conversation is None or self.relay is None:
            return {}
        return {
            "requests": self._conversation.requests,
            "user": self._conversation.desk.identity.name,
        }

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
        self._log.info("authenticated", user=identity.name or "nobody")

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

    def unknown_member(self) -> None:
        self._shared.unknown_member()


def by_owner(connections: Iterable[Connection]) -> dict[str, dict[bytes, list[Connection]]]:
    """Those that can ask right now, by upstream address and by owner's digest.

    Those that may kill anybody's sessions are also under :data:`EVERYBODY`.
    """
    found: dict[str, dict[bytes, list[Connection]]] = {}
    for connection in connections:
        if (place := connection.place) is not None:
            owners = found.setdefault(place[0], {})
            owners.setdefault(place[1], []).append(connection)
            if connection.kills_for_all:
                owners.setdefault(EVERYBODY, []).append(connection)
    return found
