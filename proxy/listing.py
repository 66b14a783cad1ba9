"""Sessions, transactions, cursors and connections as rows for people, and what these can be
filtered and sorted by.

Rows are JSON-like; times are in seconds before ``now``. What a row is sorted by is absolute, so
that the order stays the same from one page of a listing to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from proxy.session.records import Selection
from proxy.session.transactions import State
from proxy.slices import in_slices

if TYPE_CHECKING:
    from proxy.session.records import CursorId, Ending, Session
    from proxy.session.store import SessionStore

T = TypeVar("T")
Row = dict[str, Any]
#: All values of one order are of one type.
Key = str | float

EVERYTHING: Final = Selection(everything=True)

#: Sessions whose cursors are gathered in one go.
_BATCH: Final = 500

#: More seconds than any clock here shows.
_LONG: Final = 1e11


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One kind of row, made from a ``T``.

    ``texts`` are filtered by patterns, ``ages`` (in seconds) by a minimum, ``states`` by name.
    ``words`` are texts that only a search through everything looks at. ``orders`` give what to
    sort by, ``identity`` tells apart what sorts alike.
    """

    name: str
    texts: Mapping[str, Callable[[T], str]]
    words: Callable[[T], list[str]]
    states: Mapping[str, Callable[[T], bool]]
    orders: Mapping[str, Callable[[T], Key]]
    identity: Callable[[T], bytes]
    default_order: str
    ages: Mapping[str, Callable[[T, float], float]] = field(default_factory=dict)


# ---------------------------------------------------------------------- sessions


def session_rows(store: SessionStore, now: float) -> Iterator[Row]:
    """One row per session that is not forgotten."""
    for sessions in session_batches(store):
        for session in sessions:
            yield session_row(session, store.ending(session), now)


def session_batches(store: SessionStore) -> Iterator[list[Session]]:
    """Every session that exists all the while exactly once, some at a time."""
    start: int | None = 0
    while start is not None:
        page = store.page(start)
        yield page.sessions
        start = page.next


def session_row(session: Session, ending: tuple[Ending, float] | None, now: float) -> Row:
    """One session as a row."""
    activity, tracker, origin = session.activity, session.transaction, session.origin
    operations = [] if activity is None else list(activity.operations)
    row: Row = {
        "session": uuid_text(session.id),
        "uid": session.owner.uid.hex(),
        "owner": session.owner.name,
        "client": origin.client,
        "application": origin.application,
        "driver": origin.driver,
        "driver_version": origin.driver_version,
        "age_seconds": round(now - session.first_use, 3),
        "idle_seconds": _idle(session, now),
        "operations": [
            {
                "conn": o.connection,
                "command": o.command,
                "seconds": round(now - o.started, 3),
                "upstream": o.upstream,
            }
            for o in operations
        ],
        "cursors": _cursors(session),
        "txn_number": None,
        "transaction": None,
        "ended": None if ending is None else ending[0].value,
    }
    if tracker is not None and tracker.number >= 0:
        row["txn_number"] = tracker.number
        row["transaction"] = tracker.state.value
        row["statements"] = sum(map(len, tracker.statements or ()))
        if tracker.state is State.IN_PROGRESS:
            row["transaction_seconds"] = round(now - tracker.started, 3)
            row["transaction_idle_seconds"] = (
                0.0 if operations else round(now - tracker.last_use, 3)
            )
    return row


def uuid_text(session_id: bytes) -> str:
    """A session's id as people write it."""
    digits = session_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _busy(session: Session) -> bool:
    return session.activity is not None and bool(session.activity.operations)


def _cursors(session: Session) -> int:
    return 0 if session.activity is None else len(session.activity.cursors)


def _idle(session: Session, now: float) -> float:
    return 0.0 if _busy(session) else round(now - session.last_use, 3)


def in_transaction(session: Session) -> bool:
    """Whether the session has a transaction open."""
    return session.state is State.IN_PROGRESS


def _at_rest(session: Session) -> bool:
    return session.activity is None and not in_transaction(session)


def _transaction_key(session: Session) -> float:
    tracker = session.transaction
    return -tracker.started if tracker is not None and in_transaction(session) else -inf


def _operation_key(session: Session) -> float:
    if session.activity is None or not session.activity.operations:
        return -inf
    return -min(one.started for one in session.activity.operations)


def _session_words(session: Session) -> list[str]:
    words = [uuid_text(session.id), session.origin.driver_version]
    if session.activity is not None:
        words += [one.command for one in session.activity.operations]
        words += session.activity.cursors.values()
    return words


def _session_identity(session: Session) -> bytes:
    return session.id + session.owner.uid


_SESSION_TEXTS: Final[Mapping[str, Callable[[Session], str]]] = {
    "owner": lambda session: session.owner.name,
    "application": lambda session: session.group.origin.application,
    "driver": lambda session: session.group.origin.driver,
    "client": lambda session: session.group.origin.client,
    "session": lambda session: uuid_text(session.id),
    "uid": lambda session: session.owner.uid.hex(),
}


def _activity_key(session: Session) -> float:
    """Open transactions first, then what is in flight, then cursors; in each, the last used."""
    level = 4 * in_transaction(session) + 2 * _busy(session) + (_cursors(session) > 0)
    return -level * _LONG - session.last_use


