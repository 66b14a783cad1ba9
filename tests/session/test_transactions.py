from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from proxy.session.info import OperationSessionInfo
from proxy.session.ranges import statement_ranges
from proxy.session.tracker import Tracker
from proxy.session.transactions import (
    TRANSITIONS,
    Outcome,
    State,
    Step,
    outcome_of,
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
        ("coordinateCommitTransaction", (1, False, None), Step.COMMIT),
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
        ({"errorLabels": ["TransientTransactionError"], "ok": 0.0, "code": 24}, Outcome.GONE),
        ({"errorLabels": "TransientTransactionError", "ok": 0.0, "code": 24}, Outcome.FAILED),
        ({"errorLabels": ["Other"], "ok": 0.0, "code": 24}, Outcome.FAILED),
        ({"ok": 0.0}, Outcome.FAILED),
        # What only a command that runs in the transaction can come to.
        *(
            ({"ok": 0.0, "code": code}, Outcome.GONE)
            for code in (112, 121, 239, 246, 250, 272, 290, 365, 388, 11000, 11001)
        ),
        ({"n": 0, "writeErrors": [{"index": 0, "code": 11000}], "ok": 1.0}, Outcome.GONE),
        ({"n": 1, "writeErrors": [], "ok": 1.0}, Outcome.OK),
        ({"nErrors": 1, "ok": 1.0}, Outcome.GONE),
        ({"nErrors": 0, "ok": 1.0}, Outcome.OK),
        # What upstream says at the door, or may have said there.
        *(
            ({"ok": 0.0, "code": code}, Outcome.REJECTED)
            for code in (2, 9, 13, 14, 59, 72, 347, 391, 40413, 40414, 40415, 40472, 40571, 498870)
        ),
        *(({"ok": 0.0, "code": code}, Outcome.FAILED) for code in (1, 6, 50, 96, 11601)),
        # It sheds load, whatever the labels say.
        *(
            (
                {"errorLabels": ["TransientTransactionError"], "ok": 0.0, "code": code},
                Outcome.REJECTED,
            )
            for code in (322, 323, 324, 347, 352, 391, 433, 449, 450, 462, 498870, 4937700)
        ),
        *(
            (
                {"errorLabels": ["RetryableError", "SystemOverloadedError"], "code": code},
                Outcome.REJECTED,
            )
            for code in (91, 112, 365, 9999)
        ),
        ({"errorLabels": ["RetryableError", "SystemOverloadedError"], "code": 251}, Outcome.GONE),
        *(
            (
                {"errorLabels": ["RetryableError", "TransientTransactionError", *more], "code": 24},
                outcome,
            )
            for more, outcome in (
                (["SystemOverloadedError"], Outcome.REJECTED),
                ([], Outcome.GONE),
            )
        ),
        *(({"ok": 0.0, "code": code}, Outcome.REJECTED) for code in (322, 323, 324, 352, 4886600)),
        ({"ok": 0.0, "code": 10107}, Outcome.FAILED),
        ({"errorLabels": ["TransientTransactionError"], "ok": 0.0, "code": 10107}, Outcome.GONE),
    ],
)
def test_outcomes(reply: dict[str, Any] | None, outcome: Outcome) -> None:
    read = None if reply is None else read_reply(build.reply(reply, 1))
    assert outcome_of(read, Step.CONTINUE) is outcome


def test_a_retryable_write_with_errors_has_taken_place() -> None:
    told = build.reply({"n": 1, "writeErrors": [{"index": 1, "code": 11000}], "ok": 1.0}, 1)
    assert outcome_of(read_reply(told), Step.WRITE) is Outcome.OK


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
    one.apply(Step.START, Outcome.GONE, 2, 5.0)
    assert (one.number, one.state) == (1, State.ABORTED)


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.REJECTED])
@pytest.mark.parametrize("step", [Step.START, Step.CONTINUE, Step.ABORT])
@pytest.mark.parametrize("number", [1, 2])
def test_what_may_have_been_refused_at_the_door_changes_nothing(
    number: int, step: Step, outcome: Outcome
) -> None:
    one = Tracker()
    one.apply(Step.START, Outcome.OK, 1, 5.0, "a:1", 7)
    one.apply(step, outcome, number, 9.0, "a:1", 8)
    assert (one.number, one.state, one.started, one.last_use) == (1, State.IN_PROGRESS, 5.0, 5.0)


