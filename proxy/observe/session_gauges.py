"""What the metrics say of the sessions of the moment.

Nothing here walks the sessions: the store keeps counts by owner and by origin, and what is
walked (owners, origins, open transactions) is walked in slices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from heapq import nlargest
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proxy.counting import OTHER
from proxy.observe.budget_gauges import BudgetReading
from proxy.observe.families import counter, histogram
from proxy.observe.labels import clean

if TYPE_CHECKING:
    from policies.session_budget import SessionBudget
    from proxy.observe.families import Page
    from proxy.session.counts import Counts
    from proxy.session.records import Owner
    from proxy.session.store import SessionStore

T = TypeVar("T")

#: Owners, applications and drivers that are named; the rest is ``other``.
TOP: Final = 20
#: Of how many of them it is shown which applications and drivers they use, how many lines that
#: may take, and how many sessions of each are looked at to find out.
_OWNERS: Final = 10
TOP_GROUPS: Final = 20
_SAMPLE: Final = 1_000
#: Owners of open transactions that are named.
TOP_TRANSACTIONS: Final = 10

#: Looked at before others have their turn, which takes one or two milliseconds.
_OWNERS_AT_ONCE: Final = 2_000
_TRANSACTIONS_AT_ONCE: Final = 1_000
_SESSIONS_AT_ONCE: Final = 1_000

#: Beyond these the figures are lower bounds.
_MOST_TRANSACTIONS: Final = 20_000
_MOST_SLICES: Final = 200


class SessionReading:
    """One reading on its way through the store. ``budget`` is the rule with the bounds, ``counts``
    what has happened to all of the sessions, if it is not only what the store says."""

    def __init__(
        self,
        store: SessionStore,
        budget: SessionBudget,
        page: Page,
        counts: Counts | None = None,
    ) -> None:
        self._store = store
        self._counts = counts or store.counts
        self._page = page
        self._budgets = BudgetReading(store, budget, page)

    def owners(self) -> Iterator[None]:
        sessions: Counter[str] = Counter()
        live: Counter[str] = Counter()
        transactions: Counter[str] = Counter()
        most: list[Owner] = []
        for owners in slices(self._store.owners(), _OWNERS_AT_ONCE):
            for owner in owners:
                sessions[owner.name] += owner.sessions.count
                live[owner.name] += owner.places
                if owner.open_transactions:
                    transactions[owner.name] += owner.open_transactions
            most = nlargest(_OWNERS, most + owners, key=_sessions)
            yield
        self._page.gauge(
            "owner_sessions",
            "Sessions by the owners that have most; those of nobody under an empty name.",
            ("owner",),
            top(sessions),
        )
        self._page.gauge(
            "owner_open_transactions",
            "Open transactions by the owners that have most.",
            ("owner",),
            top(transactions),
        )
        self._page.gauge(
            "owner_live_sessions",
            "Those of them that have a place, by the owners that have most.",
            ("owner",),
            top(live),
        )
        yield from self._budgets.users(live, sessions)
        cursors: Counter[str] = Counter()
        for some in slices(self._store.cursor_owners(), _OWNERS_AT_ONCE):
            for owner, count in some:
                cursors[owner.name] += count
            yield
        self._page.gauge(
            "owner_cursors",
            "Open cursors by the owners that have most.",
            ("owner",),
            top(cursors),
        )
        yield from self._groups(most)

    def _groups(self, owners: list[Owner]) -> Iterator[None]:
        held: dict[tuple[str, ...], float] = {}
        for owner in owners:
            looked_at = owner.sessions.sample(_SAMPLE)
            found = Counter((one.origin.application, one.origin.driver) for one in looked_at)
            each = owner.sessions.count / max(1, len(looked_at))
            for (application, driver), count in found.items():
                who = (clean(owner.name), clean(application), clean(driver))
                held[who] = held.get(who, 0.0) + count * each
            yield
        self._page.gauge(
            "group_sessions",
            "Sessions of the owners that have most, by application and driver; an estimate from "
            f"{_SAMPLE:,} sessions of each owner who has more.",
            ("owner", "application", "driver"),
            dict(nlargest(TOP_GROUPS, held.items(), key=_value)),
        )

    def origins(self) -> Iterator[None]:
        applications: Counter[str] = Counter()
        drivers: Counter[tuple[str, str]] = Counter()
        for groups in slices(self._store.origins(), _OWNERS_AT_ONCE):
            for group in groups:
                origin = group.origin
                applications[origin.application] += group.sessions
                drivers[origin.driver, origin.driver_version] += group.sessions
            yield
        self._page.gauge(
            "application_sessions",
            "Sessions by the applications that have most; those without a name under an empty one.",
            ("application",),
            top(applications),
        )
        self._page.gauge(
            "driver_sessions",
            "Sessions by the drivers that have most, each version of its own.",
            ("driver", "driver_version"),
            top(drivers, 2),
        )
        live = Counter({one: self._store.application_live(one) for one in applications})
        self._page.gauge(
            "application_live_sessions",
            "Those of them that have a place, by the applications that have most.",
            ("application",),
            top(live),
        )
        yield from self._budgets.applications(live, applications)

    def budgets(self) -> None:
        """How much of each budget is used, by whoever uses most of it."""
        self._budgets.shown()

    def longest_idle(self, now: float) -> Iterator[None]:
        store = self._store
        seconds = 0.0
        for found in islice(store.longest_idle(_SESSIONS_AT_ONCE), _MOST_SLICES):
            if found is not None:
                seconds = now - found.last_use
            yield
        self._page.number(
            "session_idlest_seconds",
            "How long the session that is idle for longest has been so.",
            seconds,
        )

    def counts(self, now: float) -> None:
        """What the store counts itself."""
        store, counts = self._store, self._counts
        self._page.number("sessions", "Sessions that are tracked.", len(store))
        self._page.number(
            "sessions_live",
            "Sessions that have a place: used since they were ended or killed, or with something "
            "open.",
            store.live(),
        )
        self._page.total("sessions_started_total", "Sessions that came into being.", counts.started)
        self._page.append(
            counter(
                "sessions_ended_total",
                "Sessions that were ended or killed, or left: expired, or refused by upstream.",
                ("reason",),
                {
                    ("ended",): counts.ended,
                    ("killed",): counts.killed,
                    ("expired",): counts.expired,
                    ("refused",): counts.refused,
                },
            )
        )
        self._page.total(
            "sessions_untracked_total", "Uses of sessions that found no room.", store.untracked
        )
        self._page.append(
            counter(
                "tracking_dropped_total",
                "What was not remembered, or forgotten early, for want of room.",
                ("what",),
                {("cursor",): counts.cursors_dropped, ("origin",): store.vague_origins},
            )
        )
        self._page.total(
            "transactions_started_total",
            "Transactions that were seen to begin.",
            counts.transactions_started,
        )
        self._page.append(
            counter(
                "transactions_ended_total",
                "Transactions that were seen open and then to end.",
                ("outcome",),
                {(outcome,): count for outcome, count in counts.transactions.items()},
            )
        )
        self._page.append(
            histogram(
                "transaction_duration_seconds",
                "From a transaction's first reply to its last.",
                "outcome",
                counts.durations,
            )
        )
        self._page.total(
            "transaction_statements_total",
            "Commands that succeeded in transactions.",
            counts.statements,
        )
        self._page.total(
            "retryable_writes_total", "Retryable writes that succeeded.", counts.retryable_writes
        )
        self._page.total(
            "retryable_write_replays_total",
            "Retryable writes with a txnNumber and statements that had been sent before.",
            counts.replays,
        )
        oldest = store.oldest_cursor()
        self._page.number("cursors_open", "Open cursors.", store.open_cursors())
        self._page.number(
            "cursor_oldest_seconds",
            "Age of the cursor that is open for longest; 0 without one.",
            0.0 if oldest is None else now - oldest,
        )

    def transactions(self, now: float) -> Iterator[None]:
        oldest = longest = 0.0
        idle: dict[tuple[str, ...], float] = {}
        found = 0
        for sessions in self._store.open_transaction_sessions():
            found += len(sessions)
            if found > _MOST_TRANSACTIONS:
                break
            for session in sessions:
                tracker = session.transaction
                if tracker is None:
                    continue
                oldest = max(oldest, now - tracker.started)
                if session.activity is not None and session.activity.operations:
                    continue
                seconds = now - tracker.last_use
                longest = max(longest, seconds)
                origin = session.origin
                key = (session.owner.name, origin.application, origin.driver)
                idle[key] = max(idle.get(key, 0.0), seconds)
            yield
        named: dict[tuple[str, ...], float] = {}
        for who, seconds in nlargest(TOP_TRANSACTIONS, idle.items(), key=_value):
            label = tuple(map(clean, who))
            named[label] = max(named.get(label, 0.0), seconds)
        self._page.number("transactions_open", "Open transactions.", self._store.open_transactions)
        self._page.number(
            "transaction_oldest_seconds",
            "Age of the transaction that is open for longest; 0 without one.",
            oldest,
        )
        self._page.number(
            "transaction_idlest_seconds",
            "How long the open transaction that waits longest for its client has waited.",
            longest,
        )
        self._page.gauge(
            "transaction_idle_seconds",
            "How long open transactions wait for their clients, the longest of each.",
            ("owner", "application", "driver"),
            named,
        )


def _sessions(owner: Owner) -> int:
    return owner.sessions.count


def _value(item: tuple[Any, float]) -> float:
    return item[1]


def slices(items: list[T], size: int) -> Iterator[list[T]]:
    """``items`` in order, ``size`` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def top(counts: Mapping[Any, int], labels: int = 1) -> dict[tuple[str, ...], float]:
    """The :data:`TOP` largest counts by name, or by tuples of so many names (the ``labels``);
    the sum of the others as ``other``."""
    named: dict[tuple[str, ...], float] = {}
    rest = sum(counts.values())
    for name, count in nlargest(TOP, counts.items(), key=_value):
        # Two names may be the same once they are cut.
        label = tuple(map(clean, name if isinstance(name, tuple) else (name,)))
        named[label] = named.get(label, 0) + count
        rest -= count
    others = (OTHER,) + ("",) * (labels - 1)
    named[others] = named.get(others, 0) + rest
    return named
