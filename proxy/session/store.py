"""The sessions that the proxy has seen and not yet forgotten.

A session is forgotten ``timeout`` seconds after its last use, never sooner because it was ended
or killed. There is no timer per session: sessions wait in lists by the second in which they may
expire, and :meth:`SessionStore.expire` looks at a bounded number of them per call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from proxy.session.ids import UNKNOWN_ORIGIN, LogicalSessionId, Origin
from proxy.session.records import (
    Activity,
    CursorId,
    Ending,
    Operation,
    OriginGroup,
    Owner,
    Selection,
    Session,
)
from proxy.session.sharded import Sharded
from proxy.session.transactions import Outcome, State, Step, Tracker

if TYPE_CHECKING:
    from proxy.session.info import OperationSessionInfo

K = TypeVar("K")

#: What every server says by default, in seconds.
DEFAULT_TIMEOUT: Final = 30 * 60.0
#: The server's own cap.
DEFAULT_MAX_SESSIONS: Final = 1_000_000


class Swept(NamedTuple):
    """What one slice of the sweep did; ``more`` says that others are due at once."""

    forgotten: int
    more: bool


class Page(NamedTuple):
    """Some sessions, and where to go on; ``next`` is None behind the last one."""

    sessions: list[Session]
    next: int | None


class SessionStore:
    """Sessions by (id, uid), with their owners, origins, cursors and counts.

    ``timeout`` is in seconds and follows upstream's ``logicalSessionTimeoutMinutes``; set it at
    any time. ``untracked`` counts uses that found the store full.
    """

    def __init__(
        self, timeout: float = DEFAULT_TIMEOUT, max_sessions: int = DEFAULT_MAX_SESSIONS
    ) -> None:
        self.timeout = timeout
        self.max_sessions = max_sessions
        self.untracked = 0
        self.open_transactions = 0
        self._count = 0
        # Nearly every id has one owner; a tuple stands where several use the same UUID.
        self._by_id: Sharded[Session | tuple[Session, ...]] = Sharded()
        self._owners: dict[tuple[bytes, str], Owner] = {}
        self._by_uid: dict[bytes, list[Owner]] = {}
        self._by_name: dict[str, list[Owner]] = {}
        self._groups: dict[Origin, OriginGroup] = {}
        self._applications: dict[str, int] = {}
        self._cursors: dict[CursorId, Session] = {}
        self._due: dict[int, list[Session]] = {}
        self._seconds: list[int] = []
        # Kills of many sessions at once are numbered: what was last used before one is its victim.
        self._epoch = 0
        self._killed_epoch = 0
        self._killed_at = -math.inf

    def __len__(self) -> int:
        return self._count

    def __contains__(self, lsid: LogicalSessionId) -> bool:
        return self.get(lsid) is not None

    @property
    def full(self) -> bool:
        """Whether another session would be one too many (261 on a server)."""
        return self._count >= self.max_sessions

    # Reading

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

    def of_user(self, name: str) -> Iterator[Session]:
        """The sessions that ``user@db`` made, also where authorization is off."""
        for owner in self._by_name.get(name, ()):
            yield from owner.sessions

    def of_uid(self, uid: bytes) -> Iterator[Session]:
        """The sessions with this owner's digest."""
        for owner in self._by_uid.get(uid, ()):
            yield from owner.sessions

    def uids(self) -> Iterator[bytes]:
        """Every owner's digest, each once."""
        yield from self._by_uid

    def user_sessions(self, name: str) -> int:
        """How many sessions ``user@db`` has made that are not forgotten."""
        return sum(owner.sessions.count for owner in self._by_name.get(name, ()))

    def user_transactions(self, name: str) -> int:
        """How many transactions ``user@db`` has open."""
        return sum(owner.open_transactions for owner in self._by_name.get(name, ()))

    def application_sessions(self, application: str) -> int:
        """How many sessions come from ``application.name``."""
        return self._applications.get(application, 0)

    def counts_by_user(self) -> dict[str, int]:
        """Sessions per ``user@db``; ``""`` for those that nobody owns."""
        return {name: self.user_sessions(name) for name in self._by_name}

    def counts_by_application(self) -> dict[str, int]:
        """Sessions per ``application.name``; ``""`` for those without one."""
        return dict(self._applications)

    def page(self, start: int = 0, limit: int = 1000, within: Selection | None = None) -> Page:
        """Sessions from position ``start`` (0, then a page's ``next``), about ``limit`` of them.

        A session that exists all the while comes exactly once. One call looks at a bounded part
        of the store, so a page may be empty and have a next one.
        """
        found: list[Session] = []
        examined = 0
        number = start
        while number < self._by_id.parts():
            values = self._by_id.part(number)
            number += 1
            examined += len(values)
            for value in values:
                for session in value if isinstance(value, tuple) else (value,):
                    if within is None or session in within:
                        found.append(session)  # noqa: PERF401
            if len(found) >= limit or examined >= 20 * limit:
                break
        return Page(found, number if number < self._by_id.parts() else None)

    def ending(self, session: Session) -> tuple[Ending, float] | None:
        """How and when the session was last ended or killed, unless it was used since."""
        owner = session.owner
        if max(owner.killed_epoch, self._killed_epoch) > session.epoch:
            return Ending.KILLED, max(owner.killed_at, self._killed_at)
        return None if session.ended is None else (session.ended, session.ended_at)

    def active(self, within: Selection) -> Iterator[Session]:
        """The selected sessions that have operations, cursors or a transaction open."""
        if within.everything:
            for owner in self._owners.values():
                yield from owner.active
            return
        for uid in within.uids:
            for owner in self._by_uid.get(uid, ()):
                yield from owner.active
        for key in within.keys:
            session = self.get(key)
            if session is not None and key.uid not in within.uids and _is_active(session):
                yield session

    def count(self, within: Selection) -> int:
        """How many sessions are selected."""
        if within.everything:
            return self._count
        total = sum(
            owner.sessions.count for uid in within.uids for owner in self._by_uid.get(uid, ())
        )
        return total + sum(
            key.uid not in within.uids and self.get(key) is not None for key in within.keys
        )

    def cursor_session(self, cursor: CursorId) -> Session | None:
        """The session that opened a cursor."""
        return self._cursors.get(cursor)

    # Life

    def use(
        self,
        lsid: LogicalSessionId,
        now: float,
        user: str = "",
        origin: Origin = UNKNOWN_ORIGIN,
    ) -> Session | None:
        """Note a use; an unknown session comes into being, made by ``user`` from ``origin``.

        None where it is unknown and the store is full.
        """
        session = self.get(lsid)
        if session is None:
            return self._add(lsid, now, user, origin)
        self._touch(session, now)
        return session

    def end(self, lsids: Iterable[LogicalSessionId], now: float) -> None:
        """Note that the owner ended these; unknown ones are passed over."""
        for lsid in lsids:
            session = self.get(lsid)
            if session is not None:
                session.ended = Ending.ENDED
                session.ended_at = now
                session.epoch = self._epoch

    def kill(self, within: Selection, now: float, upstream: str | None = None) -> None:
        """Note a kill: cursors gone and open transactions aborted, on ``upstream`` (None: all).

        Operations in flight stay until they finish, as they do upstream.
        """
        for session in list(self.active(within)):
            if session.activity is not None:
                for cursor in [c for c in session.activity.cursors if upstream in (None, c[0])]:
                    self.cursor_closed(cursor)
            tracker = session.transaction
            if tracker is not None and upstream in (None, tracker.upstream):
                self.abort_transaction(session)
        self._epoch += 1
        if within.everything:
            self._killed_epoch = self._epoch
            self._killed_at = now
        for uid in within.uids:
            for owner in self._by_uid.get(uid, ()):
                owner.killed_epoch = self._epoch
                owner.killed_at = now
        for key in within.keys:
            killed = self.get(key)
            if killed is not None:
                killed.ended = Ending.KILLED
                killed.ended_at = now
                killed.epoch = self._epoch

    def forget(self, session: Session) -> bool:
        """Drop a session with all that belongs to it; False where that has happened already."""
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
                del self._cursors[cursor]
            session.activity = None
        self._leave_transaction(session)
        owner = session.owner
        owner.active.pop(session, None)
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

    def expire(self, now: float, budget: int = 500) -> Swept:
        """Forget what is past its time, looking at ``budget`` sessions at most.

        Call it again at once while ``more`` is true, with other work in between. A session
        leaves within a second of its time, if the calls come as often.
        """
        forgotten = 0
        while self._seconds and self._seconds[0] <= now:
            waiting = self._due[self._seconds[0]]
            while waiting:
                if not budget:
                    return Swept(forgotten, True)
                budget -= 1
                session = waiting.pop()
                deadline = session.last_use + self.timeout
                if deadline <= now and session.activity and session.activity.operations:
                    # As the server does at each flush: what is running is in use.
                    session.last_use = now
                    deadline = now + self.timeout
                if deadline > now:
                    self._await(session, deadline)
                elif self.forget(session):
                    forgotten += 1
            del self._due[heappop(self._seconds)]
        return Swept(forgotten, False)

    # Operations and cursors

    def operation_started(
        self,
        lsid: LogicalSessionId,
        now: float,
        *,
        user: str = "",
        origin: Origin = UNKNOWN_ORIGIN,
        connection: int = 0,
        request_id: int = 0,
        command: str = "",
        upstream: str = "",
    ) -> Operation | None:
        """Note a request that goes upstream under ``lsid``; None where the store is full."""
        before = self._count
        session = self.use(lsid, now, user, origin)
        if session is None:
            return None
        operation = Operation(
            session, connection, request_id, command, upstream, now, self._count > before
        )
        if session.activity is None:
            session.activity = Activity()
            session.owner.active[session] = None
        session.activity.operations[operation] = None
        return operation

    def operation_finished(self, operation: Operation, now: float, refused: bool = False) -> None:
        """Note an operation's last reply, or that its connection is gone.

        ``refused`` says that upstream did not take the lsid (261, 13 or 2 from the session
        fields): a session that only this request made is dropped again.
        """
        session = operation.session
        activity = session.activity
        if activity is None or operation not in activity.operations:
            return
        del activity.operations[operation]
        if refused and operation.vivified and not activity and session.txn_number < 0:
            self.forget(session)
            return
        if not refused:
            session.last_use = max(session.last_use, now)
        self._settle(session)

    def cursor_opened(self, cursor: CursorId, session: Session, namespace: str) -> None:
        """Note a cursor that a reply has left open; ``namespace`` is ``db.collection``."""
        self.cursor_closed(cursor)
        if session not in self.with_id(session.id):
            return
        if session.activity is None:
            session.activity = Activity()
            session.owner.active[session] = None
        session.activity.cursors[cursor] = namespace
        self._cursors[cursor] = session

    def cursor_used(self, cursor: CursorId, now: float) -> Session | None:
        """Note a getMore, which is a use of the session that opened the cursor."""
        session = self._cursors.get(cursor)
        if session is not None:
            self._touch(session, now)
        return session

    def cursor_closed(self, cursor: CursorId) -> None:
        """Note that a cursor is exhausted, killed or not found."""
        session = self._cursors.pop(cursor, None)
        if session is not None and session.activity is not None:
            session.activity.cursors.pop(cursor, None)
            self._settle(session)

    # Transactions

    def transaction_step(
        self,
        session: Session,
        step: Step,
        outcome: Outcome,
        info: OperationSessionInfo,
        now: float,
        upstream: str = "",
        connection: int = 0,
        statements: list[range] | None = None,
    ) -> None:
        """Learn from one reply to a request with a txnNumber."""
        if info.txn_number is None or session not in self.with_id(session.id):
            return
        tracker = session.transaction
        if tracker is None:
            tracker = session.transaction = Tracker()
        before = tracker.state
        tracker.apply(step, outcome, info.txn_number, now, upstream, connection)
        if statements and outcome is Outcome.OK and tracker.number == info.txn_number:
            tracker.executed_statements(statements)
        self._count_transaction(session, before, tracker.state)

    def abort_transaction(self, session: Session) -> bool:
        """Note that the open transaction was aborted by a kill or a limit; True if it was open."""
        tracker = session.transaction
        if tracker is None or not tracker.kill():
            return False
        self._count_transaction(session, State.IN_PROGRESS, tracker.state)
        return True

    def open_transaction_sessions(self) -> Iterator[Session]:
        """The sessions with a transaction in progress."""
        for owner in self._owners.values():
            if owner.open_transactions:
                for session in owner.active:
                    if session.state is State.IN_PROGRESS:
                        yield session

    # Inside

    def _touch(self, session: Session, now: float) -> None:
        session.last_use = now
        session.epoch = self._epoch
        session.ended = None

    def _add(self, lsid: LogicalSessionId, now: float, user: str, origin: Origin) -> Session | None:
        if self.full:
            self.untracked += 1
            return None
        owner = self._owners.get((lsid.uid, user))
        if owner is None:
            owner = self._owners[lsid.uid, user] = Owner(lsid.uid, user)
            self._by_uid.setdefault(lsid.uid, []).append(owner)
            self._by_name.setdefault(user, []).append(owner)
        group = self._groups.get(origin)
        if group is None:
            group = self._groups[origin] = OriginGroup(origin)
        session = Session(lsid.id, owner, group, now, self._epoch)
        others = self.with_id(lsid.id)
        self._by_id.put(lsid.id, (*others, session) if others else session)
        owner.sessions.put(lsid.id, session)
        group.sessions += 1
        application = origin.application
        self._applications[application] = self._applications.get(application, 0) + 1
        self._count += 1
        self._await(session, now + self.timeout)
        return session

    def _await(self, session: Session, deadline: float) -> None:
        second = math.ceil(deadline)
        waiting = self._due.get(second)
        if waiting is None:
            self._due[second] = [session]
            heappush(self._seconds, second)
        else:
            waiting.append(session)

    def _settle(self, session: Session) -> None:
        """Give back what an idle session does not need."""
        if not session.activity:
            session.activity = None
            if session.state is not State.IN_PROGRESS:
                session.owner.active.pop(session, None)

    def _count_transaction(self, session: Session, before: State, after: State) -> None:
        if before is after:
            return
        if after is State.IN_PROGRESS:
            session.owner.open_transactions += 1
            self.open_transactions += 1
            session.owner.active[session] = None
        elif before is State.IN_PROGRESS:
            session.owner.open_transactions -= 1
            self.open_transactions -= 1
            self._settle(session)

    def _leave_transaction(self, session: Session) -> None:
        if session.state is State.IN_PROGRESS:
            session.owner.open_transactions -= 1
            self.open_transactions -= 1


def _is_active(session: Session) -> bool:
    return session.activity is not None or session.state is State.IN_PROGRESS


def _discard(index: dict[K, list[Owner]], key: K, owner: Owner) -> None:
    left = index[key]
    left.remove(owner)
    if not left:
        del index[key]
