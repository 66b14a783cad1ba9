"""The sessions that exist, found by key, id, owner, user and origin, with counts kept at hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from proxy.counting import OTHER
from proxy.session.children import Children
from proxy.session.cursors import OpenCursors
from proxy.session.ids import Origin
from proxy.session.places import HELD, Places
from proxy.session.promises import Promise, Promises
from proxy.session.records import (
    Activity,
    Child,
    Ending,
    OriginGroup,
    Owner,
    Session,
)
from proxy.session.sharded import Sharded
from proxy.session.transactions import State

if TYPE_CHECKING:
    from proxy.session.ids import LogicalSessionId
    from proxy.session.records import CursorId

#: Origins that are told apart, and applications beyond that. What a client says of itself takes
#: 2 KB at the most. Not Final, as tests set them.
MOST_ORIGINS = 50_000
MOST_APPLICATIONS = 10_000

K = TypeVar("K")


class Page(NamedTuple):
    """Some sessions, and where to go on; ``next`` is None behind the last one."""

    sessions: list[Session]
    next: int | None


class SessionIndex:
    """Sessions by (id, uid), with their owners, origins, cursors and counts."""

    def __init__(self) -> None:
        self.open_transactions = 0
        #: How often sessions came from an origin that there was no room to remember.
        self.vague_origins = 0
        self._count = 0
        # Nearly every id has one owner; a tuple stands where several use the same UUID.
        self._by_id: Sharded[Session | tuple[Session, ...]] = Sharded()
        self._owners: dict[tuple[bytes, str], Owner] = {}
        self._by_uid: dict[bytes, list[Owner]] = {}
        self._by_name: dict[str, list[Owner]] = {}
        self._groups: dict[Origin, OriginGroup] = {}
        self._applications: dict[str, int] = {}
        self._cursors = OpenCursors()
        self._children = Children()
        self._promises = Promises()
        self._places = Places()
        self._active: dict[Owner, None] = {}
        # Kills of many sessions at once are numbered: what was last used before one is its victim.
        self._epoch = 0
        self._killed_epoch = 0
        self._killed_at = -math.inf

    def __len__(self) -> int:
        return self._count

    def __contains__(self, lsid: LogicalSessionId) -> bool:
        return self.get(lsid) is not None

    def get(self, lsid: LogicalSessionId) -> Session | None:
        """The session with this key."""
        found = self._by_id.get(lsid[0])
        if found is None:
            return None
        if isinstance(found, Session):
            return found if found.owner.uid == lsid[1] else None
        for session in found:
            if session.owner.uid == lsid[1]:
                return session
        return None

    def with_id(self, session_id: bytes) -> tuple[Session, ...]:
        """All sessions with this UUID, whoever owns them."""
        found = self._by_id.get(session_id)
        if found is None:
            return ()
        return found if isinstance(found, tuple) else (found,)

    def owners_of(self, session_id: bytes) -> list[bytes]:
        """The digests of those who have a session with this UUID."""
        return [session.owner.uid for session in self.with_id(session_id)]

    def made_by(self, name: str) -> Iterator[LogicalSessionId]:
        """The sessions that ``user@db`` made, also where authorization is off."""
        for owner in self._by_name.get(name, ()):
            for session in owner.sessions:
                yield session.key

    def owner_sessions(self, name: str) -> int:
        """How many sessions of this owner (``user@db``) are not forgotten."""
        there = sum(owner.sessions.count for owner in self._by_name.get(name, ()))
        return there + self._promises.of_name(name)

    def owner_transactions(self, name: str) -> int:
        """How many transactions this owner (``user@db``) has open, or may have, or begins."""
        return sum(owner.counted_transactions for owner in self._by_name.get(name, ()))

    def application_sessions(self, application: str) -> int:
        """How many sessions come from ``application.name``; of one that there was no room to
        tell apart, how many come from all such."""
        promised = self._promises.of_application(application)
        found = self._applications.get(application)
        if found is None and len(self._applications) >= MOST_APPLICATIONS:
            return self._applications.get(OTHER, 0) + promised
        return promised if found is None else found + promised

    def owner_live(self, name: str) -> int:
        """How many of this owner's (``user@db``) have a place (:mod:`proxy.session.places`)."""
        live = sum(owner.places for owner in self._by_name.get(name, ()))
        return live + self._promises.of_name(name)

    def application_live(self, application: str) -> int:
        """As :meth:`application_sessions`, of those that have a place."""
        promised = self._promises.of_application(application)
        if application not in self._applications and len(self._applications) >= MOST_APPLICATIONS:
            application = OTHER
        return self._places.of_application(application) + promised

    def live(self) -> int:
        """How many sessions have a place."""
        return self._places.total

    def has_place(self, lsid: LogicalSessionId) -> bool:
        """Whether a session is known and has a place: its use takes no other one."""
        session = self.get(lsid)
        return session is not None and session.place > 0

    def promised(self) -> int:
        """How many sessions are about to be made beside those that are there."""
        return self._promises.total

    def promise(self, promise: Promise, by: int) -> None:
        """Count ``by`` more sessions as promised, or fewer."""
        self._promises.change(promise, by)

    def page(self, start: int = 0, limit: int = 1000) -> Page:
        """Sessions from position ``start`` (0, then a page's ``next``), about ``limit`` of them.

        A session that exists all the while comes exactly once.
        """
        found: list[Session] = []
        number = start
        while number < self._by_id.parts() and len(found) < limit:
            for value in self._by_id.part(number):
                found += value if isinstance(value, tuple) else (value,)
            number += 1
        return Page(found, number if number < self._by_id.parts() else None)

    def ending(self, session: Session) -> tuple[Ending, float] | None:
        """How and when the session was last ended or killed, unless it was used since."""
        owner = session.owner
        if owner.killed_epoch > session.epoch or self._killed_epoch > session.epoch:
            return Ending.KILLED, max(owner.killed_at, self._killed_at)
        return None if session.ended is None else (session.ended, session.ended_at)

    def cursor_session(self, cursor: CursorId) -> Session | None:
        """The session that opened a cursor."""
        return self._cursors.session(cursor)

    def cursor_opened_at(self, cursor: CursorId) -> float | None:
        """When an open cursor was opened; None for one that is not known."""
        return self._cursors.opened_at(cursor)

    def cursor_connection(self, cursor: CursorId) -> int:
        """The number of the client connection that opened it; 0 for one that is not known."""
        return self._cursors.connection(cursor)

    def cursor_number(self, cursor: CursorId) -> int:
        """The txnNumber of the transaction that an open cursor is part of; -1 for none."""
        return self._cursors.number(cursor)

    def open_cursors(self) -> int:
        """How many cursors are open."""
        return len(self._cursors)

    def cursor_owners(self) -> list[tuple[Owner, int]]:
        """Who has how many cursors open."""
        return self._cursors.owners()

    def oldest_cursor(self) -> float | None:
        """When the cursor that is open for longest was opened."""
        return self._cursors.oldest()

    def owners(self) -> list[Owner]:
        """All who have sessions now."""
        return list(self._owners.values())

    def origins(self) -> list[OriginGroup]:
        """All places that sessions which are known now come from."""
        return list(self._groups.values())

    def transactions_to_watch(self) -> Iterator[list[Session]]:
        """The sessions whose transaction may be open, seen or not, in lists of each owner's.

        Sessions may come and go between two lists.
        """
        for owner in list(self._active):
            if owner.counted_transactions:
                yield list(owner.active)

    def _make_busy(self, session: Session) -> Activity:
        """What a session that was at rest needs to have something going on."""
        activity = session.activity = Activity()
        self._activate(session)
        return activity

    def _activate(self, session: Session) -> None:
        owner = session.owner
        self._active[owner] = None
        owner.active[session] = None
        if not session.place:
            self._hold(session)

    def _deactivate(self, session: Session) -> None:
        owner = session.owner
        owner.active.pop(session, None)
        if not owner.active:
            self._active.pop(owner, None)
        if session.ended is not None or session.epoch != self._epoch:
            self._free_if_over(session)

    def _hold(self, session: Session) -> None:
        """A session without a place takes one."""
        session.place = HELD
        session.owner.places += 1
        self._places.change(session.group.origin.application, 1)

    def _free(self, session: Session) -> None:
        """A session with a place gives it back."""
        session.place = 0
        session.owner.places -= 1
        self._places.change(session.group.origin.application, -1)

    def _free_if_over(self, session: Session) -> None:
        """A session that was ended or killed gives its place back, unless something is open."""
        if (
            session.place == HELD
            and session not in session.owner.active
            and self.ending(session) is not None
        ):
            self._free(session)

    def _insert(
        self, lsids: Iterable[LogicalSessionId], now: float, user: str, origin: Origin
    ) -> list[Session]:
        """Add sessions that do not exist, one at least and each named once."""
        group = self._groups.get(origin) or self._make_group(origin)
        origin = group.origin
        by_id, epoch = self._by_id, self._epoch
        owner: Owner | None = None
        made: list[Session] = []
        for lsid in lsids:
            if owner is None or owner.uid != lsid.uid:
                owner = self._owner(lsid.uid, user)
            session = Session(lsid.id, owner, group, now, epoch)
            others = self.with_id(lsid.id)
            by_id.put(lsid.id, (*others, session) if others else session)
            owner.sessions.put(lsid.id, session)
            owner.places += 1
            made.append(session)
        count = len(made)
        group.sessions += count
        application = origin.application
        self._applications[application] = self._applications.get(application, 0) + count
        self._places.change(application, count)
        self._count += count
        return made

    def _make_group(self, origin: Origin) -> OriginGroup:
        """The group for an origin without one; where there are many, one that stands for several.

        Clients say what they like. Applications are told apart the longest, for budgets' sake.
        """
        if len(self._groups) >= MOST_ORIGINS:
            known = self._applications
            application = origin.application
            if application not in known and len(known) >= MOST_APPLICATIONS:
                application = OTHER
            origin = Origin(OTHER, application, OTHER)
            self.vague_origins += 1
            if (group := self._groups.get(origin)) is not None:
                return group
        group = self._groups[origin] = OriginGroup(origin)
        return group

    def _owner(self, uid: bytes, user: str) -> Owner:
        owner = self._owners.get((uid, user))
        if owner is None:
            owner = self._owners[uid, user] = Owner(uid, user)
            self._by_uid.setdefault(uid, []).append(owner)
            self._by_name.setdefault(user, []).append(owner)
        return owner

    def _remove(self, session: Session) -> bool:
        found = self.with_id(session.id)
        if session not in found:
            return False
        rest = tuple(one for one in found if one is not session)
        if not rest:
            self._by_id.remove(session.id)
        else:
            self._by_id.put(session.id, rest if len(rest) > 1 else rest[0])
        if session.activity is not None:
            for cursor in session.activity.cursors:
                self._cursors.discard(cursor)
        owner = session.owner
        for one in session.with_children:
            tracker = one.transaction
            if tracker is not None:
                if tracker.state is State.IN_PROGRESS:
                    owner.open_transactions -= 1
                    self.open_transactions -= 1
                owner.counted_transactions -= tracker.counts
            if isinstance(one, Child):
                self._children.discard(one)
        session.activity = None
        self._deactivate(session)
        if session.place:
            self._free(session)
        owner.sessions.remove(session.id)
        if not owner.sessions.count:
            del self._owners[owner.uid, owner.name]
            _discard(self._by_uid, owner.uid, owner)
            _discard(self._by_name, owner.name, owner)
        group = session.group
        group.sessions -= 1
        if not group.sessions:
            del self._groups[group.origin]
        left = self._applications[group.origin.application] - 1
        if left:
            self._applications[group.origin.application] = left
        else:
            del self._applications[group.origin.application]
        self._count -= 1
        return True


def _discard(index: dict[K, list[Owner]], key: K, owner: Owner) -> None:
    left = index[key]
    left.remove(owner)
    if not left:
        del index[key]
