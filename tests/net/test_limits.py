"""Limits: places for clients, and a budget of buffered bytes that never is a deadlock."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from proxy.net.limits import BufferBudget, Places, Share


def test_there_are_as_many_places_as_the_limit_says_now():
    places = Places(2)
    assert [places.admit() for _ in range(3)] == [True, True, False]
    places.limit = 1
    places.release()
    assert not places.admit()
    places.release()
    assert places.admit()


async def test_what_fits_does_not_wait():
    budget = BufferBudget(100)
    one, two = Share(budget), Share(budget)
    await one.hold(40)
    await two.hold(60)
    assert budget.exempt is None
    await one.hold(30)
    await two.hold(70)
    assert budget.exempt is None
    await two.hold(60)
    assert (one.held, two.held, budget.used) == (30, 60, 90)
    one.release()
    two.release()
    assert (one.held, budget.used, budget.exempt) == (0, 0, None)


async def test_one_alone_may_hold_more_than_there_is(autojump_clock):
    budget = BufferBudget(100)
    one = Share(budget)
    with trio.fail_after(1):
        await one.hold(80)
        await one.hold(150)
        await one.hold(200)
    assert budget.used == 200
    one.release()
    assert (budget.used, budget.exempt) == (0, None)


async def test_at_the_limit_one_goes_on_and_the_others_wait_their_turn(nursery):
    budget = BufferBudget(100)
    shares = [Share(budget) for _ in range(4)]
    for share in shares:
        await share.hold(25)
    done = []

    async def grow(number: int) -> None:
        await shares[number].hold(50)
        done.append(number)

    for number in range(4):
        nursery.start_soon(grow, number)
        await wait_all_tasks_blocked()
    assert done == [0]
    await shares[0].hold(500)
    released: set[int] = set()
    while len(released) < 4:
        # Whose turn is next is the scheduler's choice.
        finished = next(number for number in done if number not in released)
        released.add(finished)
        shares[finished].release()
        await wait_all_tasks_blocked()
    assert sorted(done) == [0, 1, 2, 3]
    assert (budget.used, budget.exempt) == (0, None)


async def test_a_wait_that_is_cancelled_leaves_nothing_behind(nursery):
    budget = BufferBudget(10)
    first, second, third = Share(budget), Share(budget), Share(budget)
    await first.hold(11)
    with trio.move_on_after(0) as scope:
        await second.hold(5)
    assert scope.cancelled_caught
    assert (second.held, budget.used) == (0, 11)
    nursery.start_soon(partial(third.hold, 5))
    await wait_all_tasks_blocked()
    first.release()
    await wait_all_tasks_blocked()
    assert (third.held, budget.used) == (5, 5)


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 60),
)
def test_everybody_finishes_and_the_bound_holds(growth, limit):
    most = max(sum(steps) for steps in growth)
    budget = BufferBudget(limit)
    finished = []

    async def receive(steps: list[int]) -> None:
        share = Share(budget)
        held = 0
        for step in steps:
            held += step
            await share.hold(held)
            assert budget.used <= limit + most
            await trio.lowlevel.checkpoint()
        share.release()
        finished.append(held)

    async def main() -> None:
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                for steps in growth:
                    nursery.start_soon(receive, steps)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(finished) == len(growth)
    assert (budget.used, budget.exempt) == (0, None)


@pytest.mark.parametrize("amounts", [[5, 5], [5, 3, 0], [0, 0]])
async def test_holding_the_same_or_less_never_waits(amounts):
    budget = BufferBudget(1)
    share, other = Share(budget), Share(budget)
    with trio.fail_after(0):
        await share.hold(amounts[0])
    other.held = 3
    budget.used += 3
    for amount in amounts[1:]:
        await share.hold(amount)
        assert budget.used == amount + 3
