"""The sessions that the proxy has seen and not yet forgotten.

A session is forgotten ``timeout`` seconds after its last use, never sooner because it was ended
or killed. There is no timer per session: sessions wait in lists by the second in which they may
expire, and :meth:`SessionStore.expire` looks at a bounded number of them per call.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from proxy.session.cursors import DEFAULT_MAX_CURSORS
from proxy.session.flight import ENDED, KILLED, NOT_TAKEN, STARTED
from proxy.session.ids import UNKNOWN_ORIGIN, LogicalSessionId, Origin
from proxy.session.progress import TransactionStore
from proxy.session.records import (
    CursorId,
    Ending,
    Operation,
    Selection,
    Session,
)
from proxy.session.steps import MANY, Steps, in_one_go
from proxy.session.transactions import State

#: What every server says by default, in seconds.
DEFAULT_TIMEOUT: Final = 30 * 60.0
#: The server's own cap.
DEFAULT_MAX_SESSIONS: Final = 1_000_000

#: The epoch of a session that is forgotten although its time has not come, and how many of them
#: may wait in one list.
_GONE: Final = -1
_FEW_GONE: Final = 100

#: What a kill closes in one step, of which a session may have a thousand more.
_FEW_CLOSED: Final = 500


class Swept(NamedTuple):
    """What one slice of the sweep did; ``more`` says that others are due at once."""

    forgotten: int
    more: bool


class SessionStore(TransactionStore):
    """Sessions by (id, uid), with their owners, origins, cursors and counts.

    ``timeout`` is in seconds and follows upstream's ``logicalSessionTimeoutMinutes``; set it at
    any time. ``untracked`` counts uses that found the store full, ``counts`` everything else.
    """

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_cursors: int = DEFAULT_MAX_CURSORS,
    ) -> None:
        super().__init__()
        self._cursors.most = max_cursors
        self.timeout = timeout
        self.max_sessions = max_sessions
        self.untracked = 0
        self._due: dict[int, list[Session]] = {}
        self._seconds: list[int] = []
        #: How many that are forgotten are still in a second's list.
        self._gone: dict[int, int] = {}

    @property
    def full(self) -> bool:
        """Whether another session would be one too many (261 on a server)."""
        return self._count >= self.max_sessions

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
            made = self._add((lsid,), now, user, origin)
            return made[0] if made else None
        self._touch(session, now)
        session.confirm()
        return session

    def use_all(
        self, lsids: Iterable[LogicalSessionId], now: float, user: str, origin: Origin
    ) -> None:
        """As :meth:`use` for many sessions, each of which is named once."""
        new: list[LogicalSessionId] = []
        for lsid in lsids:
            session = self.get(lsid)
            if session is None:
                new.append(lsid)
            else:
                self._touch(session, now)
                session.confirm()
        self._add(new, now, user, origin)

    def end(self, lsids: Iterable[LogicalSessionId], now: float) -> None:
        """Note that the owner ended these; unknown ones are passed over."""
        for lsid in lsids:
            session = self.get(lsid)
            if session is not None:
                if self.ending(session) is None:
                    self.counts.ended += 1
                    if self.flight is not None:
                        self.flight.session(ENDED, session, now)
                session.ended = Ending.ENDED
                session.ended_at = now
                session.epoch = self._epoch

    def kill(self, within: Selection, now: float, upstream: str | None = None) -> int:
        """Note a kill: cursors gone and open transactions aborted, on ``upstream`` (None: all),
        as far as they were there at ``now``.

        Operations in flight stay until they finish, as they do upstream. Returns how many
        sessions it has hit.
        """
        return in_one_go(self.killing(within, now, upstream))

    def killing(self, within: Selection, now: float, upstream: str | None = None) -> Steps[int]:
        """:meth:`kill` in steps. What is used meanwhile is not hit."""
        selected = yield from self._selecting(within)
        hit = self._count_in(selected)
        self.counts.killed += hit
        self._epoch += 1
        epoch = self._epoch
        if within.everything:
            self._killed_epoch = epoch
            self._killed_at = now
            if self.flight is not None:
                self.flight.all_killed(None, hit, now)
        for owner in selected.owners or ():
            owner.killed_epoch = epoch
            owner.killed_at = now
            if self.flight is not None:
                self.flight.all_killed(owner, owner.sessions.count, now)
        for number, session in enumerate(selected.others):
            if number % MANY == MANY - 1:
                yield
            if session.last_use <= now:
                if self.flight is not None and session.ended is not Ending.KILLED:
                    self.flight.session(KILLED, session, now)
                session.ended = Ending.KILLED
                session.ended_at = now
                session.epoch = epoch
        for sessions in self._active_in(selected):
            closed = 0
            for session in sessions:
                if self.flight is not None and session.epoch < epoch and session.last_use <= now:
                    self.flight.session(KILLED, session, now)
                closed += self._close_all(session, now, upstream)
                if closed >= _FEW_CLOSED:
                    closed = 0
                    yield
            yield
        return hit

    def _close_all(self, session: Session, now: float, upstream: str | None) -> int:
        """A session was killed: note what of it is closed; about how much there was to do."""
        activity = session.activity
        closed = 1
        if activity is not None:
            for cursor in [c for c in activity.cursors if upstream in (None, c[0])]:
                closed += 1
                if (self._cursors.opened_at(cursor) or 0.0) <= now:
                    self.cursor_closed(cursor)
        if session not in self.with_id(session.id):
            return closed
        for one in session.with_children:
            closed += 1
            tracker = one.transaction
            if (
                tracker is not None
                and upstream in (None, tracker.open_at)
                and tracker.started <= now
            ):
                self.abort_transaction(one, now, "killed")
        return closed

    def forget(self, session: Session) -> bool:
        """Drop a session with all that belongs to it; False where that has happened already."""
        having = session.with_children
        if not self._remove(session):
            return False
        for one in having:
            tracker = one.transaction
            if tracker is not None and tracker.state is State.IN_PROGRESS:
                self._ended(one, tracker, "expired", tracker.last_use)
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
                    self.counts.expired += 1
            self._forget_second()
        return Swept(forgotten, False)

    def longest_idle(self, size: int = 500) -> Iterator[Session | None]:
        """Search for the session that was used longest ago and has nothing running.

        Gives None after every ``size`` sessions, so that other work can be done in between, and
        last of all what was found: exact but for the second in which sessions wait together,
        and while the timeout stays what it is. What is looked at is put where it belongs, so
        that the next search is short.
        """
        busy: list[Session] = []
        found: Session | None = None
        budget = size
        try:
            while self._seconds and found is None:
                second = self._seconds[0]
                waiting = self._due[second]
                kept: list[Session] = []
                while waiting and budget:
                    budget -= 1
                    session = waiting.pop()
                    deadline = session.last_use + self.timeout
                    if session not in self.with_id(session.id):
                        continue
                    if math.ceil(deadline) > second:
                        self._await(session, deadline)
                    elif session.activity is not None and session.activity.operations:
                        busy.append(session)
                    else:
                        kept.append(session)
                        if found is None or session.last_use < found.last_use:
                            found = session
                waiting += kept
                if not waiting:
                    self._forget_second()
                if not budget and found is None:
                    yield None
                    budget = size
        finally:
            for session in busy:
                self._await(session, session.last_use + self.timeout)
        yield found

    # Operations and cursors

    def operation_started(
        self,
        lsid: LogicalSessionId,
        now: float,
        user: str = "",
        origin: Origin = UNKNOWN_ORIGIN,
        connection: int = 0,
        request_id: int = 0,
        command: str = "",
        upstream: str = "",
        session: Session | None = None,
    ) -> Operation | None:
        """Note a request that goes upstream under ``lsid``; None where the store is full.

        ``session`` is that of ``lsid`` if the caller has looked it up already.
        """
        if session is None:
            session = self.get(lsid)
        vivified = True
        if session is None:
            made = self._add((lsid,), now, user, origin)
            session = made[0] if made else None
            if session is None:
                return None
        else:
            vivified = session.unconfirmed
            self._touch(session, now)
        operation = Operation(session, connection, request_id, command, upstream, now, vivified)
        activity = session.activity
        if activity is None:
            activity = self._make_busy(session)
        activity.operations[operation] = None
        return operation

    def operation_finished(self, operation: Operation, now: float, refused: bool = False) -> None:
        """Note an operation's last reply, or that its connection is gone.

        ``refused`` says that upstream did not take the lsid (261, 13 or 2 from the session
        fields): a session that only such requests have used is dropped again.
        """
        session = operation.session
        activity = session.activity
        if activity is None or operation not in activity.operations:
            return
        del activity.operations[operation]
        if refused:
            if operation.vivified and not activity and not _in_transactions(session):
                self.forget(session)
                self._leave(session)
                self.counts.refused += 1
                if self.flight is not None:
                    self.flight.session(NOT_TAKEN, session, now)
                return
        else:
            session.confirm()
            if now > session.last_use:
                session.last_use = now
        self._settle(session)

    def cursor_opened(self, cursor: CursorId, session: Session, namespace: str, now: float) -> None:
        """Note a cursor that a reply has left open; ``namespace`` is ``db.collection``."""
        self.cursor_closed(cursor)
        if session not in self.with_id(session.id):
            return
        surplus = self._cursors.surplus(session)
        if surplus is not None:
            self.cursor_closed(surplus)
            self.counts.cursors_dropped += 1
        activity = session.activity
        if activity is None:
            activity = self._make_busy(session)
        activity.cursors[cursor] = namespace
        self._cursors.add(cursor, session, now)

    def cursor_used(self, cursor: CursorId, now: float) -> Session | None:
        """Note a getMore, which is a use of the session that opened the cursor."""
        session = self._cursors.session(cursor)
        if session is not None:
            self._touch(session, now)
        return session

    def cursor_closed(self, cursor: CursorId) -> None:
        """Note that a cursor is exhausted, killed or not found."""
        session = self._cursors.discard(cursor)
        if session is None:
            return
        if session.activity is not None:
            session.activity.cursors.pop(cursor, None)
            self._settle(session)

    # Inside

    def _touch(self, session: Session, now: float) -> None:
        session.last_use = now
        session.epoch = self._epoch
        session.ended = None

    def _add(
        self, lsids: Sequence[LogicalSessionId], now: float, user: str, origin: Origin
    ) -> list[Session]:
        """Add sessions that do not exist, as far as there is room."""
        room = max(0, self.max_sessions - self._count)
        if len(lsids) > room:
            self.untracked += len(lsids) - room
            lsids = lsids[:room]
        if not lsids:
            return []
        sessions = self._insert(lsids, now, user, origin)
        self.counts.started += len(sessions)
        if self.flight is not None:
            for session in sessions:
                self.flight.session(STARTED, session, now)
        self._waiting(now + self.timeout).extend(sessions)
        return sessions

    def _leave(self, session: Session) -> None:
        """Do not keep a session that was not to be until its time would have come.

        Whoever is not let in can have many of them made. A list is searched through when half of
        it is left over from such.
        """
        second = math.ceil(session.first_use + self.timeout)
        waiting = self._due.get(second)
        if not waiting:
            return
        if waiting[-1] is session:
            waiting.pop()
            return
        session.epoch = _GONE
        gone = self._gone.get(second, 0) + 1
        if gone > _FEW_GONE and 2 * gone > len(waiting):
            waiting[:] = [one for one in waiting if one.epoch != _GONE]
            gone = 0
        self._gone[second] = gone

    def _forget_second(self) -> None:
        second = heappop(self._seconds)
        del self._due[second]
        self._gone.pop(second, None)

    def _await(self, session: Session, deadline: float) -> None:
        self._waiting(deadline).append(session)

    def _waiting(self, deadline: float) -> list[Session]:
        """Those that are looked at again when ``deadline`` has passed."""
        second = math.ceil(deadline)
        waiting = self._due.get(second)
        if waiting is None:
            waiting = self._due[second] = []
            heappush(self._seconds, second)
        return waiting


def _in_transactions(session: Session) -> bool:
    """Whether anything is known of a txnNumber of the session's."""
    tracker = session.transaction
    return tracker is not None and (tracker.number >= 0 or tracker.counts)
