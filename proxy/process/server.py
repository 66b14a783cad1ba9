"""The running proxy: listeners, their connections, signals, reload and drain."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import trio

from proxy import admin, logs
from proxy.addresses import parse_address, parse_upstream
from proxy.build import VERSION
from proxy.conversation.desk import Sessions
from proxy.listing import session_rows
from proxy.listing.slices import in_batches
from proxy.net import readiness, tls
from proxy.net.limits import BufferBudget, Places, raise_descriptor_limit
from proxy.observe import gauges
from proxy.observe.audit import AuditLog
from proxy.observe.recording import DecisionRecorder
from proxy.observe.scraping import watch_the_loop
from proxy.observe.telemetry import Telemetry
from proxy.process import pidfile, signals
from proxy.process.beginnings import Beginnings
from proxy.process.connection import Connection, Shared, by_owner
from proxy.process.draining import Draining
from proxy.process.endpoint import Endpoint
from proxy.process.handover import Handover, relieve
from proxy.process.housekeeping import keep_house
from proxy.process.notify import Notifier
from proxy.process.overdue import end_overdue
from proxy.process.reloading import read_certificates, read_settings, take_over
from proxy.process.successor import Left
from proxy.process.uris import pasted
from proxy.session.known import KnownUsers
from proxy.session.store import SessionStore
from proxy.settings.rules import RULES, make_rules, rule_rows
from proxy.upstream.facts import Upstreams
from proxy.upstream.members import Listeners, MemberListeners
from proxy.upstream.topology import Topology
from proxy.upstream.watcher import Watcher

if TYPE_CHECKING:
    import socket

    from proxy.admin.kill import Asker
    from proxy.conversation.facts import UpstreamFacts
    from proxy.conversation.rule import Rules
    from proxy.net.inherited import Inherited
    from proxy.net.listeners import Listener
    from proxy.observe.families import Page
    from proxy.session.counts import Counts
    from proxy.session.records import InFlight
    from proxy.settings.config import Config

Opened = TypeVar("Opened", bound=MemberListeners)

#: Connections shown between two turns of other work: some 2 ms.
_SLICE: Final = 250


@dataclass(frozen=True, slots=True)
class Running:
    """What :func:`serve` tells when clients can connect.

    ``addresses`` are those of the first listeners, as clients on this machine dial them, and
    ``uri`` is what to paste; ``admin`` is the admin endpoint, None where it is off.
    """

    addresses: list[str]
    uri: str
    admin: str | None
    server: Server


async def serve(
    config: Config,
    reload: Callable[[], Config] | None = None,
    beginnings: Beginnings | None = None,
    successor: Sequence[str] | None = None,
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the proxy until SIGTERM or SIGINT (then it drains) or until cancelled.

    ``reload`` reads the configuration again when SIGHUP comes. ``beginnings`` is what there was
    before, and ``successor`` the command that SIGUSR2 starts to take over.

    Raises:
        OSError: a listener's address cannot be used; ``filename`` is the address.
        ConfigError: a certificate or a rule of one's own cannot be used.
    """
    await Server(config, reload, beginnings, successor).run(task_status)


