from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from proxy.session.info import OperationSessionInfo
from proxy.session.transactions import (
    TRANSITIONS,
    Outcome,
    State,
    Step,
    Tracker,
    outcome_of,
    statement_ranges,
    step_of,
)
from proxy.wire.replies import read_reply
from tests import build

PAIRS = list(product(Step, Outcome))


def tracker(number: int = 1, state: State = State.IN_PROGRESS) -> Tracker:
    made = Tracker()
    made.number = number
    made.state = state
    return made


@pytest.mark.parametrize(
    ("command", "fields", "step"),
    [
        ("insert", (None, None, None), None),
        ("insert", (1, None, None), Step.WRITE),
        ("insert", (1, False, True), Step.START),
        ("commitTransaction", (1, False, True), Step.START),
        ("insert", (1, False, None), Step.CONTINUE),
        ("commitTransaction", (1, False, None), Step.COMMIT),
        ("abortTransaction", (1, False, None), Step.ABORT),
        ("prepareTransaction", (1, False, None), Step.PREPARE),
    ],
)
def test_steps(command: str, fields: tuple[Any, ...], step: Step | None) -> None:
    number, autocommit, start = fields
    info = OperationSessionInfo(None, number, autocommit, start)
    assert step_of(command, info) is step


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (None, Outcome.LOST),
        ({"ok": 1.0}, Outcome.OK),
        ({"ok": 0.0, "code": 256}, Outcome.COMMITTED),
        ({"ok": 0.0, "code": 251}, Outcome.GONE),
        ({"ok": 0.0, "code": 225}, Outcome.REJECTED),
        ({"ok": 0.0, "code": 117}, Outcome.REJECTED),
        ({"ok": 0.0, "code": 263}, Outcome.REJECTED),
        ({"ok": 0.0, "code": 50768}, Outcome.REJECTED),
        (
            {"errorLabels": ["TransientTransactionError"], "ok": 0.0, "code": 112},
            Outcome.GONE,
        ),
        ({"errorLabels": "TransientTransactionError", "ok": 0.0, "code": 112}, Outcome.FAILED),
        ({"errorLabels": ["Other"], "ok": 0.0, "code": 112}, Outcome.FAILED),
        ({"ok": 0.0}, Outcome.FAILED),
    ],
)
def test_outcomes(reply: dict[str, Any] | None, outcome: Outcome) -> None:
    read = None if reply is None else read_reply(build.reply(reply, 1))
    assert outcome_of(read) is outcome


@pytest.mark.parametrize(("step", "outcome"), PAIRS)
def test_every_step_on_the_current_number(step: Step, outcome: Outcome) -> None:
    one = tracker()
    one.apply(step, outcome, 1, 5.0)
    expected = TRANSITIONS.get((step, outcome), State.IN_PROGRESS)
    if step is Step.WRITE:
        # The number is a transaction's: an answer to a write under it tells nothing.
        expected = State.IN_PROGRESS
    assert one.state is expected
    assert one.number == 1


@pytest.mark.parametrize(("step", "outcome"), PAIRS)
def test_only_what_was_accepted_raises_the_number(step: Step, outcome: Outcome) -> None:
    one = tracker(1, State.COMMITTED)
    one.apply(step, outcome, 2, 5.0)
    accepted = (step, outcome) in TRANSITIONS and outcome in (Outcome.OK, Outcome.COMMITTED)
    assert one.number == (2 if accepted else 1)
    assert one.state is (TRANSITIONS[step, outcome] if accepted else State.COMMITTED)


@pytest.mark.parametrize(("step", "outcome"), PAIRS)
def test_an_older_number_teaches_nothing(step: Step, outcome: Outcome) -> None:
    one = tracker(3)
    one.apply(step, outcome, 2, 5.0)
    assert (one.number, one.state) == (3, State.IN_PROGRESS)


def test_a_higher_number_ends_what_was_open() -> None:
    one = tracker()
    one.apply(Step.WRITE, Outcome.OK, 2, 5.0)
    assert (one.number, one.state) == (2, State.NONE)


def test_a_start_that_fails_has_aborted_the_one_before() -> None:
    one = tracker()
    one.apply(Step.START, Outcome.FAILED, 2, 5.0)
    assert (one.number, one.state) == (1, State.ABORTED)


def test_times_and_places() -> None:
    one = Tracker()
    one.apply(Step.START, Outcome.OK, 1, 5.0, "a:1", 7)
    one.apply(Step.CONTINUE, Outcome.OK, 1, 8.0, "a:1", 8)
    assert (one.started, one.last_use, one.upstream, one.connection) == (5.0, 8.0, "a:1", 8)
    one.apply(Step.START, Outcome.OK, 2, 9.0, "b:1", 9)
    assert (one.started, one.upstream) == (9.0, "b:1")


@pytest.mark.parametrize("state", list(State))
def test_a_kill_aborts_only_what_is_in_progress(state: State) -> None:
    one = tracker(4, state)
    assert one.kill() is (state is State.IN_PROGRESS)
    assert one.state is (State.ABORTED if state is State.IN_PROGRESS else state)
    assert one.number == 4


@pytest.mark.parametrize(
    ("info", "count", "ranges"),
    [
        (OperationSessionInfo(), 3, [range(0, 3)]),
        (OperationSessionInfo(), 0, []),
        (OperationSessionInfo(stmt_id=4), 2, [range(4, 6)]),
        (
            OperationSessionInfo(stmt_ids=(0, 1, 2, 7, 9)),
            5,
            [range(0, 3), range(7, 8), range(9, 10)],
        ),
        (OperationSessionInfo(stmt_ids=()), 0, []),
    ],
)
def test_statement_ranges(info: OperationSessionInfo, count: int, ranges: list[range]) -> None:
    assert statement_ranges(info, count) == ranges


def test_executed_statements_are_joined_and_bounded() -> None:
    one = Tracker()
    one.executed_statements([range(0, 2)])
    one.executed_statements([range(2, 4)])
    one.executed_statements([range(0, 4)])
    assert one.statements == [range(0, 4)]
    one.executed_statements([range(n, n + 1) for n in range(10, 5000, 2)])
    assert len(one.statements) == 256
    one.apply(Step.WRITE, Outcome.OK, 1, 0.0)
    assert one.statements is None
