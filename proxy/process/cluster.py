"""One upstream cluster as a process serves it: listeners, connections, sessions and rules."""

from __future__ import annotations

import time
from collections.abc import (
    Awaitable,
    Callable,
    Iterator,
)
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import trio

from proxy import logs
from proxy.addresses import Address, parse_address, parse_upstream
from proxy.build import VERSION
from proxy.conversation.sharing import Sessions
from proxy.errors import CommandError, ConfigError, NotDialledError
from proxy.net import tls
from proxy.net.redirected import ANYBODY, Redirection
from proxy.observe import gauges
from proxy.observe.recording import DecisionRecorder
from proxy.observe.slow import SlowLog
from proxy.observe.telemetry import Telemetry
from proxy.process.connection import Connection
from proxy.process.dialling import Dialler
from proxy.process.draining import Draining
from proxy.process.expiry import Expiry
from proxy.process.housekeeping import keep_house
from proxy.process.idling import Idling
from proxy.process.naming import Naming
from proxy.process.outlived import end_outlived
from proxy.process.overdue import end_overdue
from proxy.process.primary import Following, Front
from proxy.process.seeds import find_seeds, keep_seeds
from proxy.process.shared import Shared
from proxy.process.shown import Shown
from proxy.process.uris import pasted, primary_pasted
from proxy.session.known import KnownUsers
from proxy.session.store import SessionStore
from proxy.settings.rules import RULES, make_rules
from proxy.upstream.destinations import Destinations
from proxy.upstream.facts import Upstreams
from proxy.upstream.members import Listeners, MemberListeners
from proxy.upstream.topology import PRIMARY, Topology
from proxy.upstream.watcher import Watcher
from proxy.upstream.ways import Ways

if TYPE_CHECKING:
    import socket

    from proxy.addresses import Address
    from proxy.conversation.rule import Rules
    from proxy.net.listeners import Listener
    from proxy.net.tls import ListenerTls, UpstreamTls
    from proxy.observe.families import Page
    from proxy.process.calm import Seen
    from proxy.process.common import Common
    from proxy.process.reads import Origins, Readings
    from proxy.session.counts import Counts
    from proxy.session.ids import Origin
    from proxy.settings.config import Config

Opened = TypeVar("Opened", bound=MemberListeners)

#: Connections shown between two turns of other work: some 2 ms.
_SLICE: Final = 250


def _topology(config: Config) -> Topology:
    if config.listen.redirected:
        return Destinations(config.seeds)
    uri = parse_upstream(config.upstream.address)
    given = {parse_address(m.upstream): m.advertise for m in config.upstream.members}
    unix = config.listen.address.startswith("/")
    return Topology(
        config.seeds,
        given=given or None,
        replica_set=uri.replica_set,
        # Members' names are no use to clients of a unix socket, which none of them could dial.
        direct=uri.direct or unix or not config.rewrites,
    )


