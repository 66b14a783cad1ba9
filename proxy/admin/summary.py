"""How much of everything there is, and who has it: sums that let go of the loop in between."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from policies.session_budget import Bound, Budget, Count
from proxy.counting import OTHER
from proxy.listing import (
    Listing,
    Row,
    oldest_start,
    seconds_since,
    session_batches,
)
from proxy.listing.slices import SLICE, in_batches, in_slices
from proxy.session.transactions import State

if TYPE_CHECKING:
    from policies.session_budget import SessionBudget
    from proxy.session.records import OriginGroup, Owner
    from proxy.session.store import SessionStore

_NONE: Final = Count(0, 0)

#: Groups that are told apart.
MOST_GROUPS: Final = 100_000


async def summary(store: SessionStore, now: float) -> Row:
    """Sessions, transactions, cursors and operations in numbers; times in seconds."""
    operations = 0
    oldest_operation = oldest_transaction = idlest_transaction = inf
    for some in store.active():
        for session in some:
            activity = session.activity
            if activity is not None:
                operations += len(activity.operations)
                oldest_operation = min(oldest_operation, oldest_start(session))
            for one in session.with_children:
                tracker = one.transaction
                if tracker is not None and one.state is State.IN_PROGRESS:
                    oldest_transaction = min(oldest_transaction, tracker.started)
                    if activity is None or not activity.operations:
                        idlest_transaction = min(idlest_transaction, tracker.last_use)
        await trio.lowlevel.checkpoint()
    cursor = store.oldest_cursor()
    return {
        "sessions": len(store),
        "sessions_live": store.live(),
        "sessions_limit": store.max_sessions,
        "transactions": store.open_transactions,
        "transactions_oldest_seconds": seconds_since(oldest_transaction, now),
        "transactions_idlest_seconds": seconds_since(idlest_transaction, now),
        "cursors": store.open_cursors(),
        "cursors_oldest_seconds": seconds_since(inf if cursor is None else cursor, now),
        "operations": operations,
        "operations_oldest_seconds": seconds_since(oldest_operation, now),
    }


class _Sums:
    """The sessions that one owner has made with one application and driver."""

    __slots__ = (
        *("cursors", "first_use", "last_use", "live", "operations", "sessions", "transactions"),
    )

    def __init__(self) -> None:
        self.sessions = self.live = self.transactions = self.cursors = self.operations = 0
        self.first_use = self.last_use = inf


class Group(NamedTuple):
    """A row of groups to be. What is live has a place, the others are over and known still.

    ``bound`` is what is nearest to be reached: which setting, how many there may be and how many
    there are; None where there is none.
    """

    owner: str
    application: str
    driver: str
    driver_version: str
    sums: _Sums
    of_owner: Count
    of_application: Count
    bound: tuple[Bound, int] | None

    @property
    def budget_used(self) -> float | None:
        """The share of the bound that is used."""
        return None if self.bound is None else round(self.bound[1] / self.bound[0].most, 4)


def _nearest(budget: Budget, owner: Count, application: Count) -> tuple[Bound, int] | None:
    """The bound that is nearest to be reached, and how many there are."""
    all_of_them = (
        (budget.user, owner.live),
        (budget.user_remembered, owner.known),
        (budget.application, application.live),
        (budget.application_remembered, application.known),
    )
    bounds = [one for one in all_of_them if one[0].most]
    return max(bounds, key=lambda one: one[1] / one[0].most, default=None)


async def groups(store: SessionStore, rule: SessionBudget) -> list[Group]:
    """One group per owner, application and driver, with the budgets that they share; where there
    are very many, the rest as one."""
    found: dict[tuple[str, str, str, str], _Sums] = {}
    owners: dict[str, Count] = {}
    applications: dict[str, Count] = {}
    # By the objects that sessions share, so that most sessions cost one look-up.
    shortcut: dict[tuple[Owner, OriginGroup], _Sums] = {}
    for batch in session_batches(store):
        for some in in_slices(batch):
            for session in some:
                whose = session.owner, session.group
                sums = shortcut.get(whose)
                if sums is None:
                    _, application, driver, version, _ = session.origin
                    key = session.owner.name, application, driver, version
                    if key not in found and len(found) >= MOST_GROUPS:
                        key = OTHER, OTHER, OTHER, ""
                    sums = found.setdefault(key, _Sums())
                    if len(shortcut) < MOST_GROUPS:
                        shortcut[whose] = sums
                sums.sessions += 1
                sums.live += session.place > 0
                sums.first_use = min(sums.first_use, session.first_use)
                sums.last_use = min(sums.last_use, session.last_use)
                sums.transactions += sum(
                    one.state is State.IN_PROGRESS for one in session.with_children
                )
                if session.activity is not None:
                    sums.cursors += len(session.activity.cursors)
                    sums.operations += len(session.activity.operations)
            await trio.lowlevel.checkpoint()
    for part in in_batches(found.items()):
        for (owner, application, _, _), sums in part:
            for counts, name in ((owners, owner), (applications, application)):
                live, known = counts.get(name, _NONE)
                counts[name] = Count(live + sums.live, known + sums.sessions)
        await trio.lowlevel.checkpoint()
    made: list[Group] = []
    # To let go of very many at once takes as long as to make them.
    while shortcut or found:
        for _ in range(min(SLICE, len(shortcut))):
            shortcut.popitem()
        for _ in range(min(SLICE, len(found))):
            key, sums = found.popitem()
            of_owner, of_application = owners[key[0]], applications[key[1]]
            bound = _nearest(rule.budget(key[0], key[1]), of_owner, of_application)
            made.append(Group(*key, sums, of_owner, of_application, bound))
        await trio.lowlevel.checkpoint()
    return made


def group_row(group: Group, now: float) -> Row:
    """One group as a row."""
    sums = group.sums
    return {
        "owner": group.owner,
        "application": group.application,
        "driver": group.driver,
        "driver_version": group.driver_version,
        "sessions": sums.sessions,
        "live": sums.live,
        "transactions": sums.transactions,
        "cursors": sums.cursors,
        "operations": sums.operations,
        "oldest_seconds": seconds_since(sums.first_use, now),
        "idlest_seconds": seconds_since(sums.last_use, now),
        "owner_sessions": group.of_owner.known,
        "owner_live": group.of_owner.live,
        "application_sessions": group.of_application.known,
        "application_live": group.of_application.live,
        "budget_used": group.budget_used,
        "bound": None if group.bound is None else group.bound[0].setting,
        "limit": None if group.bound is None else group.bound[0].most,
        "used": None if group.bound is None else group.bound[1],
    }


def _identity(group: Group) -> bytes:
    return "\0".join(group[:4]).encode("utf-8", "surrogatepass")


_TEXTS: Final[dict[str, Callable[[Group], str]]] = {
    "owner": lambda group: group.owner,
    "application": lambda group: group.application,
    "driver": lambda group: group.driver,
}

GROUPS: Final[Listing[Group]] = Listing(
    name="groups",
    texts=_TEXTS,
    words=lambda group: [group.driver_version],
    states={
        "operation": lambda group: group.sums.operations > 0,
        "cursor": lambda group: group.sums.cursors > 0,
        "transaction": lambda group: group.sums.transactions > 0,
    },
    orders={
        **_TEXTS,
        "sessions": lambda group: group.sums.sessions,
        "live": lambda group: group.sums.live,
        "transactions": lambda group: group.sums.transactions,
        "cursors": lambda group: group.sums.cursors,
        "operations": lambda group: group.sums.operations,
        "oldest": lambda group: -group.sums.first_use,
        "idlest": lambda group: -group.sums.last_use,
        "owner_sessions": lambda group: group.of_owner.known,
        "owner_live": lambda group: group.of_owner.live,
        "budget_used": lambda group: group.budget_used or 0,
    },
    identity=_identity,
    default_order="-sessions",
)
