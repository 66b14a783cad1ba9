"""Sessions as rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from math import inf
from typing import TYPE_CHECKING, Final

from proxy.listing.kinds import Key, Listing, Row, seconds_since
from proxy.session.records import Child, Session
from proxy.session.transactions import State

if TYPE_CHECKING:
    from proxy.session.records import Ending
    from proxy.session.store import SessionStore

#: What can have a transaction.
Transacting = Session | Child

#: More seconds than any clock here shows.
_LONG: Final = 1e11


def session_rows(store: SessionStore, now: float) -> Iterator[Row]:
    """One row per session that is not forgotten."""
    for sessions in session_batches(store):
        for session in sessions:
            yield session_row(session, store.ending(session), now)


#: Operations in one row: a session is for one at a time.
MOST_OPERATIONS: Final = 20

#: Operations and cursors of a session that are looked at where all of them would take long.
_LOOKED_AT: Final = 20


def session_batches(store: SessionStore) -> Iterator[list[Session]]:
    """Every session that exists all the while exactly once, some at a time."""
    start: int | None = 0
    while start is not None:
        page = store.page(start)
        yield page.sessions
        start = page.next


def session_row(session: Transacting, ending: tuple[Ending, float] | None, now: float) -> Row:
    """One session as a row."""
    activity, tracker, origin = session.activity, session.transaction, session.origin
    operations = [] if activity is None else list(islice(activity.operations, MOST_OPERATIONS))
    row: Row = {
        "session": uuid_text(session.id),
        "uid": session.owner.uid.hex(),
        "owner": session.owner.name,
        "client": origin.client,
        "application": origin.application,
        "driver": origin.driver,
        "driver_version": origin.driver_version,
        "age_seconds": seconds_since(session.first_use, now),
        "idle_seconds": idle_seconds(session, now),
        "operations": [
            {
                "conn": o.connection,
                "command": o.command,
                "seconds": seconds_since(o.started, now),
                "upstream": o.upstream,
            }
            for o in operations
        ],
        "cursors": cursor_count(session),
        "txn_number": None,
        "transaction": None,
        "ended": None if ending is None else ending[0].value,
        "live": session.place > 0,
    }
    if tracker is not None and tracker.number >= 0:
        row["txn_number"] = tracker.number
        row["transaction"] = tracker.state.value
        # As the history counts them; outside of a transaction those of a retryable write.
        writes = tracker.state is State.NONE
        row["statements"] = sum(map(len, tracker.statements or ())) if writes else tracker.ran
        if tracker.state is State.IN_PROGRESS:
            row["transaction_seconds"] = seconds_since(tracker.started, now)
            row["transaction_idle_seconds"] = (
                0.0 if operations else seconds_since(tracker.last_use, now)
            )
    if children := open_children(session):
        row["child_transactions"] = children
    return row


def uuid_text(session_id: bytes) -> str:
    """A session's id as people write it."""
    digits = session_id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def is_busy(session: Transacting) -> bool:
    """Whether something is in flight under it."""
    return session.activity is not None and bool(session.activity.operations)


def cursor_count(session: Transacting) -> int:
    """How many cursors it has open."""
    return 0 if session.activity is None else len(session.activity.cursors)


def idle_seconds(session: Transacting, now: float) -> float:
    """How long it has not been used; 0 while something is in flight."""
    return 0.0 if is_busy(session) else seconds_since(session.last_use, now)


def in_transaction(session: Transacting) -> bool:
    """Whether the session or a child of it has a transaction open."""
    return session.state is State.IN_PROGRESS or open_children(session) > 0


def open_children(session: Transacting) -> int:
    """How many child sessions have a transaction open."""
    return sum(one.state is State.IN_PROGRESS for one in session.children)


def _at_rest(session: Session) -> bool:
    return session.activity is None and not in_transaction(session)


def transaction_key(session: Transacting) -> float:
    """What to sort open transactions by; the oldest is the largest."""
    key = -inf
    for one in (session, *session.children):
        tracker = one.transaction
        if tracker is not None and tracker.state is State.IN_PROGRESS:
            key = max(key, -tracker.started)
    return key


def oldest_start(session: Transacting) -> float:
    """When what is in flight for longest under a session began; infinity where nothing is.

    They are in the order in which this process has heard of them.
    """
    if session.activity is None:
        return inf
    some = islice(session.activity.operations, _LOOKED_AT)
    return min((one.started for one in some), default=inf)


def session_words(session: Transacting) -> list[str]:
    """What only a search through everything looks at."""
    words = [uuid_text(session.id), session.origin.driver_version]
    if session.activity is not None:
        words += [one.command for one in islice(session.activity.operations, _LOOKED_AT)]
        words += islice(session.activity.cursors.values(), _LOOKED_AT)
    return words


def session_identity(session: Transacting) -> bytes:
    """Its key, as bytes."""
    return session.id + session.owner.uid


SESSION_TEXTS: Final[Mapping[str, Callable[[Transacting], str]]] = {
    "owner": lambda session: session.owner.name,
    "application": lambda session: session.group.origin.application,
    "driver": lambda session: session.group.origin.driver,
    "client": lambda session: session.group.origin.client,
    "session": lambda session: uuid_text(session.id),
    "uid": lambda session: session.owner.uid.hex(),
}


def _activity_key(session: Transacting) -> float:
    """Open transactions first, then what is in flight, then cursors; in each, the last used."""
    level = 4 * in_transaction(session) + 2 * is_busy(session) + (cursor_count(session) > 0)
    return -level * _LONG - session.last_use


SESSION_ORDERS: Final[Mapping[str, Callable[[Transacting], Key]]] = {
    "owner": lambda session: session.owner.name,
    "application": lambda session: session.group.origin.application,
    "driver": lambda session: session.group.origin.driver,
    "client": lambda session: session.group.origin.client,
    "session": lambda session: session.id.hex(),
    "activity": _activity_key,
    "age": lambda session: -session.first_use,
    "idle": lambda session: -inf if is_busy(session) else -session.last_use,
    "cursors": cursor_count,
    "operations": lambda session: -oldest_start(session),
    "transaction": transaction_key,
    "txn_number": lambda session: session.txn_number,
}

_SESSION_AGES: Final[Mapping[str, Callable[[Session, float], float]]] = {
    "min_age": lambda session, now: now - session.first_use,
    "min_idle": idle_seconds,
}


def session_listing(store: SessionStore) -> Listing[Session]:
    """The listing of all sessions; by default what has something open comes first."""

    def ending(session: Session) -> str:
        found = store.ending(session)
        return "" if found is None else found[0].value

    return Listing(
        name="sessions",
        texts=SESSION_TEXTS,
        words=session_words,
        states={
            "operation": is_busy,
            "cursor": lambda session: cursor_count(session) > 0,
            "transaction": in_transaction,
            "idle": _at_rest,
            "live": lambda session: session.place > 0,
            "ended": lambda session: ending(session) == "ended",
            "killed": lambda session: ending(session) == "killed",
        },
        orders=SESSION_ORDERS,
        identity=session_identity,
        default_order="activity",
        ages=_SESSION_AGES,
    )
