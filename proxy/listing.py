"""Sessions as rows for people: what the store knows, in JSON's terms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from proxy.session.records import Session
    from proxy.session.store import SessionStore


def session_rows(store: SessionStore, now: float) -> Iterator[dict[str, Any]]:
    """One row per session that is not forgotten; times in seconds before ``now``."""
    start: int | None = 0
    while start is not None:
        page = store.page(start)
        for session in page.sessions:
            yield session_row(store, session, now)
        start = page.next


def session_row(store: SessionStore, session: Session, now: float) -> dict[str, Any]:
    """One session as a row."""
    activity, tracker, origin = session.activity, session.transaction, session.origin
    ending = store.ending(session)
    operations = [] if activity is None else list(activity.operations)
    row: dict[str, Any] = {
        "session": str(UUID(bytes=session.id)),
        "uid": session.owner.uid,
        "owner": session.owner.name,
        "client": origin.client,
        "application": origin.application,
        "driver": origin.driver,
        "driver_version": origin.driver_version,
        "age_seconds": round(now - session.first_use, 3),
        "idle_seconds": 0.0 if operations else round(now - session.last_use, 3),
        "operations": [
            {"conn": o.connection, "command": o.command, "seconds": round(now - o.started, 3)}
            for o in operations
        ],
        "cursors": 0 if activity is None else len(activity.cursors),
        "txn_number": None,
        "transaction": None,
        "ended": None if ending is None else ending[0].value,
    }
    if tracker is not None and tracker.number >= 0:
        row["txn_number"] = tracker.number
        row["transaction"] = tracker.state.value
        row["statements"] = sum(map(len, tracker.statements or ()))
    return row
