"""What the metrics say of the present: read when somebody asks, in slices.

Where there is something to walk (connections, owners, open transactions), :func:`read` stops
after each slice, so that requests have their turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from policies.session_budget import SessionBudget
from proxy.counting import OTHER
from proxy.observe.families import counter
from proxy.observe.labels import clean
from proxy.observe.session_gauges import SessionReading, slices, top
from proxy.observe.telemetry import MOST_INCIDENTS
from proxy.settings.rules import settings_of

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.net.limits import BufferBudget
    from proxy.observe.families import Page
    from proxy.observe.telemetry import Telemetry
    from proxy.session.counts import Counts
    from proxy.session.known import KnownUsers
    from proxy.session.store import SessionStore
    from proxy.settings.config import Config
    from proxy.upstream.topology import Topology

#: A replica set has at most 50 members, of which those that clients see are fewer.
_MOST_MEMBERS: Final = 32
_MOST_RULES: Final = 30

#: Users and applications, each with each rule, whose refusals are named.
TOP_REFUSED: Final = 50

#: Looked at before others have their turn, which takes about a millisecond.
_CONNECTIONS_AT_ONCE: Final = 200

CLIENT_STATES: Final = ("starting", "idle", "active", "monitoring")


class Served(Protocol):
    """A client connection, as far as it is counted. ``state`` is one of :data:`CLIENT_STATES`."""

    @property
    def upstream(self) -> Address: ...

    @property
    def state(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    @property
    def whose(self) -> tuple[str, str]:
        """The user and the application."""

    def count_bytes(self) -> None:
        """Add to the counters what has passed since the last call."""


@dataclass(slots=True)
class Sources:
    """Where a cluster's figures are. ``up`` says of each upstream process whether it answers;
    ``counts`` is what has happened to sessions in all processes, ``clock`` gives the sessions' time
    and the same moment in seconds since 1970; ``certificates`` is by side, role and file when the
    first of them expires, since 1970."""

    telemetry: Telemetry
    store: SessionStore
    known: KnownUsers
    counts: Callable[[], Counts]
    topology: Topology
    config: Callable[[], Config]
    connections: Callable[[], Sequence[Served]]
    up: Callable[[], Mapping[Address, bool]]
    clock: Callable[[], tuple[float, float]]
    certificates: Callable[[], Mapping[tuple[str, str, str], float]] = dict


@dataclass(slots=True)
class ProcessSources:
    """Where the process's own figures are. ``lingered`` says for how many seconds was waited awake
    in vain; ``workers`` is how many processes serve clients and how often one was replaced."""

    telemetry: Telemetry
    budget: BufferBudget
    config: Callable[[], Config]
    draining: Callable[[], bool]
    lingered: Callable[[], float]
    workers: Callable[[], tuple[int, int]] = lambda: (1, 0)


def read(sources: Sources, page: Page) -> Iterator[None]:
    """Append all families of a cluster to ``page``, stopping between slices."""
    now, wall = sources.clock()
    reading = _Reading(sources, page)
    _, settings = settings_of(SessionBudget, sources.config().policies)
    budget = SessionBudget(SessionBudget.Settings(**settings))
    sessions = SessionReading(sources.store, budget, page, sources.counts())
    yield from reading.connections()
    yield from sessions.owners()
    yield from sessions.origins()
    yield from sessions.transactions(now)
    yield from sessions.longest_idle(now)
    sessions.budgets()
    sessions.counts(now)
    reading.upstreams()
    reading.settings()
    reading.certificates()
    reading.incidents(wall - now)


def read_own(sources: Sources, page: Page) -> Iterator[None]:
    """As :func:`read`, but only what each of several processes has for itself."""
    reading = _Reading(sources, page)
    yield from reading.connections()
    reading.settings()


class _Reading:
    """One reading on its way through what is not sessions."""

    def __init__(self, sources: Sources, page: Page) -> None:
        self._sources = sources
        self._page = page

    def connections(self) -> Iterator[None]:
        sources = self._sources
        clients = {(state,): 0 for state in CLIENT_STATES}
        upstreams: dict[tuple[str, ...], float] = {
            (name, state): 0
            for name in (*map(str, self._members()), OTHER)
            for state in ("idle", "active")
        }
        in_flight = 0
        whose: Counter[tuple[str, str]] = Counter()
        for connections in slices(list(sources.connections()), _CONNECTIONS_AT_ONCE):
            for connection in connections:
                connection.count_bytes()
                state = connection.state
                clients[state,] += 1
                whose[connection.whose] += 1
                in_flight += connection.in_flight
                if state != "starting":
                    used = "idle" if state == "idle" else "active"
                    key = (str(connection.upstream), used)
                    upstreams[key if key in upstreams else (OTHER, used)] += 1
            yield
        self._page.gauge("client_connections", "Open client connections.", ("state",), clients)
        self._page.gauge(
            "user_connections",
            "Open client connections by the users and applications that have most.",
            ("user", "application"),
            top(whose, 2),
        )
        self._page.gauge(
            "upstream_connections", "Open upstream connections.", ("upstream", "state"), upstreams
        )
        self._page.number("requests_in_flight", "Requests that wait for a reply.", in_flight)

    def _members(self) -> tuple[Address, ...]:
        return self._sources.topology.targets()[:_MOST_MEMBERS]

    def upstreams(self) -> None:
        """Which upstream processes answer, and which of them is the primary."""
        up = self._sources.up()
        primary = self._sources.topology.primary
        members = self._members()
        self._page.gauge(
            "upstream_up",
            "1 for an upstream process that answers the proxy's own hello, else 0.",
            ("upstream",),
            {(str(member),): up.get(member, False) for member in members},
        )
        self._page.gauge(
            "upstream_primary",
            "1 for the upstream process that is the primary, else 0.",
            ("upstream",),
            {(str(member),): member == primary for member in members},
        )

    def settings(self) -> None:
        """The rules, and what is remembered for them."""
        sources = self._sources
        self._page.number(
            "users_known_bytes",
            "Bytes that the users whose roles are remembered take, about.",
            sources.known.size,
        )
        tables = sources.config().policies
        rules = {(name, getattr(tables, name).mode): 1 for name in _names(tables)}
        rules |= {(clean(one.rule), str(one.mode)): 1 for one in tables.custom[:_MOST_RULES]}
        self._page.gauge("rule_info", "The rules, each with its mode.", ("rule", "mode"), rules)

    def certificates(self) -> None:
        """Until when they are good; of several in one file and role it is the first to end."""
        self._page.gauge(
            "certificate_expiry_timestamp_seconds",
            "When a certificate in use expires: of those in one file, the first.",
            ("side", "role", "file"),
            self._sources.certificates(),
        )

    def incidents(self, epoch: float) -> None:
        """What operators should know of, and whose doing it was. ``epoch`` is when the clock
        stood at 0."""
        telemetry = self._sources.telemetry
        latest = telemetry.session_incidents.items() + telemetry.rule_incidents.items()
        self._page.gauge(
            "incident_last_timestamp_seconds",
            "Who used sessions as no driver does, was refused by a rule or would have been "
            f"(reported), and when last; the {MOST_INCIDENTS} latest of both.",
            ("kind", "rule", "user", "application", "driver", "driver_version"),
            {who: epoch + when for who, when in latest},
        )
        self._page.append(
            counter(
                "user_refusals_total",
                "What users were refused, or would have been (reported), by those with most.",
                ("decision", "rule", "user", "application"),
                {tuple(who): count for who, count in telemetry.refusals.most(TOP_REFUSED).items()},
            )
        )
        self._page.gauge(
            "refusal_first_timestamp_seconds",
            "Since when somebody is refused, or would be (reported), and by which bound it was"
            f" last; the {MOST_INCIDENTS} latest.",
            ("decision", "rule", "user", "application", "bound", "limit"),
            telemetry.refusals.bounds(MOST_INCIDENTS),
        )


def read_process(sources: ProcessSources, page: Page) -> Iterator[None]:
    """Append what the process itself has to ``page``."""
    limit = sources.config().limits.connections
    # Each client connection has one upstream connection of its own.
    page.gauge(
        "connections_limit",
        "Connections that are held at most, on each side.",
        ("side",),
        {("client",): limit, ("upstream",): limit},
    )
    telemetry = sources.telemetry
    workers, restarts = sources.workers()
    page.number("workers", "Processes that serve clients.", workers)
    page.total("worker_restarts_total", "Workers that died and were replaced.", restarts)
    page.number("draining", "1 while the process drains, else 0.", sources.draining())
    page.number("buffered_bytes", "Bytes held of messages that cannot go on.", sources.budget.used)
    page.number(
        "buffered_bytes_limit",
        "Bytes that may be held of messages that cannot go on.",
        sources.budget.limit,
    )
    page.number(
        "buffered_bytes_waiting",
        "Connections that wait for room for a message.",
        sources.budget.waiting,
    )
    page.total(
        "buffered_bytes_gave_way_total",
        "Connections that were closed for holding room and not getting on.",
        sources.budget.gave_way,
    )
    page.number(
        "config_last_reload_successful",
        "1 if the configuration could be read when it was read last, else 0.",
        telemetry.reload_worked,
    )
    page.number(
        "config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read.",
        telemetry.reloaded_at,
    )
    page.total(
        "busy_poll_seconds",
        "How long was waited awake for messages that did not come.",
        sources.lingered(),
    )
    yield


def _names(tables: Any) -> list[str]:  # noqa: ANN401 - a RuleTables
    return [name for name in type(tables).model_fields if name != "custom"]
