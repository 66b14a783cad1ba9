"""Limits: places for clients, and a budget of bytes that nobody can keep from the others."""

from __future__ import annotations

import math

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from proxy.net import readiness
from proxy.net.limits import CHUNK, UNCOUNTED, BufferBudget, Places, Share
from proxy.wire.opcodes import MAX_MESSAGE_SIZE

KIB = 1024
LIMIT = 10 * CHUNK


def test_there_are_as_many_places_as_the_limit_says_now():
    places = Places(2)
    assert [places.admit() for _ in range(3)] == [True, True, False]
    places.limit = 1
    places.release()
    assert not places.admit()
    places.release()
    assert places.admit()


async def test_what_fits_does_not_wait():
    budget = BufferBudget(LIMIT)
    one, two = Share(budget), Share(budget)
    one.count(5 * CHUNK)
    two.count(4 * CHUNK)
    with trio.fail_after(0):
        await one.room(CHUNK)
    assert (one.held, budget.used, budget.exempt) == (6 * CHUNK, LIMIT, None)
    two.count(CHUNK)
    assert budget.used == 7 * CHUNK
    one.release()
    two.count(0)
    assert (one.held, two.held, budget.used, list(budget.holders)) == (0, 0, 0, [])


async def test_what_is_there_is_counted_even_where_there_is_no_room():
    budget = BufferBudget(LIMIT)
    share = Share(budget)
    share.count(LIMIT + 1)
    assert budget.used == LIMIT + 1
    other = Share(budget)
    other.count(CHUNK)
    assert not other.take(1)


async def test_little_never_waits():
    budget = BufferBudget(1)
    Share(budget).count(CHUNK)
    small = Share(budget)
    small.count(UNCOUNTED - 1)
    assert small.take(1)
    assert small.held == UNCOUNTED
    assert not small.take(1)


async def test_one_alone_may_hold_more_than_there_is(autojump_clock):
    budget = BufferBudget(CHUNK)
    one = Share(budget)
    with trio.fail_after(1):
        for amount in range(CHUNK, 20 * CHUNK, CHUNK):
            one.count(amount, 20 * CHUNK)
            await one.room(CHUNK)
    assert budget.used == 20 * CHUNK
    one.release()
    assert (budget.used, budget.exempt) == (0, None)


