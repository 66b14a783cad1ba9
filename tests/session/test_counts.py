from __future__ import annotations

import pytest

from proxy.session.counts import OUTCOMES
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.records import Selection, Session
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from tests.session.sessions import ALICE, uuid


def key(number: int = 2) -> LogicalSessionId:
    return LogicalSessionId(uuid(number), ALICE)


class Played:
    """One session whose transaction is driven step by step, one second a step."""

    def __init__(self) -> None:
        self.store = SessionStore(timeout=100)
        self.now = 0.0
        session = self.store.use(key(), self.now)
        assert session is not None
        self.session: Session = session

    def step(
        self,
        step: Step,
        outcome: Outcome = Outcome.OK,
        number: int = 1,
        statements: list[range] | None = None,
    ) -> Played:
        self.now += 1.0
        info = OperationSessionInfo(key(), number, False)
        self.store.transaction_step(
            self.session, step, outcome, info, self.now, "a:1", 1, statements
        )
        return self

    @property
    def outcomes(self) -> dict[str, int]:
        return {name: count for name, count in self.store.counts.transactions.items() if count}

    def seconds(self, outcome: str) -> float:
        return self.store.counts.durations[outcome].sum


def test_a_transaction_from_start_to_commit() -> None:
    played = Played().step(Step.START).step(Step.CONTINUE).step(Step.COMMIT)
    counts = played.store.counts
    assert played.outcomes == {"committed": 1}
    assert played.seconds("committed") == 2.0
    assert (counts.transactions_started, counts.statements) == (1, 2)


@pytest.mark.parametrize(
    ("steps", "outcomes", "started"),
    [
        ([(Step.START, Outcome.OK), (Step.ABORT, Outcome.OK)], {"aborted": 1}, 1),
        ([(Step.START, Outcome.OK), (Step.COMMIT, Outcome.LOST)], {"unknown": 1}, 1),
        ([(Step.START, Outcome.OK), (Step.CONTINUE, Outcome.GONE)], {"aborted": 1}, 1),
        ([(Step.START, Outcome.OK), (Step.CONTINUE, Outcome.FAILED)], {}, 1),
        ([(Step.START, Outcome.OK), (Step.CONTINUE, Outcome.LOST)], {}, 1),
        ([(Step.START, Outcome.OK), (Step.PREPARE, Outcome.OK)], {"prepared": 1}, 1),
        ([(Step.START, Outcome.OK), (Step.CONTINUE, Outcome.REJECTED)], {}, 1),
        # Never seen open: older than the proxy, or a start that upstream refused.
        ([(Step.COMMIT, Outcome.OK)], {}, 0),
        ([(Step.START, Outcome.FAILED)], {}, 0),
        # What was counted once is not counted again.
        (
            [(Step.START, Outcome.OK), (Step.COMMIT, Outcome.OK), (Step.COMMIT, Outcome.OK)],
            {"committed": 1},
            1,
        ),
        ([(Step.START, Outcome.OK), (Step.START, Outcome.OK)], {}, 1),
    ],
)
def test_outcomes(
    steps: list[tuple[Step, Outcome]], outcomes: dict[str, int], started: int
) -> None:
    played = Played()
    for step, outcome in steps:
        played.step(step, outcome)
    assert played.outcomes == outcomes
    assert played.store.counts.transactions_started == started


def test_a_start_on_top_of_an_open_transaction_ends_that_one() -> None:
    played = Played().step(Step.START).step(Step.CONTINUE).step(Step.START, number=2)
    assert played.outcomes == {"aborted": 1}
    assert played.seconds("aborted") == 2.0
    assert played.store.counts.transactions_started == 2
    played.step(Step.START, Outcome.FAILED, number=3)
    assert played.outcomes == {"aborted": 1}
    played.step(Step.START, Outcome.GONE, number=3)
    assert played.outcomes == {"aborted": 2}
    assert played.seconds("aborted") == 4.0


def test_a_retryable_write_ends_an_open_transaction_with_a_lower_number() -> None:
    played = Played().step(Step.START).step(Step.WRITE, number=2)
    assert played.outcomes == {"aborted": 1}
    counts = played.store.counts
    assert (counts.statements, counts.retryable_writes) == (1, 1)


def test_what_a_limit_ends_is_aborted_and_not_killed() -> None:
    played = Played().step(Step.START)
    [[session]] = played.store.open_transaction_sessions()
    assert played.store.abort_transaction(session, 6.0)
    assert (played.outcomes, played.seconds("aborted")) == ({"aborted": 1}, 5.0)


def test_killed_and_expired_transactions() -> None:
    played = Played().step(Step.START)
    played.store.kill(Selection(keys=frozenset((key(),))), 6.0)
    assert (played.outcomes, played.seconds("killed")) == ({"killed": 1}, 5.0)
    played.step(Step.CONTINUE, Outcome.GONE)
    assert played.outcomes == {"killed": 1}
    played.step(Step.START, number=2).step(Step.CONTINUE, number=2)
    played.store.expire(1000.0)
    assert (played.outcomes, played.seconds("expired")) == ({"killed": 1, "expired": 1}, 1.0)
    assert not set(played.outcomes) - set(OUTCOMES)


@pytest.mark.parametrize(
    ("writes", "done", "replays"),
    [
        ([(1, Outcome.OK, range(1)), (2, Outcome.OK, range(1))], 2, 0),
        ([(1, Outcome.OK, range(1)), (1, Outcome.OK, range(1))], 2, 1),
        ([(1, Outcome.OK, range(3)), (1, Outcome.OK, range(2, 9))], 2, 1),
        ([(1, Outcome.OK, range(3)), (1, Outcome.OK, range(3, 9))], 2, 0),
        # The usual one: the connection broke before the reply came.
        ([(1, Outcome.LOST, range(1)), (1, Outcome.OK, range(1))], 1, 1),
        ([(1, Outcome.REJECTED, range(1)), (1, Outcome.OK, range(1))], 1, 1),
        ([(1, Outcome.LOST, range(1)), (2, Outcome.OK, range(1))], 1, 0),
    ],
)
def test_retryable_writes(
    writes: list[tuple[int, Outcome, range]], done: int, replays: int
) -> None:
    played = Played()
    for number, outcome, statements in writes:
        played.step(Step.WRITE, outcome, number, [statements])
    counts = played.store.counts
    assert (counts.retryable_writes, counts.replays) == (done, replays)


def test_sessions_by_how_their_lives_went() -> None:
    store = SessionStore(timeout=10)
    for number in range(5):
        store.use(key(number), 0.0)
    store.end([key(0), key(0), key(9)], 1.0)
    store.kill(Selection(keys=frozenset((key(0), key(1), key(9)))), 2.0)
    operation = store.operation_started(key(7), 3.0)
    assert operation is not None
    store.operation_finished(operation, 4.0, refused=True)
    store.expire(11.0)
    counts = store.counts
    assert (counts.started, counts.ended, counts.killed) == (6, 1, 2)
    assert (counts.refused, counts.expired) == (1, 5)
    assert counts.started - counts.refused - counts.expired == len(store)
