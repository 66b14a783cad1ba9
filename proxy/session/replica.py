"""The sessions of several processes on the same ports, as one picture that each of them has.

Every process tracks what passes through its own connections and tells the others what came of
it, some times a second, in plain data: sessions that are new or were used, what has become of
their transactions, cursors, ends and kills. So whatever is asked of *all* sessions
(:mod:`proxy.session.across`) each can answer at once, as of a moment ago, and nothing is asked
of anybody while a request waits.

One process in their midst (:mod:`proxy.session.hub`) is told everything, operations in flight as
well, and passes on what matters to the others: not each use, and no operations. What two
processes say of one session is joined: it was first used at the earlier time and last at the
later, ended unless it was used since, and its transaction is the one with the higher number or,
of the same number, what was learnt last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from proxy.session.counts import Counts, SharedCounts
from proxy.session.cursors import DEFAULT_MAX_CURSORS
from proxy.session.ids import LogicalSessionId, OpenTransaction, Origin, make_key
from proxy.session.places import ELSEWHERE, UNANSWERED
from proxy.session.records import (
    Child,
    CursorId,
    Ending,
    InFlight,
    Operation,
    Selection,
    Session,
)
from proxy.session.steps import MANY
from proxy.session.store import DEFAULT_MAX_SESSIONS, DEFAULT_TIMEOUT, SessionStore
from proxy.session.telling import (
    MOST_AT_ONCE,
    Matters,
    Record,
    Told,
    fill_if_newer,
    told_cursors,
    values,
)
from proxy.session.tracker import Tracker
from proxy.session.transactions import State

if TYPE_CHECKING:
    from proxy.session.info import OperationSessionInfo
    from proxy.session.steps import Steps
    from proxy.session.transactions import Outcome, Step

#: Cursors that are gone and of which nobody has told yet.
_MOST_EARLY_CURSORS: Final = 10_000

#: Seconds: the others hear that a session is in use once in so many, or they would forget it.
_STILL_USED: Final = 30.0


class SharedStore(SessionStore):
    """A store that remembers what others have to be told, and takes in what they tell.

    ``hurry`` is called when something has happened that they should know at once,
    ``end_operation`` for what another process's kill has hit where upstream, an address, is one
    that ``ends_operations`` says yes to.
    """

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_cursors: int = DEFAULT_MAX_CURSORS,
    ) -> None:
        super().__init__(timeout, max_sessions, max_cursors)
        self.hurry: Callable[[], object] = lambda: None
        self.ends_operations: Callable[[str], bool] = lambda _: False
        self.end_operation: Callable[[InFlight], object] = lambda _: None
        self._changed: dict[Session, None] = {}
        self._acts: deque[tuple[Any, ...]] = deque()
        self._dropped: list[tuple[bytes, bytes]] = []
        self._opened: dict[CursorId, None] = {}
        self._closed: list[tuple[str, int]] = []
        #: Cursors that were gone before anybody had told of them, the latest so many: one process
        #: has read a cursor to its end, and another one is about to say that it was opened.
        self._early_closed: dict[CursorId, None] = {}
        #: While others' news are taken in, which nobody has to be told again.
        self._listening = False
        self.counts = SharedCounts()
        #: What has come of that, which others count.
        self.heard_counts = Counts()

    # ------------------------------------------------------------------ what to tell

    def news(self, most: int = MOST_AT_ONCE) -> Told:
        """What has happened since the last time, or a first part of it; false for nothing."""
        told = Told(self._some_acts(), self._dropped, [], [], self._closed)
        self._dropped, self._closed = [], []
        changed = list(islice(self._changed, most))
        for session in changed:
            del self._changed[session]
            if session in self.with_id(session.id):
                told.records.append(self._record(session))
        if not self._changed:
            told.opened.extend(told_cursors(self, self._opened))
            self._opened = {}
        return told

    def _some_acts(self) -> list[tuple[Any, ...]]:
        """What was done first, to so many sessions that it is quickly taken in."""
        acts: list[tuple[Any, ...]] = []
        named = 0
        while self._acts and named < MANY:
            kind, what, *_ = act = self._acts.popleft()
            named += len(what[2]) if kind == "kill" else len(what)
            acts.append(act)
        return acts

    def all_news(self, most: int = MOST_AT_ONCE) -> Iterator[Told]:
        """All that is known, for a process that knows nothing yet."""
        start: int | None = 0
        while start is not None:
            sessions, start = self.page(start, most)
            records = [self._record(one, whole=False) for one in sessions]
            cursors = [
                cursor
                for one in sessions
                if one.activity is not None
                for cursor in one.activity.cursors
            ]
            yield Told([], [], records, list(told_cursors(self, cursors)), [])

    def _record(self, session: Session, *, whole: bool = True) -> Record:
        """What is known of a session; with its operations unless not the ``whole`` is told."""
        ending = self.ending(session)
        tracker, activity = session.transaction, session.activity
        operations: tuple[tuple[int, int, str, float, tuple[Any, ...]], ...] = ()
        if whole and activity is not None and activity.operations:
            operations = tuple(
                (one.connection, one.request_id, one.upstream, one.started, tuple(one.use))
                for one in activity.operations
            )
        return Record(
            (session.id, session.owner.uid),
            session.owner.name,
            tuple(session.origin),
            session.first_use,
            session.last_use,
            None if ending is None else (ending[0].value, ending[1]),
            None if tracker is None else values(tracker),
            operations,
            tuple((one.child, values(one.transaction)) for one in session.children)
            if whole
            else (),
            self._kept(session),
        )

    def _kept(self, session: Session) -> bool:
        """Whether a session has a place whatever others know of it."""
        return session.place & UNANSWERED > 0

    # ------------------------------------------------------------------ what others tell

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

    # ------------------------------------------------------------------ what happens here

    def end(self, lsids: Iterable[LogicalSessionId], now: float) -> None:
        named = list(lsids)
        super().end(named, now)
        if named and not self._listening:
            # Those that are not known here as well: another process may be about to tell of them.
            self._acts.append(("end", [tuple(key) for key in named], now))
            self.hurry()

    def killing(self, within: Selection, now: float, upstream: str | None = None) -> Steps[int]:
        steps = SessionStore.killing(self, within, now, upstream)
        told = self._listening
        hit = -1
        while hit < 0:
            listening, self._listening = self._listening, True
            try:
                next(steps)
            except StopIteration as end:
                hit = end.value
            finally:
                self._listening = listening
            if hit < 0:
                yield
        if not told:
            keys = [tuple(key) for key in within.keys]
            what = (within.everything, list(within.uids), keys[:MANY])
            self._acts.append(("kill", what, now, upstream))
            for start in range(MANY, len(keys), MANY):
                some: Any = (False, [], keys[start : start + MANY])
                self._acts.append(("kill", some, now, upstream))
            self.hurry()
        return hit

    def operation_finished(self, operation: Operation, now: float, refused: bool = False) -> None:
        super().operation_finished(operation, now, refused)
        self._mark(operation.session)

    def cursor_opened(
        self,
        cursor: CursorId,
        session: Session,
        namespace: str,
        now: float,
        connection: int = 0,
        number: int = -1,
    ) -> None:
        super().cursor_opened(cursor, session, namespace, now, connection, number)
        if not self._listening:
            self._early_closed.pop(cursor, None)
            self._opened[cursor] = None

    def cursor_closed(self, cursor: CursorId) -> None:
        if self.cursor_session(cursor) is None:
            self._early_closed[cursor] = None
            if len(self._early_closed) > _MOST_EARLY_CURSORS:
                del self._early_closed[next(iter(self._early_closed))]
        super().cursor_closed(cursor)
        if self._listening:
            return
        if cursor in self._opened:
            # Nobody has heard of it.
            del self._opened[cursor]
        else:
            self._closed.append((cursor.upstream, cursor.id))

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
        api: bytes = b"",
    ) -> None:
        super().transaction_step(
            session, step, outcome, info, now, upstream, connection, statements, api
        )
        if info.child:
            self._mark(session)
        else:
            self._learnt(session, now)

    def abort_transaction(
        self,
        session: Session | Child,
        now: float,
        outcome: str = "aborted",
        upstream: str | None = None,
    ) -> bool:
        aborted = super().abort_transaction(session, now, outcome, upstream)
        self._learnt(session, now)
        return aborted

    def transaction_timed_out(self, one: Session | Child, now: float) -> bool:
        timed_out = super().transaction_timed_out(one, now)
        self._learnt(one, now)
        return timed_out

    def settle_transaction(
        self, session: Session | Child, number: int, now: float, state: State = State.ABORTED
    ) -> bool:
        ended = super().settle_transaction(session, number, now, state)
        self._learnt(session, now)
        return ended

    def transaction_ended(self, one: OpenTransaction, now: float, state: State) -> bool:
        ended = super().transaction_ended(one, now, state)
        if not self._listening:
            told = (tuple(one.key), one.number, one.child, state.value)
            self._acts.append(("over", told, now))
            self.hurry()
        return ended

    def _touch(self, session: Session, now: float) -> None:
        super()._touch(session, now)
        if not self._listening:
            self._changed[session] = None

    def _insert(
        self, lsids: Iterable[LogicalSessionId], now: float, user: str, origin: Origin
    ) -> list[Session]:
        made = super()._insert(lsids, now, user, origin)
        if not self._listening:
            self._changed.update(dict.fromkeys(made))
        return made

    def _leave(self, session: Session) -> None:
        super()._leave(session)
        if not self._listening:
            self._dropped.append((session.id, session.owner.uid))

    def _learnt(self, one: Session | Child, now: float) -> None:
        if isinstance(one, Child):
            # Whoever hears of a child's takes it as it is told.
            self._mark(one.parent)
            return
        if one.transaction is not None:
            one.transaction.changed = now
        self._mark(one)

    def _mark(self, session: Session) -> None:
        if not self._listening:
            self._changed[session] = None
