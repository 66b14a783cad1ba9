"""What another process tells of sessions, joined with what is known here.

What two processes say of one session is joined: it was first used at the earlier time and last at
the later, ended unless it was used since, and its transaction is the one with the higher number or,
of the same number, what was learnt last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from proxy.session.counts import Counts, SharedCounts
from proxy.session.cursors import DEFAULT_MAX_CURSORS
from proxy.session.ids import LogicalSessionId, OpenTransaction, Origin, make_key
from proxy.session.places import ELSEWHERE
from proxy.session.records import CursorId, Ending, InFlight, Selection, Session
from proxy.session.store import DEFAULT_MAX_SESSIONS, DEFAULT_TIMEOUT, SessionStore
from proxy.session.telling import Matters, Record, Told, fill_if_newer
from proxy.session.tracker import Tracker
from proxy.session.transactions import State

#: Seconds: the others hear that a session is in use once in so many, or they would forget it.
_STILL_USED: Final = 30.0


class HearingStore(SessionStore):
    """A store that takes in what other processes tell.

    ``end_operation`` is called for what another process's kill has hit where upstream, an address,
    is one that ``ends_operations`` says yes to.
    """

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_cursors: int = DEFAULT_MAX_CURSORS,
    ) -> None:
        super().__init__(timeout, max_sessions, max_cursors)
        self.ends_operations: Callable[[str], bool] = lambda _: False
        self.end_operation: Callable[[InFlight], object] = lambda _: None
        #: Cursors that were gone before anybody had told of them, the latest so many: one process
        #: has read a cursor to its end, and another one is about to say that it was opened.
        self._early_closed: dict[CursorId, None] = {}
        #: While others' news are taken in, which nobody has to be told again.
        self._listening = False
        self.counts = SharedCounts()
        #: What has come of that, which others count.
        self.heard_counts = Counts()

    def take_in(self, told: Told) -> None:
        """Learn from what another process has told."""
        with self._listens():
            self._take_acts(told)
            for record in told.records:
                self._take(record)
            self._take_cursors(told)

    @contextmanager
    def _listens(self) -> Iterator[None]:
        own, self.counts = self.counts, self.heard_counts
        # Whoever it happened to has told of it.
        flight, self.flight = self.flight, None
        self._listening = True
        try:
            yield
        finally:
            self._listening = False
            self.counts, self.flight = own, flight

    def _take_acts(self, told: Told) -> None:
        for kind, what, now, *where in told.acts:
            if kind == "end":
                keys = map(make_key, what)
                self.end([key for key in keys if not self._used_since(key, now)], now)
            elif kind == "over":
                key, number, child, state = what
                one = OpenTransaction(make_key(key), number, b"", child)
                self.transaction_ended(one, now, State(state))
            else:
                everything, uids, named = what
                lsids = frozenset(map(make_key, named))
                within = Selection(everything, frozenset(uids), lsids)
                self._interrupt(within, now, where[0])
                used = [self.get(key) for key in lsids if self._used_since(key, now)]
                self.kill(within, now, where[0])
                for session in used:
                    if session is not None:
                        self._touch(session, session.last_use)
        for key in told.dropped:
            session = self.get(make_key(key))
            if session is None or session.activity:
                continue
            # Whoever has used it later has found that it is there.
            if session.last_use <= session.first_use:
                self.forget(session)
                self._leave(session)

    def _interrupt(self, within: Selection, then: float, upstream: str | None) -> None:
        """Where upstream cannot interrupt what a kill has hit, have it ended here."""
        if upstream is None or not self.ends_operations(upstream):
            return
        for session in [one for some in self.active(within) for one in some]:
            for one in () if session.activity is None else list(session.activity.operations):
                if one.upstream == upstream and one.started <= then:
                    self.end_operation(one.place)

    def _used_since(self, key: LogicalSessionId, then: float) -> bool:
        """Whether a session was used since somebody ended it who had not heard of that."""
        session = self.get(key)
        return session is not None and session.last_use > then

    def _take_cursors(self, told: Told) -> None:
        for fields, key, namespace, opened, connection, number in told.opened:
            cursor, session = CursorId(*fields), self.get(make_key(key))
            if self._was_closed(cursor):
                del self._early_closed[cursor]
            elif session is not None:
                self.cursor_opened(cursor, session, namespace, opened, connection, number)
        for fields in told.closed:
            self.cursor_closed(CursorId(*fields))

    def _was_closed(self, cursor: CursorId) -> bool:
        return cursor in self._early_closed

    def _take(self, record: Record) -> Matters:
        """Join what is said of a session with what is known."""
        key = make_key(record.key)
        session = self.get(key)
        matters = Matters.NOT
        if session is None:
            made = self._add((key,), record.last_use, record.owner, Origin(*record.origin))
            if not made:
                return matters
            session = made[0]
            matters = Matters.SOON
            for epoch, at in (
                (self._killed_epoch, self._killed_at),
                (session.owner.killed_epoch, session.owner.killed_at),
            ):
                if at > record.last_use:
                    session.epoch = min(session.epoch, epoch - 1)
        elif record.last_use // _STILL_USED > session.last_use // _STILL_USED:
            matters = Matters.SOON
        if record.first_use < session.first_use:
            session.first_use = record.first_use
            matters = Matters.SOON
        before = self.ending(session)
        if record.last_use > session.last_use:
            session.confirm()
            if before is not None and record.ending is None and record.last_use > before[1]:
                self._touch(session, record.last_use)
                matters = Matters.SOON
            session.last_use = record.last_use
        if (
            record.ending is not None
            and before is None
            and max(record.ending[1], record.last_use) >= session.last_use
        ):
            session.ended, session.ended_at = Ending(record.ending[0]), record.ending[1]
            ended = session.ended is Ending.ENDED
            self.counts.ended += ended
            self.counts.killed += not ended
            matters = Matters.SOON
        if record.tracker is not None:
            matters = max(matters, self._take_transaction(session, record.tracker))
        if self._keep(session, record.kept):
            matters = Matters.SOON
        if session.ended is not None or session.epoch != self._epoch:
            self._free_if_over(session)
        return matters

    def _keep(self, session: Session, kept: bool) -> bool:
        """Another one says whether a session is kept; whether that is news."""
        if kept is (session.place & ELSEWHERE > 0):
            return False
        if not session.place:
            self._hold(session)
        session.place ^= ELSEWHERE
        return True

    def _take_transaction(self, session: Session, told: tuple[Any, ...]) -> Matters:
        """Join what is said of a session's transaction with what is known."""
        tracker = session.transaction
        if tracker is None:
            tracker = session.transaction = Tracker()
        counted, before = tracker.counts, tracker.state
        if not fill_if_newer(tracker, told):
            return Matters.NOT
        self._count_transaction(session, tracker, before, counted)
        plain = before is State.NONE and tracker.state is State.NONE and tracker.doubt < 0
        return Matters.SOMETIME if plain else Matters.SOON
