"""What the process in the midst of several makes of one that has died."""

from __future__ import annotations

import pytest

from proxy.session.info import OperationSessionInfo
from proxy.session.records import Attempt
from proxy.session.replica import SharedStore
from proxy.session.transactions import Outcome, State, Step
from tests.session.fleet import KEYS, SHOP, UPSTREAM, Fleet, begin, step


def dies(fleet: Fleet, now: float) -> SharedStore:
    """The first process; gives what its successor knows."""
    fleet.stores.pop(0)
    fleet.gone(0, now)
    fleet.talk()
    return fleet.joins()


def states(fleet: Fleet, store: SharedStore) -> set[tuple[State, int, bool]]:
    """Of the transaction that all know: how it is, how many are open, whether limits count it."""
    found = set()
    for one in (fleet.hub, store):
        session = one.get(KEYS[0])
        assert session is not None
        counts = one.owner_transactions("alice@app") > 0
        found.add((session.state, one.open_transactions, counts))
    return found


@pytest.mark.parametrize("command", ["commitTransaction", "abortTransaction"])
def test_an_end_that_was_in_flight_at_a_process_that_died_may_have_come_about(command: str) -> None:
    fleet = Fleet(2)
    begin(fleet.stores[0], KEYS[0], 3, 1.0)
    fleet.talk()
    step(fleet.stores[0], KEYS[0], Step.CONTINUE, Outcome.OK, 3, 2.0)
    doing = fleet.stores[0].operation_started(
        KEYS[0], 50.0, "alice@app", SHOP, 7, 1, command, UPSTREAM
    )
    assert doing is not None
    doing.attempt = Attempt(Step.COMMIT, OperationSessionInfo(KEYS[0], 3, False), None)
    fleet.talk()
    new = dies(fleet, 90.0)
    assert states(fleet, new) == {(State.UNKNOWN, 0, True)}
    assert fleet.hub.whole_counts([]).transactions["unknown"] == 1
    # Its driver asks again through another process.
    step(fleet.stores[0], KEYS[0], Step.COMMIT, Outcome.COMMITTED, 3, 91.0)
    fleet.talk()
    assert states(fleet, new) == {(State.COMMITTED, 0, False)}


@pytest.mark.parametrize(
    ("last", "state"), [(89.0, State.UNKNOWN), (50.0, State.IN_PROGRESS)], ids=str
)
def test_what_a_process_that_died_has_worked_at_until_then_may_be_over(
    last: float, state: State
) -> None:
    fleet = Fleet(2)
    begin(fleet.stores[0], KEYS[0], 3, 1.0)
    step(fleet.stores[0], KEYS[0], Step.CONTINUE, Outcome.OK, 3, last)
    fleet.talk()
    new = dies(fleet, 90.0)
    assert states(fleet, new) == {(state, int(state is State.IN_PROGRESS), True)}
    # It was not: its application goes on, and aborts it in the end.
    step(new, KEYS[0], Step.CONTINUE, Outcome.OK, 3, 92.0)
    fleet.talk()
    assert states(fleet, new) == {(State.IN_PROGRESS, 1, True)}
    step(fleet.stores[0], KEYS[0], Step.ABORT, Outcome.OK, 3, 93.0)
    fleet.talk()
    assert states(fleet, new) == {(State.ABORTED, 0, False)}


def test_what_others_have_learnt_of_a_transaction_goes_before_the_death_of_its_process() -> None:
    fleet = Fleet(2)
    begin(fleet.stores[0], KEYS[0], 3, 89.0)
    fleet.talk()
    # Before the death was noticed, and told after it.
    step(fleet.stores[1], KEYS[0], Step.ABORT, Outcome.OK, 3, 89.5)
    assert states(fleet, dies(fleet, 90.0)) == {(State.ABORTED, 0, False)}


def test_a_start_that_was_in_flight_at_a_process_that_died_may_have_come_about() -> None:
    fleet = Fleet(2)
    step(fleet.stores[0], KEYS[0], Step.WRITE, Outcome.OK, 3, 1.0)
    doing = fleet.stores[0].operation_started(
        KEYS[0], 50.0, "alice@app", SHOP, 7, 1, "insert", UPSTREAM
    )
    assert doing is not None
    doing.attempt = Attempt(Step.START, OperationSessionInfo(KEYS[0], 4, False, True), None)
    fleet.talk()
    new = dies(fleet, 90.0)
    assert states(fleet, new) == {(State.NONE, 0, True)}
    step(new, KEYS[0], Step.ABORT, Outcome.GONE, 4, 91.0)
    fleet.talk()
    assert {counts for _, _, counts in states(fleet, new)} == {False}


@pytest.mark.parametrize(
    ("last", "state"), [(89.0, State.UNKNOWN), (50.0, State.IN_PROGRESS)], ids=str
)
@pytest.mark.parametrize("told", [True, False], ids=["told before", "told after"])
def test_what_another_process_has_worked_at_may_have_been_ended_by_the_one_that_died(
    last: float, state: State, told: bool
) -> None:
    """A driver sends a commit by whichever connection is free."""
    fleet = Fleet(2)
    begin(fleet.stores[1], KEYS[0], 3, last)
    if told:
        fleet.talk()
    living = fleet.stores[1]
    new = dies(fleet, 90.0)
    fleet.talk()
    assert states(fleet, new) == {(state, int(state is State.IN_PROGRESS), True)}
    # It was not ended: its application goes on.
    step(living, KEYS[0], Step.CONTINUE, Outcome.OK, 3, 92.0)
    fleet.talk()
    assert states(fleet, new) == {(State.IN_PROGRESS, 1, True)}
    assert states(fleet, living) == {(State.IN_PROGRESS, 1, True)}
