"""The sessions that the proxy has seen and not yet forgotten.

It notes what becomes of each: uses, ends, kills, operations and cursors. How long it remembers
them is in ``expiring.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from proxy.session.cursors import DEFAULT_MAX_CURSORS
from proxy.session.expiring import ExpiringStore
from proxy.session.flight import ENDED, KILLED, NOT_TAKEN, STARTED
from proxy.session.ids import UNKNOWN_ORIGIN, LogicalSessionId, Origin
from proxy.session.places import UNANSWERED
from proxy.session.records import (
    CursorId,
    Ending,
    Operation,
    Selection,
    Session,
)
from proxy.session.steps import MANY, Steps, in_one_go

if TYPE_CHECKING:
    from proxy.session.selected import Selected

#: What every server says by default, in seconds.
DEFAULT_TIMEOUT: Final = 30 * 60.0
#: The server's own cap.
DEFAULT_MAX_SESSIONS: Final = 1_000_000

#: What a kill closes in one step, of which a session may have a thousand more.
_FEW_CLOSED: Final = 500


class SessionStore(ExpiringStore):
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
        super().__init__(timeout)
        self._cursors.most = max_cursors
        self.max_sessions = max_sessions
        self.untracked = 0

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
        """Note that upstream has ended these, as it was asked to at ``now``; unknown ones are
        passed over, and what was used later may be there again."""
        for lsid in lsids:
            session = self.get(lsid)
            if session is not None and session.last_use <= now:
                if self.ending(session) is None:
                    self.counts.ended += 1
                    if self.flight is not None:
                        self.flight.session(ENDED, session, now)
                session.ended = Ending.ENDED
                session.ended_at = now
                session.epoch = self._epoch
                self._free_if_over(session)

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
        yield from self._freeing(selected)
        return hit

    def _freeing(self, selected: Selected) -> Steps[None]:
        """Free the places of those that were killed, once nothing of them is open."""
        owners = self.owners() if selected.owners is None else selected.owners
        # What is active keeps its place, so that there is mostly nothing to look for.
        parts = (
            owner.sessions.part(number)
            for owner in owners
            for number in range(owner.sessions.parts() if owner.places > len(owner.active) else 0)
        )
        looked_at = 0
        for sessions in chain((selected.others,), parts):
            looked_at += 1
            for session in sessions:
                looked_at += 1
                if looked_at % MANY == 0:
                    yield
                self._free_if_over(session)
            if looked_at % MANY == 0:
                yield

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
                and tracker.may_be_open
                and tracker.started <= now
                and any(upstream in (None, may_be.upstream) for may_be in tracker.open_ones)
            ):
                self.abort_transaction(one, now, "killed", upstream)
        return closed

    def unanswered(self, session: Session) -> None:
        """Note that a request which nobody answers has used a session: it keeps its place until it
        is forgotten, as nobody can tell when that request is over."""
        session.place |= UNANSWERED

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
            if session.ended is Ending.ENDED and self.ending(session) == (
                session.ended,
                session.ended_at,
            ):
                # Upstream may have carried it out after the end, and made the session anew.
                self._touch(session, now)
            elif now > session.last_use:
                session.last_use = now
        self._settle(session)

    def cursor_opened(
        self,
        cursor: CursorId,
        session: Session,
        namespace: str,
        now: float,
        connection: int = 0,
        number: int = -1,
    ) -> None:
        """Note a cursor that a reply on ``connection`` has left open; ``namespace`` is
        ``db.collection``, ``number`` the txnNumber of its transaction, if it is part of one."""
        if self.cursor_session(cursor) is not None:
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
        self._cursors.add(cursor, session, now, connection, number)

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
        if not session.place:
            self._hold(session)

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


def _in_transactions(session: Session) -> bool:
    """Whether anything is known of a txnNumber of the session's."""
    tracker = session.transaction
    return tracker is not None and (tracker.number >= 0 or tracker.counts)
