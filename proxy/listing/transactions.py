"""Open transactions as rows."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Final

from proxy.listing.kinds import Listing, Row
from proxy.listing.sessions import (
    SESSION_ORDERS,
    SESSION_TEXTS,
    is_busy,
    session_identity,
    session_row,
    session_words,
    transaction_key,
)

if TYPE_CHECKING:
    from proxy.session.records import Session
    from proxy.session.store import SessionStore


def transaction_row(session: Session, now: float) -> Row:
    """A session's open transaction; ``conn`` and ``upstream`` are where it was used last."""
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
        "txn_number": tracker.number,
        "age_seconds": round(now - tracker.started, 3),
        "idle_seconds": 0.0 if row["operations"] else round(now - tracker.last_use, 3),
        "operations": row["operations"],
        "cursors": row["cursors"],
        "statements": row.get("statements", 0),
        "upstream": tracker.upstream,
        "conn": tracker.connection,
    }


def open_transactions(store: SessionStore) -> list[Session]:
    """The sessions with a transaction in progress."""
    return list(store.open_transaction_sessions()) if store.open_transactions else []


def _last_transaction_use(session: Session) -> float:
    return session.transaction.last_use if session.transaction is not None else 0.0


TRANSACTIONS: Final[Listing[Session]] = Listing(
    name="transactions",
    texts=SESSION_TEXTS,
    words=session_words,
    states={"operation": is_busy, "idle": lambda session: not is_busy(session)},
    orders={
        **SESSION_ORDERS,
        "age": transaction_key,
        "idle": lambda session: -inf if is_busy(session) else -_last_transaction_use(session),
    },
    identity=session_identity,
    default_order="-age",
    ages={
        "min_age": lambda session, now: now + transaction_key(session),
        "min_idle": lambda session, now: (
            0.0 if is_busy(session) else now - _last_transaction_use(session)
        ),
    },
)
