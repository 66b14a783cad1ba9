"""What processes tell each other of sessions, as plain data; see :mod:`proxy.session.replica`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy.session.tracker import Tracker
from proxy.session.transactions import State

if TYPE_CHECKING:
    from proxy.session.index import SessionIndex
    from proxy.session.records import CursorId

#: Sessions told of at a time: to take them in takes a few milliseconds.
MOST_AT_ONCE: Final = 500

#: What is told of a transaction. What waits for a reply is its own process's to count.
TOLD: Final = (
    *("number", "state", "statements", "started", "last_use", "upstream", "connection"),
    *(
        "doubt",
        "doubt_at",
        "attempted",
        "changed",
        "api",
        "doubt_api",
        "hidden",
        "marked",
        "mark",
        "ran",
    ),
)


class Matters(IntEnum):
    """What news of a session are to the other processes."""

    NOT = 0
    SOMETIME = 1
    SOON = 2


class Record(NamedTuple):
    """One session as plain data. ``ending`` is how and when it was cut short, ``tracker`` the
    values of a :class:`Tracker`, ``operations`` those of one process that are in flight, as
    (connection, request id, upstream, start, use of the session), and ``children`` its child
    sessions that have a transaction open, as (fields, values of a :class:`Tracker`). ``kept`` says
    that it has a place though it may have ended, for what whoever hears of it may not know."""

    key: tuple[bytes, bytes]
    owner: str
    origin: tuple[str, ...]
    first_use: float
    last_use: float
    ending: tuple[str, float] | None
    tracker: tuple[Any, ...] | None
    operations: tuple[tuple[int, int, str, float, tuple[Any, ...]], ...]
    children: tuple[tuple[bytes, tuple[Any, ...]], ...] = ()
    kept: bool = False


class Told(NamedTuple):
    """What one process has to say, to be taken in from first to last.

    ``acts`` are (``end``, keys, time), (``kill``, (everything, uids, keys), time, upstream) or, of
    a transaction that an operator has ended, (``over``, (key, number, child, state), time);
    ``dropped`` are sessions that upstream did not take; ``opened`` cursors are (cursor, session,
    namespace, time, connection, txnNumber).
    """

    acts: list[tuple[Any, ...]]
    dropped: list[tuple[bytes, bytes]]
    records: list[Record]
    opened: list[tuple[tuple[str, int], tuple[bytes, bytes], str, float, int, int]]
    closed: list[tuple[str, int]]

    def __bool__(self) -> bool:
        return any(self)


def acts_of(told: Told) -> Told:
    """Only what was done to sessions."""
    return Told(told.acts, [], [], [], [])


def values(tracker: Tracker) -> tuple[Any, ...]:
    """What is told of a transaction."""
    return tuple(getattr(tracker, name) for name in TOLD)


def fill(tracker: Tracker, told: tuple[Any, ...]) -> None:
    """Have a tracker know what was told."""
    for name, value in zip(TOLD, told, strict=True):
        setattr(tracker, name, value)


def fill_if_newer(tracker: Tracker, told: tuple[Any, ...]) -> bool:
    """Join what was told with what a tracker knows; False where that is no older."""
    other = Tracker()
    fill(other, told)
    if (other.number, other.changed) <= (tracker.number, tracker.changed):
        return False
    if other.number == tracker.number and tracker.state is not State.NONE:
        other.started = min(tracker.started, other.started)
    fill(tracker, values(other))
    return True


def told_cursors(
    store: SessionIndex, cursors: Iterable[CursorId]
) -> Iterator[tuple[tuple[str, int], tuple[bytes, bytes], str, float, int, int]]:
    """What is told of these, as far as they are open."""
    for cursor in cursors:
        session = store.cursor_session(cursor)
        if session is not None and session.activity is not None:
            namespace = session.activity.cursors[cursor]
            opened = store.cursor_opened_at(cursor) or 0.0
            key = (session.id, session.owner.uid)
            connection = store.cursor_connection(cursor)
            number = store.cursor_number(cursor)
            yield (cursor.upstream, cursor.id), key, namespace, opened, connection, number
