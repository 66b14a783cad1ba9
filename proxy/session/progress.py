"""What becomes of sessions' transactions, and how many count for limits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from proxy.session.counts import OUTCOME_OF, TIMED_OUT, Counts
from proxy.session.records import Child
from proxy.session.selected import SelectedSessions
from proxy.session.tracker import Tracker
from proxy.session.transactions import Outcome, State, Step

if TYPE_CHECKING:
    from proxy.session.flight import Flight
    from proxy.session.ids import OpenTransaction
    from proxy.session.info import OperationSessionInfo
    from proxy.session.records import Session


class TransactionStore(SelectedSessions):
    """Sessions with their transactions. ``counts`` says what has happened to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()
        #: Told what becomes of sessions, where that is recorded.
        self.flight: Flight | None = None

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
        """Learn from one reply to a request with a txnNumber."""
        if info.txn_number is None or session not in self.with_id(session.id):
            return
        if step is Step.CONTINUE and outcome is Outcome.OK and not info.child:
            known = session.transaction
            if known is not None and known.goes_on(info.txn_number):
                # As most often: nothing has begun or ended, so that nothing counts otherwise.
                known.upstream, known.connection, known.last_use = upstream, connection, now
                if statements:
                    known.executed_statements(statements)
                known.ran += 1
                self.counts.statements += 1
                return
        one = self._child(session, info.child, now) if info.child else session
        tracker = one.transaction
        if tracker is None:
            tracker = one.transaction = Tracker()
        counted = tracker.counts
        before = (tracker.state, tracker.number, tracker.started)
        ran, begun = tracker.ran, self.counts.transactions_started
        if step is Step.START and tracker.starting:
            tracker.starting -= 1
        if step is Step.WRITE:
            self.counts.replays += tracker.is_replay(info.txn_number, statements)
            tracker.attempted = -1 if outcome is Outcome.OK else info.txn_number
        tracker.apply(step, outcome, info.txn_number, now, upstream, connection, api)
        if statements and outcome is Outcome.OK and tracker.number == info.txn_number:
            tracker.executed_statements(statements)
        if tracker.number != before[1]:
            tracker.ran = 0
        if outcome is Outcome.OK and step in (Step.START, Step.CONTINUE):
            tracker.ran += 1
        self.counts.stepped(tracker, step, outcome, before, now)
        if self.flight is not None:
            ended = self.counts.over(tracker, step, outcome, before)
            self._tell_step(one, tracker, step, before, ended, ran, now)
            if self.counts.transactions_started > begun:
                self.flight.begun(one, tracker.number, now)
        self._count_transaction(one, tracker, before[0], counted)

    def write_sent(self, session: Session, number: int, mark: int) -> bool:
        """Note that a retryable write goes upstream, known again by ``mark``; whether another one
        did with the same number."""
        tracker = session.transaction
        if tracker is None:
            tracker = session.transaction = Tracker()
        return tracker.marks(number, mark)

    def transaction_starts(self, session: Session, child: bytes = b"", now: float = 0.0) -> None:
        """Note that a transaction's start goes upstream: it counts until its reply says more.

        ``child`` is the child session that it belongs to, if it does.
        """
        one = self._child(session, child, now) if child else session
        tracker = one.transaction
        if tracker is None:
            tracker = one.transaction = Tracker()
        counted = tracker.counts
        tracker.starting += 1
        self._count_transaction(one, tracker, tracker.state, counted)

    def abort_transaction(
        self,
        session: Session | Child,
        now: float,
        outcome: str = "aborted",
        upstream: str | None = None,
    ) -> bool:
        """Note that what is open at ``upstream`` (None: everywhere) was aborted; True if it was
        seen open. ``outcome`` is ``killed`` where that came of a kill."""
        tracker = session.transaction
        if tracker is None:
            return False
        return self._finish(session, tracker, partial(tracker.kill, upstream), outcome, now)

    def transaction_timed_out(self, one: Session | Child, now: float) -> bool:
        """Note that upstream lets no transaction be open for so long: it is shown and counted as
        one that is over, and limits hold for it as for one that may be open. True if it was seen
        open."""
        tracker = one.transaction
        if tracker is None:
            return False
        return self._finish(one, tracker, partial(tracker.lose, State.TIMED_OUT), TIMED_OUT, now)

    def transaction_lost(self, one: Session, now: float) -> bool:
        """As :meth:`transaction_timed_out`, of one that may have ended at a process that has died
        before it could tell."""
        tracker = one.transaction
        if tracker is None:
            return False
        return self._finish(one, tracker, partial(tracker.lose, State.UNKNOWN), "unknown", now)

    def settle_transaction(
        self, session: Session | Child, number: int, now: float, state: State = State.ABORTED
    ) -> bool:
        """Note how the transaction ``number`` has ended, as upstream said when asked to abort it;
        True if it was seen open until now."""
        tracker = session.transaction
        whole = session.parent if isinstance(session, Child) else session
        if tracker is None or whole not in self.with_id(session.id):
            return False
        settle = partial(tracker.settle, number, state)
        return self._finish(session, tracker, settle, OUTCOME_OF[state], now)

    def transaction_ended(self, one: OpenTransaction, now: float, state: State) -> bool:
        """As :meth:`settle_transaction`, of a transaction that somebody else asked about, who may
        be another process; False too where it is not known here."""
        session = self.get(one.key)
        if session is None:
            return False
        found: Session | Child | None = session
        if one.child:
            activity = session.activity
            found = None if activity is None else activity.children.get(one.child)
        return found is not None and self.settle_transaction(found, one.number, now, state)

    # Inside

    def _finish(
        self,
        one: Session | Child,
        tracker: Tracker,
        end: Callable[[], bool],
        outcome: str,
        now: float,
    ) -> bool:
        """Note what ``end`` makes of a transaction; what that says: whether it was seen open."""
        before, counted = tracker.state, tracker.counts
        ended = end()
        if ended:
            self._ended(one, tracker, outcome, now)
        self._count_transaction(one, tracker, before, counted)
        return ended

    def _ended(self, one: Session | Child, tracker: Tracker, outcome: str, now: float) -> None:
        """What was seen open is so no more."""
        seconds = now - tracker.started
        self.counts.finished(outcome, seconds)
        if self.flight is not None:
            self.flight.over(one, tracker.number, now, outcome, seconds, tracker.ran)

    def _tell_step(
        self,
        one: Session | Child,
        tracker: Tracker,
        step: Step,
        before: tuple[State, int, float],
        ended: str,
        ran: int,
        now: float,
    ) -> None:
        """Tell of a transaction that a reply has ``ended``, as :meth:`Counts.stepped` counts it."""
        _, number, started = before
        flight = self.flight
        if flight is None:
            return
        if ended:
            flight.over(one, number, now, ended, now - started, ran)
        elif tracker.number != number and step in (Step.COMMIT, Step.ABORT):
            # Nobody here has seen it begin.
            flight.over(one, tracker.number, now, OUTCOME_OF.get(tracker.state, "unknown"), -1.0, 0)

    def _child(self, session: Session, fields: bytes, now: float) -> Child:
        """A session's child, known or new; the oldest is forgotten where there are too many."""
        activity = session.activity
        if activity is None:
            activity = self._make_busy(session)
        child = activity.children.get(fields)
        if child is not None:
            return child
        surplus = self._children.surplus(activity.children)
        child = activity.children[fields] = Child(session, fields)
        self._children.add(child)
        if surplus is not None:
            tracker = surplus.transaction
            before, counted = tracker.state, tracker.counts
            if before is State.IN_PROGRESS:
                self._ended(surplus, tracker, "unknown", now)
            tracker.give_up()
            self._count_transaction(surplus, tracker, before, counted)
        return child

    def _drop_child(self, child: Child) -> None:
        """Nothing of it is open any more, so that nothing has to be known of it."""
        self._children.discard(child)
        activity = child.parent.activity
        if activity is not None and activity.children.get(child.child) is child:
            del activity.children[child.child]

    def _settle(self, session: Session) -> None:
        """Give back what an idle session does not need."""
        activity = session.activity
        if activity is None or not activity:
            session.activity = None
            tracker = session.transaction
            if tracker is None or not tracker.counts:
                self._deactivate(session)

    def _count_transaction(
        self, one: Session | Child, tracker: Tracker, before: State, counted: bool
    ) -> None:
        """A tracker has changed from the state ``before``, and from counting for limits or not."""
        after, counts = tracker.state, tracker.counts
        child = one if isinstance(one, Child) else None
        if before is after and counts is counted and (counts or child is None):
            return
        session = one.parent if isinstance(one, Child) else one
        owner = session.owner
        if before is not after:
            if after is State.IN_PROGRESS:
                owner.open_transactions += 1
                self.open_transactions += 1
            elif before is State.IN_PROGRESS:
                owner.open_transactions -= 1
                self.open_transactions -= 1
        if child is not None and not counts:
            self._drop_child(child)
        if counts and not counted:
            owner.counted_transactions += 1
            self._activate(session)
        elif not counts and (counted or child is not None):
            owner.counted_transactions -= counted
            self._settle(session)
