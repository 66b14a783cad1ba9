"""What the new process does for the old one, and what that makes of it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import trio
import trio.testing

from proxy.conversation.hello import MAX_METADATA_TEXT
from proxy.process.calm import Seen
from proxy.process.found import Found
from proxy.process.takeover import help_predecessor
from proxy.session.ids import Origin
from tests.patience import until

SHOP, BANK = Origin("10.0.0.1", "shop", "Go", "2"), Origin("10.0.0.2", "bank")


class Store:
    """Who reads: a cursor of each, opened a second ago."""

    def __init__(self) -> None:
        self.reads: list[Origin] = []

    def active(self):
        activity = SimpleNamespace(operations=[], cursors={1: None})
        yield [SimpleNamespace(origin=origin, activity=activity) for origin in self.reads]

    def cursor_opened_at(self, _cursor):
        return trio.current_time() - 1


class Cluster:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.greeting: dict[Origin | None, tuple[int, int]] = {}

        self.store = Store()
        self.rested: list[set[Origin | None]] = []
        self.whole = True

    async def look(self, resting):
        if resting or self.rested:
            self.rested.append(set(resting))
        await trio.lowlevel.checkpoint()
        return Seen({}, dict(self.greeting), 0.0, self.whole) if self.greeting else None


async def test_whoever_comes_is_told_of_and_again_when_it_comes_again(ends, autojump_clock):
    ours, theirs = ends
    one, other = Cluster(), Cluster("other")
    found = Found()
    leaving = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.hear, ours)
        nursery.start_soon(help_predecessor, theirs, [one, other], leaving.is_set)
        await trio.sleep(1)
        then = trio.current_time()
        assert not found.since("", SHOP, then, 0)
        one.greeting[SHOP] = 7, 0
        one.greeting[None] = 8, 0
        await until(lambda: found.since("", SHOP, then, 0) and found.since("", None, then, 0))
        assert not found.since("other", SHOP, then, 0)
        assert not found.since("", BANK, then, 0)
        await trio.sleep(1)
        later = trio.current_time()
        await trio.sleep(1)
        assert not found.since("", SHOP, later, 0), "the same connection is no news"
        one.greeting[SHOP] = 9, 0
        await until(lambda: found.since("", SHOP, later, 0))
        leaving.set()
    # Nobody would tell any more.
    assert found.since("other", BANK, trio.current_time(), 1)
    assert theirs.fileno() == -1


async def test_who_waited_for_news_has_found_it_when_all_of_its_instances_wait_there(
    ends, autojump_clock
):
    ours, theirs = ends
    one = Cluster()
    one.greeting[SHOP] = 5, 3  # instances that have come by themselves
    found = Found()
    leaving = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.hear, ours)
        nursery.start_soon(help_predecessor, theirs, [one], leaving.is_set)
        await trio.sleep(1)
        then = trio.current_time()
        for greeting in ((6, 3), (6, 4), (9, 4)):
            one.greeting[SHOP] = greeting
            await trio.sleep(1)
            assert found.since("", SHOP, then, 0)
            assert not found.since("", SHOP, then, 2), "it may not know of the server yet"
        one.greeting[SHOP] = 9, 5
        await until(lambda: found.since("", SHOP, then, 2))
        later = trio.current_time()
        one.greeting[SHOP] = 9, 2  # they leave
        await trio.sleep(1)
        then = trio.current_time()
        one.greeting[SHOP] = 10, 3
        await until(lambda: found.since("", SHOP, then, 1))
        assert not found.since("", SHOP, later, 1)
        leaving.set()


async def test_many_come_at_once(ends, autojump_clock):
    ours, theirs = ends
    one = Cluster()
    one.greeting = {Origin("10.0.0.1", "a" * 200 + str(n)): (n + 1, 0) for n in range(3_000)}
    found = Found()
    gone = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(help_predecessor, theirs, [one], gone.is_set)
        await trio.sleep(1)  # more than the other side takes without reading
        nursery.start_soon(found.hear, ours)
        await trio.testing.wait_all_tasks_blocked()
        await until(lambda: all(found.since("", origin, 0.0, 0) for origin in one.greeting))
        gone.set()


async def test_what_clients_say_of_themselves_fits_at_its_longest(ends, autojump_clock):
    ours, theirs = ends
    name = "shop" * 16
    one = Cluster(name)
    said = "\N{MONEY BAG}" * MAX_METADATA_TEXT
    many = [Origin(f"{n:039}", said, said, said, said * 2) for n in range(50)]
    one.greeting = {origin: (1, 1) for origin in many}
    one.store.reads = many
    found, leaving = Found(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.hear, ours)
        nursery.start_soon(help_predecessor, theirs, [one], leaving.is_set)
        await trio.sleep(1)
        assert all(found.since(name, origin, 0.0, 1) for origin in many)
        answer = await found.look_there(name, set(many))
        leaving.set()
    assert answer is not None
    assert answer[0].keys() == set(many)


async def test_what_the_old_process_says_in_another_version_ends_nothing(ends, autojump_clock):
    ours, theirs = ends
    one = Cluster("one")
    found, leaving = Found(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(help_predecessor, theirs, [one], leaving.is_set)
        for odd in ({"numbers": 5}, ["look"], {"look": "one"}, {"look": "one", "rest": [[1] * 9]}):
            ours.send(json.dumps(odd).encode())
        ours.send(b"\xff")
        nursery.start_soon(found.hear, ours)
        await trio.sleep(1)
        assert await found.look_there("one", {SHOP}) == ({}, 0.0)
        assert one.rested[-1] == {SHOP}
        leaving.set()


async def test_nobody_rests_for_long_where_the_old_process_does_not_read_the_answer(
    ends, autojump_clock
):
    ours, theirs = ends
    one = Cluster()
    many = [Origin("10.0.0.3", "a" * 200 + str(n)) for n in range(2_000)]
    one.greeting[SHOP] = 1, 0
    one.store.reads = many
    asked = {"look": "", "number": 1, "rest": [list(SHOP)], "more": True}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(help_predecessor, theirs, [one], lambda: False)
        for start in range(0, len(many), 20):
            rest = [list(origin) for origin in many[start : start + 20]]
            ours.send(json.dumps({**asked, "rest": rest}).encode())
            await trio.sleep(0.05)
        ours.send(json.dumps({**asked, "more": False}).encode())
        await trio.sleep(1)
        assert one.rested[-1] == {SHOP, *many}
        await trio.sleep(4)
        assert one.rested[-1] == set()
        nursery.cancel_scope.cancel()


async def test_nobody_rests_for_long_where_a_worker_does_not_answer(ends, nursery, autojump_clock):
    ours, theirs = ends
    one = Cluster()
    look = one.look

    async def slowly(resting):
        seen = await look(resting)
        await trio.sleep(5 if resting else 0)
        return seen

    one.look = slowly
    one.greeting[SHOP] = 1, 0
    found, leaving = Found(), trio.Event()
    nursery.start_soon(found.hear, ours)
    nursery.start_soon(help_predecessor, theirs, [one], leaving.is_set)
    await trio.sleep(0.1)
    assert await found.look_there("", {SHOP}) is None
    assert one.rested[-1] == {SHOP}
    await trio.sleep(1.1)
    assert one.rested[-1] == set()
    leaving.set()


async def test_an_old_process_that_has_ended_or_never_hears_is_told_no_more(ends):
    ours, theirs = ends
    ours.close()
    await help_predecessor(theirs, [Cluster()], lambda: False)
    assert theirs.fileno() == -1


async def test_what_is_said_can_be_read_by_others(ends):
    ours, theirs = ends
    one = Cluster("shop")
    one.greeting = {SHOP: (1, 1), None: (2, 0)}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(help_predecessor, theirs, [one], lambda: False)
        await trio.lowlevel.wait_readable(ours)
        # An older version reads the first two of these.
        first = {"found": [], "waiting": [], "looks": True}
        assert json.loads(ours.recv(10_000)) == first
        await trio.lowlevel.wait_readable(ours)
        told = {"found": [["shop", list(SHOP)], ["shop", None]], "waiting": [1, 0]}
        assert json.loads(ours.recv(10_000)) == told
        nursery.cancel_scope.cancel()


async def test_requests_rest_as_long_as_the_old_process_asks_for_it(ends, nursery, autojump_clock):
    ours, theirs = ends
    one, other = Cluster("one"), Cluster("other")
    one.greeting[SHOP] = 1, 0
    one.store.reads = [SHOP, BANK, BANK]
    other.store.reads = [SHOP]
    found, leaving = Found(), trio.Event()
    nursery.start_soon(found.hear, ours)
    nursery.start_soon(help_predecessor, theirs, [one, other], leaving.is_set)
    await trio.sleep(0.1)
    answer = await found.look_there("one", {BANK, None})
    assert answer is not None
    reads, seconds = answer
    assert (reads[BANK].seconds, seconds) == (pytest.approx(1), 0.0)
    assert reads.keys() == {BANK}
    assert one.rested[-1] == {BANK, None}
    assert other.rested == []
    await trio.sleep(1)
    assert one.rested[-1] == {BANK, None}, "they rest on while it is looked who has come"
    await trio.sleep(1.5)
    assert one.rested[-1] == set(), "the old process says nothing any more"
    await found.look_there("one", {SHOP})
    assert one.rested[-1] == {SHOP}
    many = {Origin("10.0.0.3", "a" * 200 + str(n)) for n in range(1_000)}
    one.store.reads = list(many)
    answer = await found.look_there("one", many)
    assert answer is not None
    assert answer[0].keys() == many == one.rested[-1]
    one.whole = False
    assert await found.look_there("one", {SHOP}) is None, "one of its workers may not rest"
    assert await found.look_there("before", many) == ({}, 0.0), "a cluster that is no more"
    leaving.set()
    await trio.sleep(0.1)
    assert one.rested[-1] == set()