class Cluster(Shown):
    """Create it, :meth:`open` it and have its listeners accept.

    ``name`` is what it is called in listings, metrics and logs; "" where there is but one.
    """

    #: Whether no other process has the same clients, and watches upstream for them too.
    alone: ClassVar[bool] = True

    def __init__(self, common: Common, name: str, config: Config) -> None:
        self.name = name
        self.common = common
        self.config = config
        self.log = logs.of_cluster(name)
        # What only one has to count it counts with the process.
        self.telemetry = Telemetry(VERSION, RULES) if name else common.telemetry
        self.naming = self._make_naming(config.metrics.namespaces)
        self._audit = common.audit.of_cluster(name)
        self._rejected = logs.Seldom(self.log, "client rejected")
        self._refused = logs.Seldom(self.log, "destination refused")
        self._full = logs.Seldom(self.log, "cannot accept", error=True)
        self.seeds = config.seeds
        #: Where to look for seeds, and the set's name if that was there too.
        self._srv = None if config.upstream.members else parse_upstream(config.upstream.address).srv
        self._found_set: str | None = None
        self.topology = _topology(config)
        history = common.history
        self.flight = None if history is None else history.flight(name, whole=self.alone)
        self.sessions_shared = Sessions(
            rules=make_rules(config.policies),
            recorder=DecisionRecorder(self.telemetry, self._audit, self.log, self.flight),
            store=self._make_store(),
            known=self._make_known(),
            enabled=config.sessions.tracking,
            refuse_early=config.sessions.refuse_early,
            sign_refusals=config.sessions.sign_refusals,
            wall_clock=time.time,
        )
        self.sessions_shared.store.flight = self.flight
        self.upstreams = Upstreams.as_set(config.sessions)
        upstream_tls = tls.upstream_tls(config)
        ready = trio.Event()
        # One cluster's clients may be another one of this process.
        mark = f"{common.mark}/{name}/" if name else common.mark
        # What several processes see of upstream one of them says.
        said = self.log if self.alone else logs.quietly(self.log)
        ways = Ways(upstream_tls, config.upstream, mark, said)
        self.shared = Shared(
            cluster=name,
            config=config,
            telemetry=self.telemetry,
            budget=common.budget,
            topology=self.topology,
            sessions=self.sessions_shared,
            upstreams=self.upstreams,
            listener_tls=tls.listener_tls(config),
            upstream_tls=upstream_tls,
            dialler=Dialler(ways, upstream_tls, config.upstream, self.telemetry, ready),
            ready=ready,
            interrupt=self.end_operation,
            find_idle=self._find_idle,
            slow=SlowLog(self.telemetry, self.log, self.flight),
            traces=common.traces,
        )
        self.expiry = Expiry(config, self.log)
        #: By number, the oldest first.
        self.open_connections: dict[int, Connection] = {}
        self._draining = Draining(
            self.open_connections,
            self.store,
            alone=self.alone,
            found=self.found,
            look_there=self.look_there,
        )
        self.listeners = self._make_listeners()
        self.watcher = Watcher(
            self.topology,
            ways,
            config.upstream,
            self._reconcile,
            self.shared.ready,
            self.upstreams,
            said,
        )
        self.shared.unknown_member, self.shared.lost = self.watcher.poke, self.watcher.hurry
        self.following = Following(
            self.topology, config.upstream.connect_seconds, self.watcher.hurry
        )
        self._redirection: Redirection | None = None
        if config.listen.redirected:
            self._redirection = Redirection(config.listen)
            self.shared.dialler.reached = self._reached
        sources = gauges.Sources(
            telemetry=self.telemetry,
            store=self.store,
            known=self.sessions_shared.known,
            counts=self.counts,
            topology=self.topology,
            config=lambda: self.config,
            connections=lambda: list(self.open_connections.values()),
            up=self.watcher.up,
            clock=lambda: (trio.current_time(), time.time()),
            certificates=self.expiry.ends,
        )
        self.telemetry.present = partial(self._read_gauges, sources)
        if not config.rewrites:
            # Nothing about upstream has to be known to leave its hello alone.
            self.shared.ready.set()

    # ------------------------------------------------------------------ what others do otherwise

    def _make_naming(self, most: int) -> Naming:
        return Naming(self.telemetry, most)

    def _make_store(self) -> SessionStore:
        sessions = self.config.sessions
        return SessionStore(max_sessions=sessions.max_sessions, max_cursors=sessions.max_cursors)

    def _make_known(self) -> KnownUsers:
        return KnownUsers()

    def _make_listeners(self) -> Listeners:
        return self._listeners_of(MemberListeners)

    def _listeners_of(self, kind: type[Opened]) -> Opened:
        config = self.config
        members = config.upstream.members
        given = {parse_address(m.upstream): parse_address(m.listen) for m in members}
        if config.listen.primary is not None:
            given[PRIMARY] = parse_address(config.listen.primary)
        listeners = kind(
            self.topology,
            config.listen,
            parse_address(config.listen.address),
            given,
            self._take,
            self._exhausted,
            self.common.inherited,
            reserved=self.common.reserved,
            cluster=self.name,
        )
        listeners.displaced = self.displaced
        return listeners

    def _read_gauges(self, sources: gauges.Sources, page: Page) -> Iterator[None]:
        return gauges.read(sources, page)

    def _owns(self, _connection: int) -> bool:
        """Whether a connection of this number is, or was, this process's."""
        return True

    def counts(self) -> Counts:
        """What has happened to sessions, in all processes."""
        return self.store.counts

    # ------------------------------------------------------------------ its life

    def keep(self, services: trio.Nursery) -> None:
        """Do what has to be done though nobody asks, for as long as ``services`` run."""
        services.start_soon(keep_house, self.sessions_shared, self.upstreams, self.shared.slow)
        services.start_soon(self.shared.probes.run)
        services.start_soon(self.naming.run)
        idling = Idling(
            self.sessions_shared, self.open_connections, lambda: self.config.limits.idle_seconds
        )
        services.start_soon(idling.run)
        connections = self.open_connections.values
        services.start_soon(end_overdue, self.sessions_shared, connections, self._owns)
        services.start_soon(end_outlived, self.store, self.facts, self._owns)
        if self._srv is not None:
            services.start_soon(keep_seeds, self._srv, self.config.upstream, self)

    async def open(self, accepting: trio.Nursery) -> None:
        """Open the first listeners; see :class:`proxy.upstream.members.Listeners`."""
        if self._srv is not None:
            try:
                self.follow(*await find_seeds(self._srv, self.config.upstream))
            except ConfigError as error:
                raise ConfigError([self._said(text) for text in error.problems]) from error
        seeds = self.seeds if self._redirection is None else (ANYBODY,)
        await self.listeners.open_seeds(seeds, accepting)

    def _said(self, problem: str) -> str:
        return f"cluster {self.name}: {problem}" if self.name else problem

    def follow(self, seeds: tuple[Address, ...], replica_set: str | None = None) -> None:
        """Upstream has other seeds from now on, and by DNS this name."""
        self.seeds = seeds
        self._found_set = replica_set or self._found_set
        self.topology.reseed(seeds, self._found_set)
        if self._redirection is None:
            self.listeners.reseed(seeds)
        self.watcher.retarget()

    async def _reconcile(self) -> None:
        await self.listeners.reconcile()
        self.following.moved()

    def drain(self, serving: trio.Nursery, *, replaced: bool) -> None:
        """Let go of the connections; see :class:`proxy.process.draining.Draining`."""
        self._draining.begin(serving, self.config.limits, replaced=replaced)

    async def look(self, resting: Origins) -> Seen | None:
        """As :meth:`proxy.process.calm.Watchers.look`."""
        return await self._draining.look(resting)

    def found(self, origin: Origin | None, then: float, waiting: int) -> bool:
        """Whether a driver has found the new process since then, as far as that tells."""
        return self.common.found.since(self.name, origin, then, waiting)

    async def look_there(self, resting: Origins) -> tuple[Readings, float] | None:
        """As :meth:`proxy.process.calm.Watchers.look_there`."""
        return await self.common.found.look_there(self.name, resting)

    def adopt(self, config: Config, rules: Rules | None) -> None:
        """Have new settings, and ``rules`` unless they stay, take effect with the next request."""
        self.config = config
        self.shared.adopt(config)
        self.sessions_shared.refuse_early = config.sessions.refuse_early
        self.sessions_shared.sign_refusals = config.sessions.sign_refusals
        if rules is not None:
            self.sessions_shared.rules = rules

    def uri(self) -> str:
        """What clients on this machine can paste to connect."""
        return pasted(self.config, self.listeners.addresses())

    def primary_uri(self) -> str | None:
        """The same for whoever follows the primary; None where nobody can."""
        placed = self.listeners.placed()
        fronts = [one.address for place, one in placed if place.upstream == PRIMARY]
        return primary_pasted(self.config, fronts[0]) if fronts else None

    def certificates(self) -> list[ListenerTls | UpstreamTls]:
        """What TLS shows and trusts, on whichever side there is TLS."""
        return [one for one in (self.shared.listener_tls, self.shared.upstream_tls) if one]

    # ------------------------------------------------------------------ connections

    def _take(self, listener: Listener, sock: socket.socket, peer: str) -> None:
        common = self.common
        # Behind a balancer it is not known yet who comes.
        if common.serving is None or (
            self.shared.senders is None and not self.shared.lets_in(peer)
        ):
            sock.close()
        elif not common.places.admit():
            sock.close()
            self.telemetry.rejected("connection limit")
            self._rejected.warn(trio.current_time(), client=peer, reason="connection limit")
        else:
            number = next(common.numbers)
            if listener.upstream == PRIMARY:
                common.serving.start_soon(self._serve_primary, number, sock, peer, listener)
                return
            upstream, refused = self._lead(listener, sock)
            connection = Connection(self.shared, number, sock, peer, upstream, refused)
            self.open_connections[number] = connection
            common.serving.start_soon(self._serve, connection, connection.run)

    def _lead(self, listener: Listener, sock: socket.socket) -> tuple[Address, CommandError | None]:
        """Where a client's connection leads, or may not lead."""
        if self._redirection is None:
            return listener.upstream, None
        try:
            return self._redirection.destination(sock, listener.address.port), None
        except NotDialledError as error:
            self._refused.warn(trio.current_time(), problem=error.error.errmsg)
            return listener.address, error.error

    async def _reached(self, upstream: Address) -> None:
        """A client was connected to a destination of its own: get to know that."""
        if self.hear_of(upstream):
            self._tell_of(upstream)
        await self.watcher.await_asked(upstream)

    def hear_of(self, upstream: Address) -> bool:
        """Clients are connected to ``upstream``; whether that is news."""
        if not self.topology.reached(upstream):
            return False
        self.watcher.look()
        return True

    def _tell_of(self, _upstream: Address) -> None:
        """Tell other processes of a destination."""

    async def _serve_primary(
        self, number: int, sock: socket.socket, peer: str, listener: Listener
    ) -> None:
        found: Address | CommandError | None = None
        try:
            found = await self.following.primary(self.seeds)
        finally:
            if found is None:
                sock.close()
                self.common.places.release()
        refusal = found if isinstance(found, CommandError) else None
        upstream = self.seeds[0] if isinstance(found, CommandError) else found
        connection = Connection(self.shared, number, sock, peer, upstream)
        connection.front = Front(listener, self.config.listen.advertise, refusal)
        self.open_connections[number] = connection
        if self._draining.begun:
            connection.drain()
        await self._serve(connection, partial(self.following.run, connection))

    async def _serve(self, connection: Connection, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        finally:
            del self.open_connections[connection.id]
            self.common.places.release()
            self._draining.left(connection.id)

    def displaced(self, upstream: Address) -> None:
        """A port has come to stand for another member: end the connections to the former one."""
        for connection in self.open_connections.values():
            if connection.upstream == upstream:
                connection.drain()

    def _exhausted(self, error: OSError) -> None:
        self.telemetry.rejected("descriptors")
        self._full.warn(trio.current_time(), problem=str(error))

    def _find_idle(self, upstream: str, uid: bytes) -> Connection | None:
        """A connection that could ask ``upstream`` something as the owner of ``uid`` now."""
        for connection in self.open_connections.values():
            if connection.could_ask(upstream, uid):
                return connection
        return None
