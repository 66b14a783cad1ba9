"""How much of everything there is, and who has it: sums that let go of the loop in between."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

import trio

from proxy.listing import (
    EVERYTHING,
    Listing,
    Row,
    number_of,
    session_batches,
    text_of,
)
from proxy.listing.slices import in_slices
from proxy.session.transactions import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.session.records import OriginGroup, Owner
    from proxy.session.store import SessionStore


async def summary(store: SessionStore, now: float) -> Row:
    """Sessions, transactions, cursors and operations in numbers; times in seconds."""
    operations = 0
    oldest_operation = oldest_transaction = idlest_transaction = inf
    for some in in_slices(store.active(EVERYTHING)):
        for session in some:
            activity = session.activity
            if activity is not None:
                for operation in activity.operations:
                    operations += 1
                    oldest_operation = min(oldest_operation, operation.started)
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
        "sessions_limit": store.max_sessions,
        "transactions": store.open_transactions,
        "transactions_oldest_seconds": _since(oldest_transaction, now),
        "transactions_idlest_seconds": _since(idlest_transaction, now),
        "cursors": store.open_cursors(),
        "cursors_oldest_seconds": _since(inf if cursor is None else cursor, now),
        "operations": operations,
        "operations_oldest_seconds": _since(oldest_operation, now),
    }


def _since(then: float, now: float) -> float:
    return 0.0 if then == inf else max(0.0, round(now - then, 3))


class _Group:
    """The sessions that one owner has made with one application and driver."""

    __slots__ = ("cursors", "first_use", "last_use", "operations", "sessions", "transactions")

    def __init__(self) -> None:
        self.sessions = self.transactions = self.cursors = self.operations = 0
        self.first_use = self.last_use = inf


async def groups(store: SessionStore, per_user: int, per_application: int, now: float) -> list[Row]:
    """One row per owner, application and driver, with the budgets (0: none) that they share."""
    found: dict[tuple[str, str, str, str], _Group] = {}
    # By the objects that sessions share, so that most sessions cost one look-up.
    shortcut: dict[tuple[Owner, OriginGroup], _Group] = {}
    for batch in session_batches(store):
        for some in in_slices(batch):
            for session in some:
                whose = session.owner, session.group
                if whose in shortcut:
                    group = shortcut[whose]
                else:
                    _, application, driver, version = session.origin
                    key = session.owner.name, application, driver, version
                    group = shortcut[whose] = found.setdefault(key, _Group())
                group.sessions += 1
                group.first_use = min(group.first_use, session.first_use)
                group.last_use = min(group.last_use, session.last_use)
                group.transactions += sum(
                    one.state is State.IN_PROGRESS for one in session.with_children
                )
                if session.activity is not None:
                    group.cursors += len(session.activity.cursors)
                    group.operations += len(session.activity.operations)
            await trio.lowlevel.checkpoint()
    owners: dict[str, int] = {}
    applications: dict[str, int] = {}
    for (owner, application, _, _), group in found.items():
        owners[owner] = owners.get(owner, 0) + group.sessions
        applications[application] = applications.get(application, 0) + group.sessions
    rows: list[Row] = []
    for part in in_slices(found.items()):
        for (owner, application, driver, version), group in part:
            row: Row = {
                "owner": owner,
                "application": application,
                "driver": driver,
                "driver_version": version,
                "sessions": group.sessions,
                "transactions": group.transactions,
                "cursors": group.cursors,
                "operations": group.operations,
                "oldest_seconds": _since(group.first_use, now),
                "idlest_seconds": _since(group.last_use, now),
                "owner_sessions": owners[owner],
                "application_sessions": applications[application],
                "budget_used": None,
            }
            shares = []
            if per_user and owner:
                shares.append(owners[owner] / per_user)
            if per_application:
                shares.append(applications[application] / per_application)
            if shares:
                row["budget_used"] = round(max(shares), 4)
            rows.append(row)
        await trio.lowlevel.checkpoint()
    return rows


def _identity(row: Mapping[str, str]) -> bytes:
    names = (row["owner"], row["application"], row["driver"], row["driver_version"])
    return "\0".join(names).encode("utf-8", "surrogatepass")


GROUPS: Final[Listing[Row]] = Listing(
    name="groups",
    texts={name: text_of(name) for name in ("owner", "application", "driver")},
    words=lambda row: [str(row["driver_version"])],
    states={
        "operation": lambda row: row["operations"] > 0,
        "cursor": lambda row: row["cursors"] > 0,
        "transaction": lambda row: row["transactions"] > 0,
    },
    orders={
        **{name: text_of(name) for name in ("owner", "application", "driver")},
        **{
            name.removesuffix("_seconds"): number_of(name)
            for name in (
                *("sessions", "transactions", "cursors", "operations"),
                *("oldest_seconds", "idlest_seconds", "owner_sessions", "budget_used"),
            )
        },
    },
    identity=_identity,
    default_order="-sessions",
)