async def test_reads_are_short_while_room_is_scarce():
    budget = BufferBudget(LIMIT)
    share = Share(budget)
    watching = readiness.current()
    for used, most in (
        (LIMIT // 2, readiness.BULK_SIZE),
        (LIMIT // 2 + 1, CHUNK),
        (LIMIT, CHUNK),
        (LIMIT + 1, UNCOUNTED),
        (0, readiness.BULK_SIZE),
    ):
        share.count(used)
        assert watching.most == most


async def test_who_needs_least_goes_first(nursery):
    budget = BufferBudget(CHUNK)
    first, large, small = Share(budget), Share(budget), Share(budget)
    first.count(CHUNK)
    await first.room(CHUNK)
    done = []

    async def wait(share: Share, left: int) -> None:
        share.count(CHUNK)
        await share.room(CHUNK, left)
        done.append(left)

    nursery.start_soon(wait, large, 100 * CHUNK)
    await wait_all_tasks_blocked()
    nursery.start_soon(wait, small, CHUNK)
    await wait_all_tasks_blocked()
    assert (done, budget.waiting) == ([], 2)
    first.release()
    await wait_all_tasks_blocked()
    assert (done, budget.exempt) == ([CHUNK], small)
    small.release()
    await wait_all_tasks_blocked()
    assert (done, budget.exempt) == ([CHUNK, 100 * CHUNK], large)


async def test_a_wait_that_is_cancelled_leaves_nothing_behind(nursery):
    budget = BufferBudget(CHUNK)
    first, second, third = Share(budget), Share(budget), Share(budget)
    first.count(CHUNK + 1)
    await first.room(CHUNK)
    used = budget.used
    with trio.move_on_after(0) as scope:
        await second.room(CHUNK)
    assert scope.cancelled_caught
    second.release()
    assert (second.held, budget.used, budget.waiting) == (0, used, 0)
    nursery.start_soon(third.room, CHUNK)
    await wait_all_tasks_blocked()
    first.release()
    await wait_all_tasks_blocked()
    assert (third.held, budget.used) == (CHUNK, CHUNK)


# ------------------------------------------------------------------ giving way


def cut(share: Share, log: list[Share]) -> None:
    def end() -> None:
        log.append(share)
        share.release()

    share.give_way = end


async def test_who_does_not_get_on_gives_way_to_who_waits(autojump_clock):
    budget = BufferBudget(LIMIT)
    stalled = [Share(budget) for _ in range(3)]
    gone: list[Share] = []
    for number, share in enumerate(stalled, 2):
        cut(share, gone)
        share.count(number * CHUNK, 100 * CHUNK)
    # While nobody waits, anybody may take their time.
    await trio.sleep(1000)
    assert gone == []
    exempt, honest = Share(budget), Share(budget)
    exempt.count(CHUNK)
    await exempt.room(CHUNK)
    honest.count(2 * CHUNK)
    with trio.fail_after(1):
        await honest.room(CHUNK)
    # The largest alone was enough.
    assert gone == [stalled[2]]
    assert budget.gave_way == 1
    assert budget.used == LIMIT


async def test_who_goes_on_without_room_has_to_go_on(autojump_clock):
    budget = BufferBudget(CHUNK)
    gone: list[Share] = []
    shares = [Share(budget) for _ in range(5)]
    for share in shares:
        cut(share, gone)
        share.count(CHUNK, 100 * CHUNK)
    done: list[Share] = []

    async def wait(share: Share) -> None:
        await share.room(CHUNK, shares.index(share))
        done.append(share)

    await wait(shares[0])
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            for share in shares[1:]:
                nursery.start_soon(wait, share)
    assert done == shares
    assert gone == shares[:4]


@pytest.mark.parametrize("whole", [0, 40 * CHUNK])
async def test_who_gets_on_fast_enough_stays_and_who_dribbles_does_not(whole, autojump_clock):
    step = max(CHUNK, whole // 8)
    budget = BufferBudget(CHUNK)
    fast, slow, waits = Share(budget), Share(budget), Share(budget)
    gone: list[Share] = []
    cut(fast, gone)
    cut(slow, gone)
    waits.count(CHUNK)
    fast.count(CHUNK, whole)
    slow.count(CHUNK, whole)
    await fast.room(CHUNK)

    async def feed() -> None:
        for second in range(1, 21):
            await trio.sleep(1)
            if fast not in gone:
                fast.count(CHUNK + second * step, whole)
            if slow not in gone:
                slow.count(CHUNK + second, whole)
        fast.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits.room, CHUNK)
        nursery.start_soon(feed)
    assert gone == [slow]


@pytest.mark.parametrize(("seconds", "cut_after"), [(math.inf, None), (30, 31)])
async def test_who_is_not_read_is_not_slow(seconds, cut_after, autojump_clock, nursery):
    budget = BufferBudget(LIMIT)
    rests, exempt, waits = Share(budget), Share(budget), Share(budget)
    gone: list[Share] = []
    cut(rests, gone)
    rests.count(LIMIT)
    rests.rest(seconds)
    exempt.count(CHUNK)
    await exempt.room(CHUNK)
    exempt.rest(math.inf)
    waits.count(CHUNK)
    nursery.start_soon(waits.room, CHUNK)
    await trio.sleep(29)
    assert gone == []
    await trio.sleep(1000)
    assert gone == ([] if cut_after is None else [rests])


async def test_turns_go_to_who_has_something_to_go_on_with(autojump_clock):
    budget = BufferBudget(CHUNK)
    gone: list[Share] = []
    stalled = [Share(budget) for _ in range(300)]
    async with trio.open_nursery() as nursery:
        for share in stalled:
            cut(share, gone)
            share.ready = lambda: False
            share.count(CHUNK - 1, 3 * CHUNK)
            # They need less than the honest one, and came first.
            nursery.start_soon(share.room, CHUNK, 2 * CHUNK)
        await wait_all_tasks_blocked()
        honest = Share(budget)
        honest.ready = lambda: True
        honest.count(CHUNK, 20 * CHUNK)
        with trio.fail_after(3):
            await honest.room(CHUNK, 19 * CHUNK)
        # What they hold is given back all at once.
        assert len(gone) > 290
        nursery.cancel_scope.cancel()


async def test_a_turn_is_short_for_who_has_nothing_to_go_on_with(autojump_clock):
    budget = BufferBudget(32 * CHUNK)
    Share(budget).count(10 * CHUNK)
    shares = [Share(budget) for _ in range(14)]
    gone: list[Share] = []
    with trio.fail_after(1):
        async with trio.open_nursery() as nursery:
            for share in shares:
                cut(share, gone)
                # Something is there while they wait, and nothing comes after it.
                share.ready = lambda share=share: share.waits is not None
                share.count(CHUNK)
                nursery.start_soon(share.room, CHUNK, CHUNK)
    assert gone == []


async def test_turns_do_not_make_it_more_than_one_message_beyond_the_limit(autojump_clock):
    budget = BufferBudget(CHUNK)
    one, two = Share(budget), Share(budget)
    gone: list[Share] = []
    cut(one, gone)
    one.ready = lambda: False
    one.count(MAX_MESSAGE_SIZE // 2, MAX_MESSAGE_SIZE)
    one.ready = lambda: True
    await one.room(CHUNK, CHUNK)
    one.ready = lambda: False
    two.count(CHUNK, MAX_MESSAGE_SIZE)
    began = trio.current_time()
    with trio.fail_after(10):
        await two.room(CHUNK, MAX_MESSAGE_SIZE - CHUNK)
    assert gone == [one]
    assert trio.current_time() - began >= 1


async def test_who_waits_for_room_is_not_slow(autojump_clock, nursery):
    budget = BufferBudget(CHUNK)
    upstream_is_slow, waits = Share(budget), Share(budget)
    gone: list[Share] = []
    cut(waits, gone)
    upstream_is_slow.count(2 * CHUNK)
    await upstream_is_slow.room(CHUNK)
    upstream_is_slow.rest(math.inf)
    waits.count(CHUNK)
    nursery.start_soon(waits.room, CHUNK)
    await trio.sleep(100)
    assert (gone, budget.waiting) == ([], 1)
    upstream_is_slow.release()
    await wait_all_tasks_blocked()
    assert budget.waiting == 0


@given(
    st.lists(st.lists(st.integers(1, 400), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 600),
)
def test_everybody_finishes_and_the_bound_holds(growth, limit):
    messages = [sum(steps) * KIB for steps in growth]
    budget = BufferBudget(limit * KIB)
    finished = []
    # What a read brings is there before it can wait: one read each.
    reads = sum(max(steps) * KIB for steps in growth)

    async def receive(steps: list[int]) -> None:
        share = Share(budget)
        held, whole = 0, sum(steps) * KIB
        for step in steps:
            held += step * KIB
            share.count(held, whole)
            assert budget.used <= limit * KIB + max(messages) + reads + CHUNK
            await share.room(0, whole - held)
            await trio.lowlevel.checkpoint()
        share.release()
        finished.append(held)

    async def main() -> None:
        with trio.fail_after(1000):
            async with trio.open_nursery() as nursery:
                for steps in growth:
                    nursery.start_soon(receive, steps)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert sorted(finished) == sorted(messages)
    assert (budget.used, budget.exempt, budget.waiting, budget.gave_way) == (0, None, 0, 0)