@pytest.mark.parametrize("state", list(State))
def test_the_start_of_a_number_never_moves(state: State) -> None:
    one = Tracker()
    one.apply(Step.START, Outcome.OK, 1, 5.0)
    one.state = state
    one.apply(Step.CONTINUE, Outcome.OK, 1, 9.0)
    assert (one.state, one.started) == (State.IN_PROGRESS, 5.0)


@pytest.mark.parametrize(
    ("step", "outcome"),
    [(step, one) for step in Step for one in (Outcome.GONE, Outcome.FAILED, Outcome.LOST)],
)
def test_another_process_cannot_say_that_it_is_over(step: Step, outcome: Outcome) -> None:
    one = Tracker()
    one.apply(Step.START, Outcome.OK, 1, 5.0, "a:1")
    one.apply(step, outcome, 1, 6.0, "b:1")
    assert (one.state, one.may_be_open) == (State.IN_PROGRESS, True)


class Doubted:
    """A start under ``number`` that had no answer, ``over`` an open transaction 1 or alone."""

    def __new__(cls, over: bool = False) -> Tracker:  # type: ignore[misc]
        one = Tracker()
        if over:
            one.apply(Step.START, Outcome.OK, 1, 1.0, "a:1")
        one.apply(Step.START, Outcome.LOST, 2, 5.0, "b:1")
        return one


def test_a_start_without_an_answer_may_be_open() -> None:
    one = Doubted()
    assert (one.number, one.state) == (-1, State.NONE)
    assert (one.may_be_open, one.open_ones[0].number, one.open_ones[0].upstream, one.started) == (
        True,
        2,
        "b:1",
        5.0,
    )
    other = Doubted(over=True)
    assert (other.number, other.state) == (1, State.IN_PROGRESS)
    assert (other.open_ones[0].number, other.open_ones[0].upstream, other.started) == (
        2,
        "b:1",
        1.0,
    )


@pytest.mark.parametrize(
    ("step", "outcome", "number", "upstream", "state", "open_number"),
    [
        (Step.CONTINUE, Outcome.OK, 2, "b:1", State.IN_PROGRESS, 2),
        (Step.COMMIT, Outcome.OK, 2, "b:1", State.COMMITTED, None),
        (Step.ABORT, Outcome.OK, 2, "b:1", State.ABORTED, None),
        (Step.START, Outcome.OK, 3, "b:1", State.IN_PROGRESS, 3),
        (Step.WRITE, Outcome.OK, 3, "b:1", State.NONE, None),
        (Step.COMMIT, Outcome.LOST, 2, "b:1", State.NONE, 2),
        (Step.COMMIT, Outcome.FAILED, 2, "b:1", State.NONE, 2),
        (Step.CONTINUE, Outcome.FAILED, 2, "b:1", State.NONE, 2),
        (Step.CONTINUE, Outcome.GONE, 2, "b:1", State.NONE, None),
        (Step.CONTINUE, Outcome.GONE, 2, "a:1", State.NONE, 2),
    ],
)
def test_what_ends_a_doubt(
    step: Step, outcome: Outcome, number: int, upstream: str, state: State, open_number: int | None
) -> None:
    one = Doubted()
    one.apply(step, outcome, number, 9.0, upstream)
    assert (one.state, one.may_be_open) == (state, open_number is not None)
    if open_number is not None:
        assert one.open_ones[0].number == open_number
    if number == 2:
        assert one.started == 5.0


def test_of_two_the_newer_is_settled_first() -> None:
    one = Doubted(over=True)
    assert not one.settle(2, State.ABORTED)
    assert (one.open_ones[0].number, one.open_ones[0].upstream) == (1, "a:1")
    assert one.settle(1, State.ABORTED)
    assert not one.may_be_open
    assert not one.settle(1, State.ABORTED)