_SESSION_ORDERS: Final[Mapping[str, Callable[[Session], Key]]] = {
    "owner": lambda session: session.owner.name,
    "application": lambda session: session.group.origin.application,
    "driver": lambda session: session.group.origin.driver,
    "client": lambda session: session.group.origin.client,
    "session": lambda session: session.id.hex(),
    "activity": _activity_key,
    "age": lambda session: -session.first_use,
    "idle": lambda session: -inf if _busy(session) else -session.last_use,
    "cursors": _cursors,
    "operations": _operation_key,
    "transaction": _transaction_key,
    "txn_number": lambda session: session.txn_number,
}

_SESSION_AGES: Final[Mapping[str, Callable[[Session, float], float]]] = {
    "min_age": lambda session, now: now - session.first_use,
    "min_idle": _idle,
}


def session_listing(store: SessionStore) -> Listing[Session]:
    """The listing of all sessions; by default what has something open comes first."""

    def ending(session: Session) -> str:
        found = store.ending(session)
        return "" if found is None else found[0].value

    return Listing(
        name="sessions",
        texts=_SESSION_TEXTS,
        words=_session_words,
        states={
            "operation": _busy,
            "cursor": lambda session: _cursors(session) > 0,
            "transaction": in_transaction,
            "idle": _at_rest,
            "ended": lambda session: ending(session) == "ended",
            "killed": lambda session: ending(session) == "killed",
        },
        orders=_SESSION_ORDERS,
        identity=_session_identity,
        default_order="activity",
        ages=_SESSION_AGES,
    )


# ---------------------------------------------------------------------- transactions


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
    texts=_SESSION_TEXTS,
    words=_session_words,
    states={"operation": _busy, "idle": lambda session: not _busy(session)},
    orders={
        **_SESSION_ORDERS,
        "age": _transaction_key,
        "idle": lambda session: -inf if _busy(session) else -_last_transaction_use(session),
    },
    identity=_session_identity,
    default_order="-age",
    ages={
        "min_age": lambda session, now: now + _transaction_key(session),
        "min_idle": lambda session, now: (
            0.0 if _busy(session) else now - _last_transaction_use(session)
        ),
    },
)


# ---------------------------------------------------------------------- cursors


class OpenCursor(NamedTuple):
    """A cursor that a session has open; ``namespace`` is ``db.collection``."""

    id: CursorId
    namespace: str
    session: Session
    opened: float


def open_cursors(store: SessionStore) -> Iterator[list[OpenCursor]]:
    """Every cursor that is open in a session, some at a time."""
    for sessions in in_slices(store.active(EVERYTHING), _BATCH):
        yield [
            OpenCursor(cursor, namespace, session, store.cursor_opened_at(cursor) or 0.0)
            for session in sessions
            if session.activity is not None
            for cursor, namespace in session.activity.cursors.items()
        ]


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
        "age_seconds": round(now - cursor.opened, 3),
        "idle_seconds": _idle(session, now),
        "transaction": session.state is State.IN_PROGRESS,
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
    },
    words=lambda cursor: [str(cursor.id.id)],
    states={
        "operation": lambda cursor: _busy(cursor.session),
        "transaction": lambda cursor: in_transaction(cursor.session),
        "idle": lambda cursor: not _busy(cursor.session),
    },
    orders={
        "owner": lambda cursor: cursor.session.owner.name,
        "application": lambda cursor: cursor.session.origin.application,
        "driver": lambda cursor: cursor.session.origin.driver,
        "client": lambda cursor: cursor.session.origin.client,
        "session": lambda cursor: cursor.session.id.hex(),
        "namespace": lambda cursor: cursor.namespace,
        "age": lambda cursor: -cursor.opened,
        "idle": lambda cursor: _SESSION_ORDERS["idle"](cursor.session),
    },
    identity=lambda cursor: f"{cursor.id.upstream} {cursor.id.id}".encode(),
    default_order="-age",
    ages={
        "min_age": lambda cursor, now: now - cursor.opened,
        "min_idle": lambda cursor, now: _idle(cursor.session, now),
    },
)


# ---------------------------------------------------------------------- connections


def text_of(name: str) -> Callable[[Row], str]:
    """A row's text, "" where it has none."""
    return lambda row: str(row.get(name, ""))


def number_of(name: str) -> Callable[[Row], Key]:
    """A row's number, 0 where it has none."""
    return lambda row: float(row.get(name) or 0)


_CONNECTION_TEXTS: Final[Mapping[str, Callable[[Row], str]]] = {
    "owner": text_of("user"),
    "application": text_of("application"),
    "driver": text_of("driver"),
    "client": text_of("client"),
    "upstream": text_of("upstream"),
    "conn": text_of("conn"),
}

CONNECTIONS: Final[Listing[Row]] = Listing(
    name="connections",
    texts=_CONNECTION_TEXTS,
    words=lambda row: [str(row.get("command", "")), str(row.get("driver_version", ""))],
    states={
        "operation": lambda row: bool(row.get("in_flight")),
        "idle": lambda row: not row.get("in_flight"),
    },
    orders={
        **{name: _CONNECTION_TEXTS[name] for name in _CONNECTION_TEXTS if name != "conn"},
        "conn": number_of("conn"),
        "age": lambda row: -float(row["conn"]),
        "requests": number_of("requests"),
        "received": number_of("received_bytes"),
        "sent": number_of("sent_bytes"),
    },
    identity=lambda row: int(row["conn"]).to_bytes(8, "big"),
    default_order="-conn",
)
