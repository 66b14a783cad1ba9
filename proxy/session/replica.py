"""The sessions of several processes on the same ports, as one picture that each of them has.

Every process tracks what passes through its own connections and tells the others what came of
it, some times a second, in plain data: sessions that are new or were used, what has become of
their transactions, cursors, ends and kills. So whatever is asked of *all* sessions
(:mod:`proxy.session.across`) each can answer at once, as of a moment ago, and nothing is asked
of anybody while a request waits.

One process in their midst (:mod:`proxy.session.hub`) is told everything, operations in flight as
well, and passes on what matters to the others: not each use, and no operations. How that is taken
in says :mod:`proxy.session.hearing`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from proxy.session.cursors import DEFAULT_MAX_CURSORS
from proxy.session.hearing import HearingStore
from proxy.session.places import UNANSWERED
from proxy.session.records import (
    Child,
    CursorId,
    Operation,
    Selection,
    Session,
)
from proxy.session.steps import MANY
from proxy.session.store import DEFAULT_MAX_SESSIONS, DEFAULT_TIMEOUT, SessionStore
from proxy.session.telling import (
    MOST_AT_ONCE,
    Record,
    Told,
    told_cursors,
    values,
)
from proxy.session.transactions import State

if TYPE_CHECKING:
    from proxy.session.ids import LogicalSessionId, OpenTransaction, Origin
    from proxy.session.info import OperationSessionInfo
    from proxy.session.steps import Steps
    from proxy.session.transactions import Outcome, Step

#: Cursors that are gone and of which nobody has told yet.
_MOST_EARLY_CURSORS: Final = 10_000


class SharedStore(HearingStore):
    """A store that remembers what others have to be told, and takes in what they tell.

    ``hurry`` is called when something has happened that they should know at once.
    """

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_cursors: int = DEFAULT_MAX_CURSORS,
    ) -> None:
        super().__init__(timeout, max_sessions, max_cursors)
        self.hurry: Callable[[], object] = lambda: None
        self._changed: dict[Session, None] = {}
        self._acts: deque[tuple[Any, ...]] = deque()
        self._dropped: list[tuple[bytes, bytes]] = []
        self._opened: dict[CursorId, None] = {}
        self._closed: list[tuple[str, int]] = []

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