@pytest.mark.parametrize("outcome", [Outcome.LOST, Outcome.FAILED])
@pytest.mark.parametrize("how", [State.COMMITTED, State.ABORTED])
def test_an_end_without_an_answer_leaves_it_open_until_upstream_is_asked(
    outcome: Outcome, how: State
) -> None:
    one = Tracker()
    one.apply(Step.START, Outcome.OK, 1, 5.0, "a:1")
    one.apply(Step.COMMIT, outcome, 1, 6.0, "a:1")
    assert (one.state, one.may_be_open, one.open_ones[0].number) == (State.UNKNOWN, True, 1)
    one.settle(1, how)
    assert (one.state, one.may_be_open) == (how, False)


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
    one.apply(Step.START, Outcome.LOST, 5, 1.0)
    assert one.kill() is (state is State.IN_PROGRESS)
    assert one.state is (State.ABORTED if state is State.IN_PROGRESS else state)
    assert one.number == 4
    assert not one.may_be_open


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


@pytest.mark.parametrize(
    ("stmt_id", "stmt_ids", "count", "expected"),
    [
        (-1, None, 1, []),
        (-1, None, 3, []),
        (None, (-1, -1), 2, []),
        (None, (-1, 0, 1, -1, 5), 5, [range(2), range(5, 6)]),
        (None, (3, -2), 2, [range(3, 4)]),
    ],
)
def test_what_is_not_to_be_remembered_is_not(
    stmt_id: int | None, stmt_ids: tuple[int, ...] | None, count: int, expected: list[range]
) -> None:
    info = OperationSessionInfo(None, 1, stmt_id=stmt_id, stmt_ids=stmt_ids)
    assert statement_ranges(info, count) == expected


def test_executed_statements_are_joined_and_bounded() -> None:
    one = Tracker()
    one.executed_statements([range(0, 2)])
    one.executed_statements([range(2, 4)])
    one.executed_statements([range(0, 4)])
    assert one.statements == [range(0, 4)]
    one.executed_statements([range(n, n + 1) for n in range(10, 5000, 2)])
    assert len(one.statements) == 8
    one.apply(Step.WRITE, Outcome.OK, 1, 0.0)
    assert one.statements is None


def test_the_parameters_are_those_of_the_first_command_that_was_seen() -> None:
    one = Tracker()
    one.apply(Step.START, Outcome.OK, 1, 0.0, "a:1", api=b"one")
    one.apply(Step.CONTINUE, Outcome.OK, 1, 1.0, "a:1")
    assert (one.open_ones[0].number, one.open_ones[0].api) == (1, b"one")
    one.apply(Step.START, Outcome.GONE, 2, 2.0, "a:1", api=b"two")
    one.apply(Step.START, Outcome.OK, 3, 3.0, "a:1", api=b"three")
    assert one.open_ones[0].api == b"three"
    # Begun before the proxy was there, or at another one.
    one.apply(Step.CONTINUE, Outcome.OK, 4, 4.0, "a:1", api=b"four")
    assert one.open_ones[0].api == b"four"
    # A shard may begin anew under the same number.
    one.apply(Step.ABORT, Outcome.OK, 4, 5.0, "a:1")
    one.apply(Step.START, Outcome.OK, 4, 6.0, "a:1")
    assert one.open_ones[0].api == b""


def test_the_parameters_of_what_is_in_doubt() -> None:
    one = Tracker()
    one.apply(Step.START, Outcome.OK, 1, 0.0, "a:1", api=b"one")
    one.apply(Step.START, Outcome.LOST, 2, 1.0, "a:1", api=b"two")
    assert (one.open_ones[0].number, one.open_ones[0].api) == (2, b"two")
    one.apply(Step.CONTINUE, Outcome.OK, 2, 2.0, "a:1", api=b"other")
    assert (one.doubt, one.open_ones[0].number, one.open_ones[0].api) == (-1, 2, b"two")
    one.apply(Step.COMMIT, Outcome.LOST, 2, 3.0, "a:1")
    assert (one.doubt, one.open_ones[0].api) == (2, b"two")
    one.settle(2, State.ABORTED)
    assert not one.may_be_open
