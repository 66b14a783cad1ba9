"""Open cursors as rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.listing.kinds import Listing, Row, seconds_since
from proxy.listing.sessions import (
    SESSION_ORDERS,
    idle_seconds,
    in_transaction,
    is_busy,
    uuid_text,
)
from proxy.session.transactions import State

if TYPE_CHECKING:
    from proxy.session.records import CursorId, Session
    from proxy.session.store import SessionStore

#: Cursors that are gathered in one go; a session may have a thousand more.
_BATCH: Final = 500


class OpenCursor(NamedTuple):
    """A cursor that a session has open; ``namespace`` is ``db.collection``, and ``connection`` the
    client's on which it was opened, 0 where that is not known."""

    id: CursorId
    namespace: str
    session: Session
    opened: float
    connection: int = 0


def open_cursors(store: SessionStore) -> Iterator[list[OpenCursor]]:
    """Every cursor that is open in a session, some at a time."""
    found: list[OpenCursor] = []
    for sessions in store.active():
        for session in sessions:
            activity = session.activity
            if activity is None:
                continue
            for cursor, namespace in activity.cursors.items():
                opened = store.cursor_opened_at(cursor) or 0.0
                conn = store.cursor_connection(cursor)
                found.append(OpenCursor(cursor, namespace, session, opened, conn))
            if len(found) >= _BATCH:
                yield found
                found = []
        # Others have their turn, be there something or not.
        yield found
        found = []


def cursor_row(cursor: OpenCursor, now: float) -> Row:
    """One open cursor; idle is its session. ``cursor`` is text: JSON's readers round int64."""
    session, origin = cursor.session, cursor.session.origin
    return {
        "cursor": str(cursor.id.id),
        "namespace": cursor.namespace,
        "upstream": cursor.id.upstream,
        "session": uuid_text(session.id),
        "owner": session.owner.name,
        "client": origin.client,
        "application": origin.application,
        "driver": origin.driver,
        "driver_version": origin.driver_version,
        "age_seconds": seconds_since(cursor.opened, now),
        "idle_seconds": idle_seconds(session, now),
        "transaction": session.state is State.IN_PROGRESS,
        "conn": cursor.connection or None,
    }


CURSORS: Final[Listing[OpenCursor]] = Listing(
    name="cursors",
    texts={
        "owner": lambda cursor: cursor.session.owner.name,
        "application": lambda cursor: cursor.session.origin.application,
        "driver": lambda cursor: cursor.session.origin.driver,
        "client": lambda cursor: cursor.session.origin.client,
        "session": lambda cursor: uuid_text(cursor.session.id),
        "namespace": lambda cursor: cursor.namespace,
        "upstream": lambda cursor: cursor.id.upstream,
        "conn": lambda cursor: str(cursor.connection or ""),
    },
    words=lambda cursor: [str(cursor.id.id)],
    states={
        "operation": lambda cursor: is_busy(cursor.session),
        "transaction": lambda cursor: in_transaction(cursor.session),
        "idle": lambda cursor: not is_busy(cursor.session),
    },
    orders={
        "owner": lambda cursor: cursor.session.owner.name,
        "application": lambda cursor: cursor.session.origin.application,
        "driver": lambda cursor: cursor.session.origin.driver,
        "client": lambda cursor: cursor.session.origin.client,
        "session": lambda cursor: cursor.session.id.hex(),
        "namespace": lambda cursor: cursor.namespace,
        "age": lambda cursor: -cursor.opened,
        "idle": lambda cursor: SESSION_ORDERS["idle"](cursor.session),
    },
    identity=lambda cursor: f"{cursor.id.upstream} {cursor.id.id}".encode(),
    default_order="-age",
    ages={
        "min_age": lambda cursor, now: now - cursor.opened,
        "min_idle": lambda cursor, now: idle_seconds(cursor.session, now),
    },
)
