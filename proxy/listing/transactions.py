"""Open transactions as rows."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Final

from proxy.listing.kinds import Listing, Row, seconds_since
from proxy.listing.sessions import (
    SESSION_ORDERS,
    SESSION_TEXTS,
    Transacting,
    is_busy,
    session_identity,
    session_row,
    session_words,
    transaction_key,
)
from proxy.session.ids import child_text

if TYPE_CHECKING:
    from proxy.session.store import SessionStore


def transaction_row(session: Transacting, now: float) -> Row:
    """A session's open transaction; ``conn`` and ``upstream`` are where it was used last.

    ``child`` says which child session's it is, None for the session's own.
    """
    tracker = session.transaction
    assert tracker is not None
    row = session_row(session, None, now)
    return {
        "session": row["session"],
        "uid": row["uid"],
        "owner": row["owner"],
        "client": row["client"],
        "application": row["application"],
        "driver": row["driver"],
        "driver_version": row["driver_version"],
        "child": child_text(session.child) if session.child else None,
        "txn_number": tracker.number,
        "age_seconds": seconds_since(tracker.started, now),
        "idle_seconds": 0.0 if row["operations"] else seconds_since(tracker.last_use, now),
        "operations": row["operations"],
        "cursors": row["cursors"],
        "statements": row.get("statements", 0),
        "upstream": tracker.upstream,
        "conn": tracker.connection,
    }


def open_transactions(store: SessionStore) -> Iterator[list[Transacting]]:
    """The sessions and child sessions with a transaction in progress, some at a time."""
    return store.open_transaction_sessions()


def _last_transaction_use(session: Transacting) -> float:
    return session.transaction.last_use if session.transaction is not None else 0.0


def _upstream(session: Transacting) -> str:
    return session.transaction.upstream if session.transaction is not None else ""


def _words(session: Transacting) -> list[str]:
    return [*session_words(session), *([child_text(session.child)] if session.child else ())]


def _identity(session: Transacting) -> bytes:
    return session_identity(session) + session.child


TRANSACTIONS: Final[Listing[Transacting]] = Listing(
    name="transactions",
    texts={**SESSION_TEXTS, "upstream": _upstream},
    words=_words,
    states={"operation": is_busy, "idle": lambda session: not is_busy(session)},
    orders={
        **SESSION_ORDERS,
        "age": transaction_key,
        "idle": lambda session: -inf if is_busy(session) else -_last_transaction_use(session),
    },
    identity=_identity,
    default_order="-age",
    ages={
        "min_age": lambda session, now: now + transaction_key(session),
        "min_idle": lambda session, now: (
            0.0 if is_busy(session) else now - _last_transaction_use(session)
        ),
    },
)
