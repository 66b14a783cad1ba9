"""What has happened in a session store since it was made, for the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.counting import Distribution, Tally
from proxy.session.transactions import Outcome, State, Step

if TYPE_CHECKING:
    from proxy.session.tracker import Tracker

#: Seconds; servers abort transactions after 60 by default.
TRANSACTION_BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0,
)  # fmt: skip

TIMED_OUT: Final = State.TIMED_OUT.value

#: How an open transaction can end; ``aborted`` also by the transaction guard, ``killed`` and
#: ``expired`` with its session, ``unknown`` where the reply to its end did not come or say or its
#: process has died, and ``timed out`` as upstream lets none be open for so long. The latter two may
#: be followed by another end.
OUTCOMES: Final = (
    *("committed", "aborted", "killed", "expired", "prepared", "unknown"),
    TIMED_OUT,
)


#: What adds up over several processes; the others are of sessions, which all of them know.
SUMMED: Final = (
    *("cursors_dropped", "refused", "replays", "retryable_writes", "statements"),
    "transactions_started",
)

#: Those by name, transactions by outcome, and their durations as (counts, sum).
Told = tuple[dict[str, int], dict[str, int], dict[str, tuple[list[int], float]]]


class Counts:
    """Numbers that only grow.

    ``ended``, ``killed`` count ends and kills of sessions that were known and not ended or
    killed before; ``refused`` those that upstream did not take although they were noted.
    ``transactions`` and ``durations`` are by :data:`OUTCOMES` and cover transactions that were
    seen open. ``statements`` are successful commands in transactions. ``replays`` are retryable
    writes whose txnNumber and statements had been sent before.
    """

    __slots__ = (
        "cursors_dropped",
        "durations",
        "ended",
        "expired",
        "killed",
        "refused",
        "replays",
        "retryable_writes",
        "started",
        "statements",
        "transactions",
        "transactions_started",
    )

    def __init__(self) -> None:
        self.started = 0
        self.ended = 0
        self.killed = 0
        self.expired = 0
        self.refused = 0
        self.transactions_started = 0
        self.transactions: Tally[str] = Tally(dict.fromkeys(OUTCOMES, 0))
        self.durations = {outcome: Distribution(TRANSACTION_BOUNDS) for outcome in OUTCOMES}
        #: Cursors that were forgotten for others, since there were too many.
        self.cursors_dropped = 0
        self.statements = 0
        self.retryable_writes = 0
        self.replays = 0

    def told(self) -> Told:
        """What one of several processes has counted that no other has, as plain data."""
        return (
            {name: getattr(self, name) for name in SUMMED},
            dict(self.transactions),
            {name: (list(one.counts), one.sum) for name, one in self.durations.items()},
        )

    def add(self, told: Told) -> None:
        """Add what another process has counted."""
        numbers, transactions, durations = told
        for name, count in numbers.items():
            setattr(self, name, getattr(self, name) + count)
        for outcome, count in transactions.items():
            self.transactions[outcome] += count
        for outcome, (counts, seconds) in durations.items():
            one = self.durations[outcome]
            one.counts[:] = map(sum, zip(one.counts, counts, strict=True))
            one.sum += seconds

    def finished(self, outcome: str, seconds: float) -> None:
        """An open transaction has ended after so many seconds."""
        self.transactions[outcome] += 1
        self.durations[outcome].observe(seconds)

    def over(
        self, tracker: Tracker, step: Step, outcome: Outcome, before: tuple[State, int, float]
    ) -> str:
        """How what was seen open ``before`` a reply was taken in has ended by it; "" if it has not,
        or if that is counted elsewhere."""
        same = tracker.number == before[1]
        if proved(before[0], same, outcome) is not State.IN_PROGRESS:
            return ""
        if same and tracker.state is State.IN_PROGRESS:
            return ""
        # A higher txnNumber aborts what is open under a lower one.
        return OUTCOME_OF.get(tracker.state if same else State.ABORTED, "unknown")

    def stepped(
        self,
        tracker: Tracker,
        step: Step,
        outcome: Outcome,
        before: tuple[State, int, float],
        now: float,
    ) -> None:
        """A reply was taken in; ``before`` are the tracker's state, number and start until then."""
        if step is Step.WRITE:
            self.retryable_writes += outcome is Outcome.OK
        elif outcome is Outcome.OK and step in (Step.START, Step.CONTINUE):
            self.statements += 1
        state, number, started = before
        same = tracker.number == number
        state = proved(state, same, outcome)
        if how := self.over(tracker, step, outcome, before):
            self.finished(how, now - started)
        if tracker.state is State.IN_PROGRESS and not (same and state is tracker.state):
            self.transactions_started += 1


def proved(before: State, same: bool, outcome: Outcome) -> State:
    """The state ``before`` a reply about the ``same`` transaction, as that reply tells it: what
    succeeds in one that has timed out shows that it was open all the while."""
    if before is State.TIMED_OUT and same and outcome is Outcome.OK:
        return State.IN_PROGRESS
    return before


#: Of a transaction that was seen open, by the state that followed.
OUTCOME_OF: Final = {
    State.COMMITTED: "committed",
    State.ABORTED: "aborted",
    State.PREPARED: "prepared",
}


class SharedCounts(Counts):
    """The numbers of one of several processes: a transaction is counted where it begins and where
    it ends, which other processes may see nothing of."""

    __slots__ = ()

    def finished(self, outcome: str, seconds: float) -> None:
        # What comes with time comes in all processes, and is counted where all sessions are known.
        if outcome != "expired":
            super().finished(outcome, seconds)

    def over(
        self, tracker: Tracker, step: Step, outcome: Outcome, before: tuple[State, int, float]
    ) -> str:
        # Drivers end a transaction before they begin another one, and abort one that has failed:
        # the process that has seen the end, or the failure, has counted that, and may be about to
        # tell.
        if tracker.number != before[1] or (step is Step.ABORT and outcome is Outcome.GONE):
            return ""
        return super().over(tracker, step, outcome, before)

    def stepped(
        self,
        tracker: Tracker,
        step: Step,
        outcome: Outcome,
        before: tuple[State, int, float],
        now: float,
    ) -> None:
        begun = self.transactions_started
        super().stepped(tracker, step, outcome, before, now)
        if step is not Step.START:
            self.transactions_started = begun
        if step in (Step.COMMIT, Step.ABORT) and tracker.number > before[1]:
            # It was begun elsewhere, and nobody has told yet when.
            self.transactions[OUTCOME_OF.get(tracker.state, "unknown")] += 1


class WholeCounts(SharedCounts):
    """The numbers of the process in the midst of several."""

    __slots__ = ()

    def finished(self, outcome: str, seconds: float) -> None:
        Counts.finished(self, outcome, seconds)
