"""What becomes of sessions' transactions, and how many count for limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.session.counts import OUTCOME_OF, Counts
from proxy.session.index import SessionIndex
from proxy.session.transactions import Outcome, State, Step, Tracker

if TYPE_CHECKING:
    from proxy.session.info import OperationSessionInfo
    from proxy.session.records import Session


class TransactionStore(SessionIndex):
    """Sessions with their transactions. ``counts`` says what has happened to all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

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
        tracker = session.transaction
        if tracker is None:
            tracker = session.transaction = Tracker()
        counted = tracker.counts
        before = (tracker.state, tracker.number, tracker.started)
        if step is Step.START and tracker.starting:
            tracker.starting -= 1
        if step is Step.WRITE:
            self.counts.replays += tracker.is_replay(info.txn_number, statements)
            tracker.attempted = -1 if outcome is Outcome.OK else info.txn_number
        tracker.apply(step, outcome, info.txn_number, now, upstream, connection, api)
        if statements and outcome is Outcome.OK and tracker.number == info.txn_number:
            tracker.executed_statements(statements)
        self.counts.stepped(tracker, step, outcome, before, now)
        self._count_transaction(session, tracker, before[0], counted)

    def transaction_starts(self, session: Session) -> None:
        """Note that a transaction's start goes upstream: it counts until its reply says more."""
        tracker = session.transaction
        if tracker is None:
            tracker = session.transaction = Tracker()
        counted = tracker.counts
        tracker.starting += 1
        self._count_transaction(session, tracker, tracker.state, counted)

    def abort_transaction(self, session: Session, now: float, outcome: str = "aborted") -> bool:
        """Note that the open transaction was aborted; True if it was open. ``outcome`` is
        ``killed`` where that came of a kill."""
        tracker = session.transaction
        if tracker is None:
            return False
        before, counted = tracker.state, tracker.counts
        aborted = tracker.kill()
        if aborted:
            self.counts.finished(outcome, now - tracker.started)
        self._count_transaction(session, tracker, before, counted)
        return aborted

    def settle_transaction(
        self, session: Session, number: int, now: float, state: State = State.ABORTED
    ) -> bool:
        """Note how the transaction ``number`` has ended, as upstream said when asked to abort it;
        True if it was seen open until now."""
        tracker = session.transaction
        if tracker is None or session not in self.with_id(session.id):
            return False
        before, counted = tracker.state, tracker.counts
        ended = tracker.settle(number, state)
        if ended:
            self.counts.finished(OUTCOME_OF[state], now - tracker.started)
        self._count_transaction(session, tracker, before, counted)
        return ended

    # Inside

    def _settle(self, session: Session) -> None:
        """Give back what an idle session does not need."""
        activity = session.activity
        if activity is None or not (activity.operations or activity.cursors):
            session.activity = None
            tracker = session.transaction
            if tracker is None or not tracker.counts:
                self._deactivate(session)

    def _count_transaction(
        self, session: Session, tracker: Tracker, before: State, counted: bool
    ) -> None:
        """A tracker has changed from the state ``before``, and from counting for limits or not."""
        after, owner = tracker.state, session.owner
        if before is not after:
            if after is State.IN_PROGRESS:
                owner.open_transactions += 1
                self.open_transactions += 1
            elif before is State.IN_PROGRESS:
                owner.open_transactions -= 1
                self.open_transactions -= 1
        counts = tracker.counts
        if counts and not counted:
            owner.counted_transactions += 1
            self._activate(session)
        elif counted and not counts:
            owner.counted_transactions -= 1
            self._settle(session)
