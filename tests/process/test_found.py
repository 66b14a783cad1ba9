"""What the new process tells the old one of drivers that have come to it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from proxy.process.calm import Seen
from proxy.process.found import Found, tell
from proxy.session.ids import Origin
from tests.patience import until

SHOP, BANK = Origin("10.0.0.1", "shop", "Go", "2"), Origin("10.0.0.2", "bank")


class Cluster:
    def __init__(self, name: str = "") -> None:
        self.name = name
        self.greeting: dict[Origin | None, tuple[int, int]] = {}

    async def look(self, resting):
        assert not resting
        await trio.lowlevel.checkpoint()
        return Seen({}, dict(self.greeting), 0.0) if self.greeting else None


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_whoever_comes_is_told_of_and_again_when_it_comes_again(ends, autojump_clock):
    ours, theirs = ends
    one, other = Cluster(), Cluster("other")
    found = Found()
    leaving = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.hear, ours)
        nursery.start_soon(tell, theirs, [one, other], leaving.is_set)
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
        nursery.start_soon(tell, theirs, [one], leaving.is_set)
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


async def test_an_older_version_does_not_say_how_many_wait(ends):
    ours, theirs = ends
    found = Found()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.hear, ours)
        theirs.send(json.dumps({"found": [["", list(SHOP)]]}).encode())
        await until(lambda: found.since("", SHOP, 0.0, 7))
        nursery.cancel_scope.cancel()


async def test_many_come_at_once(ends, autojump_clock):
    ours, theirs = ends
    one = Cluster()
    one.greeting = {Origin("10.0.0.1", "a" * 200 + str(n)): (n + 1, 0) for n in range(3_000)}
    found = Found()
    gone = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell, theirs, [one], gone.is_set)
        await trio.sleep(1)  # more than the other side takes without reading
        nursery.start_soon(found.hear, ours)
        await trio.testing.wait_all_tasks_blocked()
        await until(lambda: all(found.since("", origin, 0.0, 0) for origin in one.greeting))
        gone.set()


async def test_one_that_tells_nothing_is_not_waited_for(ends):
    ours, theirs = ends
    found = Found()
    assert found.since("", SHOP, 1.0, 1)
    theirs.close()
    await found.hear(ours)
    assert found.since("", SHOP, 1.0, 1)


async def test_an_old_process_that_has_ended_or_never_hears_is_told_no_more(ends):
    ours, theirs = ends
    ours.close()
    await tell(theirs, [Cluster()], lambda: False)
    assert theirs.fileno() == -1


async def test_what_is_said_can_be_read_by_others(ends):
    ours, theirs = ends
    one = Cluster("shop")
    one.greeting = {SHOP: (1, 1), None: (2, 0)}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell, theirs, [one], lambda: False)
        await trio.lowlevel.wait_readable(ours)
        # An older version reads the first of these.
        told = {"found": [["shop", list(SHOP)], ["shop", None]], "waiting": [1, 0]}
        assert json.loads(ours.recv(10_000)) == told
        nursery.cancel_scope.cancel()
