"""What operators see of a cluster and do there: its side of :mod:`proxy.admin`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from policies.session_budget import SessionBudget
from proxy.addresses import parse_address
from proxy.conversation.rule import Mode
from proxy.listing import session_rows
from proxy.listing.slices import in_batches
from proxy.process.asking import by_owner
from proxy.settings.rules import rule_rows, settings_of
from proxy.upstream.standing import standing_rows

if TYPE_CHECKING:
    from proxy.admin.kill import Asker
    from proxy.conversation.facts import UpstreamFacts
    from proxy.conversation.sharing import Sessions
    from proxy.observe.audit import Audit
    from proxy.observe.flight import FlightLog
    from proxy.observe.namespaces import Uses
    from proxy.observe.telemetry import Telemetry
    from proxy.process.common import Common
    from proxy.process.connection import Connection
    from proxy.process.naming import Naming
    from proxy.session.records import InFlight
    from proxy.session.store import SessionStore
    from proxy.settings.config import Config
    from proxy.upstream.facts import Upstreams
    from proxy.upstream.members import Listeners
    from proxy.upstream.topology import Topology
    from proxy.upstream.watcher import Watcher

#: Connections shown between two turns of other work: some 2 ms.
_SLICE: Final = 250

#: Why a connection has ended.
BY_OPERATOR: Final = "by an operator"


class Shown:
    """The part of a cluster that is an :class:`proxy.admin.State`."""

    common: Common
    config: Config
    telemetry: Telemetry
    sessions_shared: Sessions
    topology: Topology
    listeners: Listeners
    upstreams: Upstreams
    watcher: Watcher
    naming: Naming
    open_connections: dict[int, Connection]
    flight: FlightLog | None
    _audit: Audit

    @property
    def store(self) -> SessionStore:
        """The sessions that are known."""
        return self.sessions_shared.store

    def about(self) -> dict[str, Any]:
        """What the process is: version, uptime, connections and their limit."""
        return self.common.about()

    def budget(self) -> SessionBudget:
        """The rule that bounds sessions, as it is set; without bounds where it is off."""
        mode, settings = settings_of(SessionBudget, self.config.policies)
        return SessionBudget(
            SessionBudget.Settings() if mode is Mode.OFF else SessionBudget.Settings(**settings)
        )

    def namespaces_lately(self) -> tuple[Uses, float]:
        """What namespaces were used for of late, and in how many seconds that was."""
        return self.naming.top.lately()

    def rules(self) -> list[dict[str, Any]]:
        """One row per rule, with its mode and settings."""
        return rule_rows(self.config.policies)

    async def askers(self) -> Mapping[str, Mapping[bytes, Sequence[Asker]]]:
        """By upstream address and owner's digest, the connections that can ask right now."""
        return by_owner(self.open_connections.values())

    def facts(self, upstream: str) -> UpstreamFacts:
        """What is known of the process at an address."""
        return self.upstreams.of(parse_address(upstream))

    def end_operation(self, operation: InFlight) -> None:
        """Answer an operation in flight with 11601 and close its connection."""
        connection = self.open_connections.get(operation.connection)
        if connection is not None:
            connection.end_operation(operation)

    async def catch_up(self) -> bool:
        """As :class:`proxy.admin.State`'s: one process alone knows all."""
        return False

    async def connection(self, number: int) -> dict[str, Any] | None:
        """The row of one client connection, and whose operation is in flight there."""
        return self.own_connection(number)

    async def interrupt(self, number: int, request_id: int) -> bool:
        """Answer what upstream works at for a connection with 11601, and close that; False where
        it is not this request any more."""
        return self.interrupt_own(number, request_id)

    async def hang_up(self, number: int) -> bool:
        """Close a client connection; False where there is none of that number."""
        return self.hang_up_own(number)

    def own_connection(self, number: int) -> dict[str, Any] | None:
        """As :meth:`connection`, of those of this process."""
        connection, now = self.open_connections.get(number), trio.current_time()
        return None if connection is None else connection.row(now) | connection.works_at(now)

    def interrupt_own(self, number: int, request_id: int) -> bool:
        """As :meth:`interrupt`, of this process's."""
        connection = self.open_connections.get(number)
        return connection is not None and connection.cut(request_id, BY_OPERATOR)

    def hang_up_own(self, number: int) -> bool:
        """As :meth:`hang_up`, of this process's."""
        connection = self.open_connections.get(number)
        if connection is not None:
            connection.hang_up(f"closed {BY_OPERATOR}")
        return connection is not None

    def audit(self, **what: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Write a line to the audit log."""
        self._audit.record(**what)
        if self.flight is not None:
            self.flight.acted(what)

    def count_kill(self, decision: str, sessions: int) -> None:
        """Count a command that was ``done`` or ``failed``, and the sessions it was first to hit."""
        self.telemetry.control("killSessions", decision)
        if decision == "done":
            self.telemetry.killed("admin", sessions)

    def connections(self) -> Iterable[dict[str, Any]]:
        """One row per open client connection."""
        now = trio.current_time()
        return (connection.row(now) for connection in list(self.open_connections.values()))

    async def connection_rows(self) -> list[dict[str, Any]]:
        """As :meth:`connections`, with other work in between."""
        rows: list[dict[str, Any]] = []
        for some in in_batches(self.connections(), _SLICE):
            rows += some
            await trio.lowlevel.checkpoint()
        return rows

    async def connections_by_upstream(self) -> Mapping[str, int]:
        """How many client connections lead to each process upstream."""
        return Counter(str(one.upstream) for one in self.open_connections.values())

    async def upstream_rows(self) -> list[dict[str, Any]]:
        """One row per process upstream, with whether it answers and which listener leads there."""
        connections = await self.connections_by_upstream()
        placed = {one.upstream: one.address for _, one in self.listeners.placed()}
        now = trio.current_time()
        return standing_rows(self.topology, self.watcher, self.upstreams, placed, connections, now)

    def sessions(self) -> Iterable[dict[str, Any]]:
        """One row per session that is known."""
        return session_rows(self.store, trio.current_time())

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""
        return self.watcher.ready()

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""
        return self.common.draining()
