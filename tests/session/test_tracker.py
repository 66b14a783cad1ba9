"""Transactions of which nobody has said that they are open, one behind the other."""

from __future__ import annotations

import pytest

from proxy.session.tracker import MAX_HIDDEN, Open, Tracker
from proxy.session.transactions import Outcome, State, Step


def tracker(*doubts: int, seen: int = 1) -> Tracker:
    """What has a transaction open at ``a:1`` from 1.0 on, and then starts without an answer, each
    at an address of its own."""
    one = Tracker()
    if seen:
        one.apply(Step.START, Outcome.OK, seen, 1.0, "a:1", api=b"seen")
    for number in doubts:
        one.apply(Step.START, Outcome.LOST, number, 2.0, f"d:{number}", api=b"%d" % number)
    return one


def numbers(one: Tracker) -> list[int]:
    return [may_be.number for may_be in one.open_ones]


def test_what_began_later_may_have_begun_nothing() -> None:
    one = tracker(5, 7)
    assert one.open_ones == [Open(7, "d:7", b"7"), Open(5, "d:5", b"5"), Open(1, "a:1", b"seen")]
    assert (
        one.open_ones[0].number,
        one.open_ones[0].upstream,
        one.open_ones[0].api,
        one.started,
    ) == (7, "d:7", b"7", 1.0)
    assert numbers(tracker(5, 3)) == [5, 1]
    assert numbers(tracker(seen=0)) == []


@pytest.mark.parametrize("doubts", [(), (5,), (5, 7, 9)], ids=str)
@pytest.mark.parametrize("seen", [0, 1])
def test_each_of_them_may_go_on_and_no_other(doubts: tuple[int, ...], seen: int) -> None:
    one = tracker(*doubts, seen=seen)
    assert [number for number in range(-2, 11) if one.may_go_on(number)] == numbers(one)[::-1]
    one.lose(State.TIMED_OUT)
    assert [number for number in range(-2, 11) if one.may_go_on(number)] == numbers(one)[::-1]


@pytest.mark.parametrize("order", [(7, 5, 1), (1, 5, 7), (5, 7, 1), (5, 1, 7)])
def test_each_is_settled_by_itself(order: tuple[int, ...]) -> None:
    one, left = tracker(5, 7), [7, 5, 1]
    for number in order:
        one.settle(number, State.ABORTED)
        left.remove(number)
        assert numbers(one) == left
        assert one.may_be_open is one.counts is bool(left)


def test_one_that_goes_on_after_all_began_when_it_may_have_begun() -> None:
    one = tracker(5, 7, 9)
    one.apply(Step.CONTINUE, Outcome.OK, 7, 30.0, "d:7")
    assert (one.number, one.state, one.started, one.api) == (7, State.IN_PROGRESS, 1.0, b"7")
    assert numbers(one) == [9, 7]
    one.apply(Step.COMMIT, Outcome.OK, 7, 31.0, "d:7")
    assert numbers(one) == [9]


@pytest.mark.parametrize("step", [Step.START, Step.WRITE])
def test_a_newer_one_that_has_begun_leaves_no_doubt(step: Step) -> None:
    one = tracker(5, 7)
    one.apply(step, Outcome.OK, 8, 30.0, "a:1")
    assert numbers(one) == ([8] if step is Step.START else [])
    assert one.hidden == ()


def test_what_is_gone_is_so_only_where_it_was_and_says_nothing_of_others() -> None:
    one = tracker(5, 7)
    one.apply(Step.CONTINUE, Outcome.GONE, 5, 30.0, "d:7")
    assert numbers(one) == [7, 5, 1]
    one.apply(Step.CONTINUE, Outcome.GONE, 5, 30.0, "d:5")
    assert numbers(one) == [7, 1]


@pytest.mark.parametrize("how", [State.TIMED_OUT, State.UNKNOWN])
def test_what_is_lost_behind_a_doubt_may_be_open_all_the_same(how: State) -> None:
    one = tracker(5)
    assert one.lose(how)
    assert one.open_ones == [Open(5, "d:5", b"5"), Open(1, "a:1", b"seen")]
    one.settle(5, State.ABORTED)
    assert numbers(one) == [1]


def test_a_kill_leaves_none() -> None:
    one, other = tracker(5, 7), tracker(5, 7)
    assert one.kill()
    other.give_up()
    assert numbers(one) == numbers(other) == []


def test_a_kill_leaves_what_may_be_open_elsewhere() -> None:
    one = tracker(5, 7, 9)
    assert not one.kill("d:5")
    assert numbers(one) == [9, 7, 1]
    assert not one.kill("d:9")
    assert one.open_ones == [Open(7, "d:7", b"7"), Open(1, "a:1", b"seen")]
    assert one.kill("a:1")
    assert (numbers(one), one.state, one.may_be_open) == ([7], State.ABORTED, True)


def test_no_more_are_kept_than_may_be() -> None:
    one = tracker(*range(2, 100))
    assert numbers(one) == [*range(99, 99 - MAX_HIDDEN - 1, -1), 1]
    one.lose(State.TIMED_OUT)
    assert len(one.open_ones) == MAX_HIDDEN + 1