class Server:
    """One proxy process. Create it and :meth:`run` it once."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        beginnings: Beginnings | None = None,
        successor: Sequence[str] | None = None,
    ) -> None:
        self.config = config
        self._beginnings = beginnings or Beginnings()
        self._reload = reload
        self.log = logs.logger()
        self._rejected = logs.Seldom(self.log, "client rejected")
        self.telemetry = Telemetry(VERSION, RULES)
        self.telemetry.reloaded(True, time.time())
        uri = parse_upstream(config.upstream.address)
        given = {parse_address(m.upstream): m.advertise for m in config.upstream.members}
        self._seeds = tuple(given) or uri.seeds
        first = parse_address(config.listen.address)
        passes = config.upstream.hello == "pass"
        self.topology = Topology(
            self._seeds,
            given=given or None,
            replica_set=uri.replica_set,
            # Members' names are no use to clients of a unix socket, which none of them could dial.
            direct=uri.direct or passes or bool(first.path),
        )
        self._audit = AuditLog(
            config.audit.file, self.telemetry.audit_written, self.telemetry.audit_lost
        )
        self.sessions_shared = Sessions(
            rules=make_rules(config.policies),
            recorder=DecisionRecorder(self.telemetry, self._audit),
            store=self._make_store(),
            known=self._make_known(),
            enabled=config.sessions.tracking,
            refuse_early=config.sessions.refuse_early,
        )
        self.upstreams = Upstreams(
            {"on": True, "off": False}.get(config.sessions.authorization),
            {"native": True, "emulated": False}.get(config.sessions.commands),
        )
        self.shared = Shared(
            config=config,
            telemetry=self.telemetry,
            budget=BufferBudget(config.limits.buffered_bytes),
            topology=self.topology,
            sessions=self.sessions_shared,
            upstreams=self.upstreams,
            listener_tls=tls.listener_tls(config),
            upstream_tls=tls.upstream_tls(config),
            interrupt=self.end_operation,
            find_idle=self._find_idle,
        )
        self._started = 0.0
        self._notifier = Notifier()
        self._numbers = itertools.count(1)
        self._open: dict[int, Connection] = {}
        self.places = Places(config.limits.connections)
        self._serving: trio.Nursery | None = None
        self._stop = trio.Event()
        self._draining = Draining(self._open, self.store)
        self._handover = Handover(successor, self._notifier, self._left, self._handed_over)
        self._endpoint = Endpoint(config.admin)
        self._listeners = self._make_listeners(self._beginnings.inherited)
        self._watcher = Watcher(
            self.topology,
            self.shared.upstream_tls,
            config.upstream,
            self._listeners.reconcile,
            self.shared.ready,
            self.upstreams,
        )
        self.shared.unknown_member = self._watcher.poke
        sources = gauges.Sources(
            telemetry=self.telemetry,
            store=self.sessions_shared.store,
            known=self.sessions_shared.known,
            counts=self._counts,
            topology=self.topology,
            budget=self.shared.budget,
            config=lambda: self.config,
            connections=lambda: list(self._open.values()),
            up=self._watcher.up,
            draining=self.draining,
            lingered=lambda: readiness.current().lingered,
            clock=lambda: (trio.current_time(), time.time()),
            workers=self.workers,
        )
        self.telemetry.present = partial(self._read_gauges, sources)
        if passes:
            # Nothing about upstream has to be known to leave its hello alone.
            self.shared.ready.set()

    # ------------------------------------------------------------------ what others do otherwise

    def _make_store(self) -> SessionStore:
        sessions = self.config.sessions
        return SessionStore(max_sessions=sessions.max_sessions, max_cursors=sessions.max_cursors)

    def _make_known(self) -> KnownUsers:
        return KnownUsers()

    def _make_listeners(self, inherited: Inherited) -> Listeners:
        return self._open_listeners(MemberListeners, inherited)

    def _open_listeners(self, kind: type[Opened], inherited: Inherited) -> Opened:
        config = self.config
        members = config.upstream.members
        return kind(
            self.topology,
            config.listen,
            parse_address(config.listen.address),
            {parse_address(m.upstream): parse_address(m.listen) for m in members},
            self._take,
            self._exhausted,
            inherited,
        )

    def _make_overview(self, *, executes: bool) -> admin.Process:
        return admin.Process(self, self.telemetry, executes=executes)

    def _read_gauges(self, sources: gauges.Sources, page: Page) -> Iterator[None]:
        return gauges.read(sources, page)

    def _counts(self) -> Counts:
        return self.sessions_shared.store.counts

    def _owns(self, _connection: int) -> bool:
        """Whether a connection of this number is, or was, this process's."""
        return True

    def _number_from(self, first: int) -> None:
        """Number connections from here on."""
        self._numbers = itertools.count(first)

    def _next_number(self) -> int:
        return next(self._numbers)

    async def _begin(self, services: trio.Nursery, serving: trio.Nursery) -> None:
        """What has to be done before clients can be accepted."""

    # ------------------------------------------------------------------ its life

    async def run(self, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
        """As :func:`serve`."""
        raise_descriptor_limit()
        self._started = trio.current_time()
        readiness.current().be_patient(self.config.process.busy_poll_seconds)
        async with trio.open_nursery() as services:
            # Before anything can be seen of the process: a signal must not find the default.
            await services.start(signals.obey, self._orders(services))
            services.start_soon(self._audit.run)
            services.start_soon(watch_the_loop, self.telemetry)
            services.start_soon(keep_house, self.sessions_shared, self.upstreams)
            services.start_soon(end_overdue, self.sessions_shared, self._open.values, self._owns)
            try:
                async with trio.open_nursery() as serving:
                    self._serving = serving
                    async with trio.open_nursery() as accepting:
                        await self._listeners.open_seeds(self._seeds, accepting)
                        await self._endpoint.open(self._beginnings.inherited)
                        await self._begin(services, serving)
                        services.start_soon(self._watcher.run)
                        services.start_soon(self._settle)
                        told = await relieve(
                            self._beginnings.predecessor, self._watcher.ready, self._stop
                        )
                        self._number_from(told.get("numbers", 1))
                        pidfile.write(self.config.process.pid_file)
                        self._listeners.accept()
                        where = await services.start(
                            self._endpoint.serve, self._make_overview, self.telemetry.token_refused
                        )
                        addresses = self._listeners.addresses()
                        running = Running(addresses, pasted(self.config, addresses), where, self)
                        self._announce(running)
                        self._notifier.ready()
                        services.start_soon(self._notifier.keep_alive)
                        task_status.started(running)
                        await self._stop.wait()
                        await self._stay()
                        self._listeners.close()
                        accepting.cancel_scope.cancel()
                    self._handover.release(numbers=self._next_number())
                    self._drain(serving)
            finally:
                self._listeners.close()
                if not self._handover.done:  # then it is the successor's, or soon will be
                    pidfile.remove(self.config.process.pid_file)
            self.log.info("stopped")
            services.cancel_scope.cancel()

    def _orders(self, services: trio.Nursery) -> dict[int, Callable[[], object]]:
        """What each signal is for."""

        def end(name: str) -> None:
            self.log.info("stopping", signal=name)
            self.stop()

        def read_again() -> None:
            if self._handover.due():
                replace()
                return
            with self._notifier.reloading():
                self.reload()

        def replace() -> None:
            if not self._stop.is_set():
                services.start_soon(self._handover.run)

        return {
            signal.SIGTERM: partial(end, "SIGTERM"),
            signal.SIGINT: partial(end, "SIGINT"),
            signal.SIGHUP: read_again,
            signal.SIGUSR2: replace,
        }

    def _drain(self, serving: trio.Nursery) -> None:
        self.log.info("draining", connections=self.about()["connections"])
        self._draining.begin(serving, self.config.limits, replaced=self._handover.done)

    def stop(self) -> None:
        """Drain and end; the second call ends at once.

        From now on the process says that it is not ready; clients are still taken for as long as
        the settings say.
        """
        if self._stop.is_set():
            if self._serving is not None:
                self._serving.cancel_scope.cancel()
            return
        self._handover.give_up()
        limits = self.config.limits
        self._notifier.stopping(limits.drain_delay_seconds + limits.drain_seconds)
        self._stop.set()

    async def _stay(self) -> None:
        """Go on taking clients for as long as they may still be sent here."""
        if not self._handover.done:
            await trio.sleep(self.config.limits.drain_delay_seconds)

    async def _settle(self) -> None:
        """Once all listeners are open, see what was inherited in vain."""
        await self.shared.ready.wait()
        self._beginnings.inherited.settle()
        unused = self._beginnings.inherited.unused()
        if unused:
            self.log.warning("sockets that no setting asks for", addresses=unused)

    def _left(self) -> Left:
        """What a successor gets."""
        listeners = [(place, one.sockets) for place, one in self._listeners.placed()]
        listeners += self._endpoint.placed()
        kept = self._beginnings.inherited.kept
        return Left(listeners, kept, upstream=self._watcher.ready()[0])

    def _handed_over(self) -> None:
        """The successor waits for its word: accept nobody any more, and drain."""
        self._listeners.leave()
        self._endpoint.close()
        self._stop.set()

    def reload(self) -> None:
        """Read the settings and certificates again; what is bad leaves the old in place.

        Nobody is dropped: rules take effect with the next request, limits and certificates with
        the next connection. Addresses, topology and logs stay as they are until a restart.
        """
        if self._reload is not None:
            read_settings(self, self._reload, self._take_over)
        read_certificates(self)

    def _take_over(self, config: Config, rules: Rules) -> None:
        """Have what takes effect without a restart take effect."""
        take_over(self, config, rules)

    def _announce(self, running: Running) -> None:
        self.log.info(
            "listening",
            version=VERSION,
            connect=running.uri,
            seeds=[str(seed) for seed in self._seeds],
            admin=running.admin,
        )

    # ------------------------------------------------------------------ connections

    def _take(self, listener: Listener, sock: socket.socket, peer: str) -> None:
        if self._serving is None:
            sock.close()
        elif not self.places.admit():
            sock.close()
            self.telemetry.rejected("connection limit")
            self._rejected.warn(trio.current_time(), client=peer, reason="connection limit")
        else:
            number = next(self._numbers)
            connection = Connection(self.shared, number, sock, peer, listener.upstream)
            self._open[number] = connection
            self._serving.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            del self._open[connection.id]
            self.places.release()
            self._draining.left(connection.id)

    def _exhausted(self, error: OSError) -> None:
        self.telemetry.rejected("descriptors")
        self.log.error("cannot accept", problem=str(error))

    def _find_idle(self, upstream: str, uid: bytes) -> Connection | None:
        """A connection that could ask ``upstream`` something as the owner of ``uid`` now."""
        for connection in self._open.values():
            if connection.could_ask(upstream, uid):
                return connection
        return None

    # ------------------------------------------------------------------ admin.State

    @property
    def store(self) -> SessionStore:
        """The sessions that are known."""
        return self.sessions_shared.store

    def about(self) -> dict[str, Any]:
        """What the process is: version, uptime, connections and their limit."""
        return {
            "version": VERSION,
            "uptime_seconds": round(trio.current_time() - self._started, 3),
            "connections": len(self._open),
            "connections_limit": self.config.limits.connections,
        }

    def budgets(self) -> tuple[int, int]:
        """Sessions that one user and one application may have; 0 for any number."""
        budget = self.config.policies.session_budget
        return (0, 0) if budget.mode == "off" else (budget.per_user, budget.per_application)

    def rules(self) -> list[dict[str, Any]]:
        """One row per rule, with its mode and settings."""
        return rule_rows(self.config.policies)

    async def askers(self) -> Mapping[str, Mapping[bytes, Sequence[Asker]]]:
        """By upstream address and owner's digest, the connections that can ask right now."""
        return by_owner(self._open.values())

    def facts(self, upstream: str) -> UpstreamFacts:
        """What is known of the process at an address."""
        return self.upstreams.of(parse_address(upstream))

    def end_operation(self, operation: InFlight) -> None:
        """Answer an operation in flight with 11601 and close its connection."""
        connection = self._open.get(operation.connection)
        if connection is not None:
            connection.end_operation(operation)

    def audit(self, **what: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Write a line to the audit log."""
        self._audit.record(**what)

    def count_kill(self, decision: str, sessions: int) -> None:
        """Count a command that was ``done`` or ``failed``, and the sessions it was first to hit."""
        self.telemetry.control("killSessions", decision)
        if decision == "done":
            self.telemetry.killed("admin", sessions)

    def connections(self) -> Iterable[dict[str, Any]]:
        """One row per open client connection."""
        now = trio.current_time()
        return (connection.row(now) for connection in list(self._open.values()))

    async def connection_rows(self) -> list[dict[str, Any]]:
        """As :meth:`connections`, with other work in between."""
        rows: list[dict[str, Any]] = []
        for some in in_batches(self.connections(), _SLICE):
            rows += some
            await trio.lowlevel.checkpoint()
        return rows

    def workers(self) -> tuple[int, int]:
        """How many processes serve clients, and how often one of them was replaced."""
        return 1, 0

    def sessions(self) -> Iterable[dict[str, Any]]:
        """One row per session that is known."""
        return session_rows(self.sessions_shared.store, trio.current_time())

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""
        return self._watcher.ready()

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""
        return self._stop.is_set()
