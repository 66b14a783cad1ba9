"""The sessions of several processes as the one in their midst knows them, which passes on what
each has to hear of the others; see :mod:`proxy.session.replica`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from math import inf, nextafter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy.session.beside import Use, beside, in_words
from proxy.session.counts import Counts, WholeCounts
from proxy.session.cursors import DEFAULT_MAX_CURSORS
from proxy.session.flight import STARTED
from proxy.session.ids import make_key
from proxy.session.places import UNANSWERED
from proxy.session.records import Child, CursorId, Operation
from proxy.session.replica import SharedStore
from proxy.session.store import DEFAULT_MAX_SESSIONS, DEFAULT_TIMEOUT
from proxy.session.telling import Matters, Told, fill
from proxy.session.transactions import ENDING, Outcome, Step

if TYPE_CHECKING:
    from proxy.session.counts import Told as Counted
    from proxy.session.ids import LogicalSessionId
    from proxy.session.records import InFlight, Selection, Session
    from proxy.session.steps import Steps
    from proxy.session.telling import Record
    from proxy.session.tracker import Tracker

    Act = tuple[Any, ...]
    Met = tuple[tuple[bytes, bytes], InFlight, str, str, str]

#: Sessions with nothing new but a retryable write, passed on at a time; others follow later.
_WRITES_AT_ONCE: Final = 200

#: Sessions that were ended or killed by name and of which nobody has told yet: the latest so many.
#: One process may have told of an end before another one of the use that came first.
_MOST_EARLY: Final = 10_000


#: Operations of a session that are held against each other, and pairs that wait to be told.
_FEW: Final = 20
_FEW_MET: Final = 200

#: Seconds before a process was found to have ended of which it may not have told. It tells some
#: times in each, but may have stood still on a busy machine.
_UNTOLD: Final = 5.0


class _Busy(NamedTuple):
    """What one process has going on in a session: operations, and child sessions by their
    fields."""

    operations: list[Operation]
    children: dict[bytes, Child]


class Hub(SharedStore):
    """The store in the midst: told everything by the other processes, it tells each of them what
    the others have said.

    Processes are known by numbers. Operations in flight are known here, and only here.
    """

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        max_sessions: int = DEFAULT_MAX_SESSIONS,
        max_cursors: int = DEFAULT_MAX_CURSORS,
    ) -> None:
        super().__init__(timeout, max_sessions, max_cursors)
        self.counts = WholeCounts()
        self._running: dict[int, dict[Session, _Busy]] = {}
        self._sometime: dict[Session, None] = {}
        #: Operations that others of other processes have come beside, for those processes to watch:
        #: (session, place, kind of incident, reason, command). Whoever tells them takes them out.
        self.met: list[Met] = []
        #: Over, but with something in flight, of which the others were told.
        self._lingering: dict[Session, None] = {}
        #: What was done to such sessions, by their keys.
        self._early: dict[LogicalSessionId, Act] = {}
        #: When a process was no more.
        self._died = -inf

    def heard(self, told: Told, process: int) -> Told:
        """Learn from what ``process`` has told; gives what of it the others should hear, and of
        that :func:`acts_of` what ``process`` should: it may have heard of more in the meantime.
        """
        opened = [one for one in told.opened if not self._was_closed(CursorId(*one[0]))]
        passed = told._replace(records=[], opened=opened)
        started: list[Session] = []
        used: list[Session] = []
        with self._listens():
            for key in told.dropped:
                dropped = self.get(make_key(key))
                if dropped is not None:
                    busy = self._running.get(process, {}).pop(dropped, None)
                    if busy is not None:
                        self._over(dropped, busy)
                    # Unless somebody else uses it; then all have to know it after all.
                    self._sometime[dropped] = None
            self._keep_early(told.acts)
            self._take_acts(told)
            for record in told.records:
                is_new = self.get(make_key(record.key)) is None
                matters = self._take(record)
                session = self.get(make_key(record.key))
                if session is None:
                    continue
                if is_new:
                    started.append(session)
                used.append(session)
                self._runs(session, record, process)
                if matters is Matters.SOON:
                    kept = self._kept(session)
                    passed.records.append(record._replace(operations=(), children=(), kept=kept))
                elif matters is Matters.SOMETIME:
                    self._sometime[session] = None
            self._take_cursors(told)
        for session in used:
            # One process tells what was before another one's death after it.
            self._lose_if_late(session)
        if self.flight is not None:
            for session in started:
                self.flight.session(STARTED, session, session.first_use)
        for record in told.records if self._early else ():
            key = make_key(record.key)
            act, session = self._early.pop(key, None), self.get(key)
            if act is not None and session is not None and self.ending(session) is None:
                # Whoever hears of the session now has to hear of that behind it.
                self._take_acts(Told([act], [], [], [], []))
        return passed

    def _keep_early(self, acts: Iterable[Act]) -> None:
        """Remember what was done to sessions of which nobody has told yet."""
        for kind, what, *when in acts:
            if kind == "over":
                continue  # its own process knows the session
            for fields in what if kind == "end" else what[2]:
                key = make_key(fields)
                if self.get(key) is None:
                    named = [fields] if kind == "end" else (False, [], [fields])
                    self._early.pop(key, None)
                    self._early[key] = (kind, named, *when)
        for key in list(islice(self._early, max(0, len(self._early) - _MOST_EARLY))):
            del self._early[key]

    def whole_counts(self, told: Iterable[Counted]) -> Counts:
        """What has happened to all sessions; of what each process counts for itself, those have
        ``told`` that live and that lived."""
        whole = Counts()
        whole.add(self.counts.told())
        for one in told:
            whole.add(one)
        for name in ("started", "ended", "killed", "expired"):
            setattr(whole, name, getattr(self.counts, name) + getattr(self.heard_counts, name))
        return whole

    def sometime(self) -> Told:
        """What everybody should hear and need not hear at once; a part of it where it is much."""
        told = Told([], [], [], [], [])
        for session in list(islice(self._sometime, _WRITES_AT_ONCE)):
            del self._sometime[session]
            if session in self.with_id(session.id):
                told.records.append(self._record(session, whole=False))
        return told

    # What runs in a session that is over keeps its place, and is known to its own process only:
    # the others hear of both, that it does and that it does no more.

    def end(self, lsids: Iterable[LogicalSessionId], now: float) -> None:
        named = list(lsids)
        super().end(named, now)
        for key in named:
            session = self.get(key)
            if session is not None and session.activity is not None:
                self._look_after(session)

    def killing(self, within: Selection, now: float, upstream: str | None = None) -> Steps[int]:
        hit = yield from super().killing(within, now, upstream)
        for sessions in self.active(within):
            for session in sessions:
                self._look_after(session)
            yield
        return hit

    def _look_after(self, session: Session) -> None:
        """Have the others hear whether a session lingers, if that is news."""
        lingers = self._lingers(session)
        if lingers is (session in self._lingering):
            return
        if lingers:
            self._lingering[session] = None
        else:
            del self._lingering[session]
        self._sometime[session] = None

    def _lingers(self, session: Session) -> bool:
        activity = session.activity
        return (
            activity is not None and bool(activity.operations) and self.ending(session) is not None
        )

    def _kept(self, session: Session) -> bool:
        return super()._kept(session) or self._lingers(session)

    def _keep(self, session: Session, kept: bool) -> bool:
        # What one process says, no other one takes back.
        news = kept and not session.place & UNANSWERED
        if news:
            self.unanswered(session)
        return news

    def _used_since(self, key: LogicalSessionId, then: float) -> bool:
        session = self.get(key)
        if session is None or not super()._used_since(key, then):
            return False
        # Whoever ended it does not know.
        self._sometime[session] = None
        return True

    def forget(self, session: Session) -> bool:
        # What children have open is over with it, and not once more when its process tells.
        for running in self._running.values():
            running.pop(session, None)
        return super().forget(session)

    def gone(self, process: int, now: float) -> int:
        """A process is no more, and nothing of it is in flight; returns how much was.

        What it learnt last it could not tell. So of a transaction that it was about to end, or that
        was used until then, nobody knows the outcome, until who goes on with it is answered: for
        its end, too, a driver uses any connection, and so any process.
        """
        self._died = now
        running = self._running.pop(process, {})
        for session, busy in running.items():
            self._over(session, busy)
            for operation in busy.operations:
                self._cut_off(session, operation, now)
        for some in self.open_transaction_sessions():
            for one in some:
                if not isinstance(one, Child):
                    self._lose_if_late(one)
        return sum(len(busy.operations) for busy in running.values())

    def _cut_off(self, session: Session, operation: Operation, now: float) -> None:
        """What an operation in flight wanted of its session's transaction may have come about."""
        use, tracker = operation.use, session.transaction
        if not use.in_transaction or use.child or use.number is None or tracker is None:
            return
        if use.number > tracker.number:
            known, counted = tracker.state, tracker.counts
            where = operation.upstream, operation.connection
            tracker.apply(Step.START, Outcome.LOST, use.number, now, *where)
            self._count_transaction(session, tracker, known, counted)
            self._doubted(session, tracker)
        elif use.number == tracker.number and use.command in ENDING:
            self._lose(session, tracker, now)

    def _lose_if_late(self, session: Session) -> None:
        """Who has died may have ended a transaction that was used until then."""
        tracker = session.transaction
        if tracker is not None and 0 <= self._died - tracker.last_use <= _UNTOLD:
            self._lose(session, tracker, self._died)

    def _lose(self, session: Session, tracker: Tracker, now: float) -> None:
        if self.transaction_lost(session, now):
            self._doubted(session, tracker)

    def _doubted(self, session: Session, tracker: Tracker) -> None:
        """Have all hear of the doubt, before which goes whatever they have learnt by themselves."""
        tracker.changed = nextafter(tracker.changed, inf)
        self._sometime[session] = None

    def _runs(self, session: Session, record: Record, process: int) -> None:
        """What a process has going on in a session, instead of what it had."""
        running = self._running.setdefault(process, {})
        before = running.pop(session, None)
        if record.operations or record.children:
            busy = running[session] = _Busy([], {})
            for fields, told in record.children:
                child = busy.children[fields] = self._child(session, fields, session.last_use)
                tracker = child.transaction
                known, counted = tracker.state, tracker.counts
                fill(tracker, told)
                self._count_transaction(child, tracker, known, counted)
            self._run(session, record, busy)
            if busy.operations:
                self._meets(session, busy, before, process)
        if before is not None:
            self._over(session, before, running.get(session))
        elif session in running:
            self._look_after(session)

    def _run(self, session: Session, record: Record, busy: _Busy) -> None:
        if not record.operations:
            return
        activity = session.activity
        if activity is None:
            activity = self._make_busy(session)
        for connection, request_id, upstream, started, told in record.operations:
            use = Use(*told)
            operation = Operation(
                session, connection, request_id, use.command, upstream, started, vivified=False
            )
            operation.told = use
            activity.operations[operation] = None
            busy.operations.append(operation)

    def _meets(self, session: Session, busy: _Busy, before: _Busy | None, process: int) -> None:
        """Find what a process has in flight beside others' operations that was not there before.

        Of one process alone, it knows that sooner.
        """
        known = () if before is None else {one.place for one in before.operations}
        for other, running in self._running.items():
            elsewhere = running.get(session) if other != process else None
            if elsewhere is None:
                continue
            for one in busy.operations[:_FEW]:
                if one.place not in known:
                    for there in elsewhere.operations[:_FEW]:
                        self._met(one, there)

    def _met(self, one: Operation, there: Operation) -> None:
        earlier, later = (one, there) if one.started < there.started else (there, one)
        kind = beside(later.use, earlier.use)
        if kind and len(self.met) < _FEW_MET:
            reason = in_words(kind, later.use, later.connection, earlier.use, earlier.connection)
            key = (earlier.session.id, earlier.session.owner.uid)
            self.met.append((key, earlier.place, kind, reason, later.command))

    def _over(self, session: Session, before: _Busy, now: _Busy | None = None) -> None:
        """What was going on is over, but for what goes on ``now``."""
        for fields, child in before.children.items():
            if now is None or fields not in now.children:
                tracker = child.transaction
                known, counted = tracker.state, tracker.counts
                tracker.give_up()
                self._count_transaction(child, tracker, known, counted)
        activity = session.activity
        if activity is not None:
            for operation in before.operations:
                activity.operations.pop(operation, None)
            self._settle(session)
        self._look_after(session)
