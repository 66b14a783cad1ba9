"""Whose connections a supervisor lets go of, by what its workers say. With stand-ins."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from proxy.process.calm import Seen
from proxy.process.draining import LONGEST_REST, Draining
from proxy.process.found import Found
from proxy.process.links import Link
from proxy.process.supervisor import Supervisor
from proxy.process.takeover import help_predecessor
from proxy.process.whole_cluster import WholeCluster
from proxy.session.ids import Origin
from proxy.settings.config import Config

SHOP = Origin("10.0.0.1", "shop")
SAW = Seen({SHOP: 1}, {SHOP: (7, 2)}, 0.1)


class Workers(Supervisor):
    """Two workers, which answer to ``look`` with ``answers`` and take so many ``seconds``."""

    def __init__(self) -> None:
        settings = {"upstream": {"address": "127.0.0.1:1"}, "process": {"workers": 2}}
        super().__init__(Config.model_validate(settings), 2)
        self.answers: list[Seen | None] = [SAW, SAW]
        self.seconds = 0.0
        self.said: list[tuple[Any, ...]] = []
        for slot in range(2):
            channel: Any = SimpleNamespace(closed=False)
            self._links[slot] = link = Link(slot, channel)
            link.ready.set()

    @property
    def cluster(self) -> WholeCluster:
        return self.clusters[0]

    def end(self, slot: int) -> None:
        self._links[slot].channel.closed = True  # type: ignore[misc]

    async def ask_each(self, what: str, *arguments: object) -> list[tuple[Link, Any]]:
        self.said.append((what, *arguments))
        await trio.sleep(self.seconds)
        links = zip(self.links(), self.answers, strict=True)
        return [(link, answer) for link, answer in links if answer is not None]


@pytest.fixture
def workers() -> Workers:
    return Workers()


async def test_what_all_see_is_put_together(workers, autojump_clock):
    workers.answers[1] = Seen({SHOP: 2}, {SHOP: (8, 3)}, 0.2)
    seen = await workers.cluster.look(frozenset())
    assert seen == Seen({SHOP: 3}, {SHOP: (8, 5)}, 0.2)


@pytest.mark.parametrize("seconds", [0.1, 100.0])
async def test_what_workers_have_not_told_is_waited_for_no_longer_than_a_moment(
    workers, autojump_clock, seconds
):
    workers.seconds = seconds
    began = trio.current_time()
    assert await workers.cluster.catch_up()
    assert workers.said == [("catch up",)]
    assert trio.current_time() - began == pytest.approx(min(seconds, 1.0))


@pytest.mark.parametrize("answers", [[SAW, None], [None, None]])
async def test_where_one_says_nothing_nobody_is_to_be_let_go(workers, autojump_clock, answers):
    workers.answers = answers
    seen = await workers.cluster.look(frozenset({SHOP}))
    assert seen is not None
    assert not seen.whole, "who reads cursors by it is not known"


async def test_one_that_has_ended_is_not_waited_for(workers, autojump_clock):
    workers.answers = [SAW, None]
    workers.end(1)
    assert await workers.cluster.look(frozenset()) == SAW
    workers.answers = [None, None]
    workers.end(0)
    assert await workers.cluster.look(frozenset()) is None


async def test_what_comes_when_the_first_do_not_rest_any_more_is_too_late(workers, autojump_clock):
    workers.seconds = LONGEST_REST + 0.1
    seen = await workers.cluster.look(frozenset({SHOP}))
    assert seen is not None
    assert not seen.whole


async def test_who_is_told_too_late_lets_go_of_nobody(workers, autojump_clock):
    until = trio.current_time() + LONGEST_REST
    workers.seconds = 1.0
    await workers.cluster.look(frozenset({SHOP}))
    await workers.cluster.let_go({SHOP})
    assert workers.said[-1] == ("let go", "", {SHOP}, until)

    drained: list[bool] = []
    watching: Any = SimpleNamespace(origin=SHOP, monitors=True, drain=lambda: drained.append(True))
    store: Any = None
    draining = Draining({1: watching}, store, alone=False)
    await trio.sleep_until(until + 0.1)
    draining.tell({SHOP}, until)
    assert drained == []
    draining.tell({SHOP}, until + 0.2)
    assert drained == [True]


async def test_whoever_comes_to_any_worker_is_news(workers, autojump_clock):
    """One has had more connections than the other, and so the higher numbers."""
    store: Any = None
    connections: list[dict[int, Any]] = [{}, {}]
    drainings = [Draining(some, store, alone=False) for some in connections]

    def come(number: int) -> None:
        connections[(number - 1) % 2][number] = SimpleNamespace(
            origin=SHOP, greets=True, monitors=False, awaits_news=False, opened=trio.current_time()
        )

    async def ask_each(_what: str, _cluster: str, resting: Any) -> list[tuple[Link, Any]]:
        return [(link, drainings[link.slot].see(resting)) for link in workers.links()]

    workers.ask_each = ask_each
    found, leaving = Found(), trio.Event()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for one in (ours, theirs):
            one.setblocking(False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.hear, ours)
            nursery.start_soon(help_predecessor, theirs, [workers.cluster], leaving.is_set)
            for number in (1, 1_000, 3):
                await trio.sleep(1)
                then = trio.current_time()
                assert not found.since("", SHOP, then, 0)
                come(number)
                await trio.sleep(1)
                assert found.since("", SHOP, then, 0)
            leaving.set()


async def test_that_one_worker_has_lost_upstream_has_all_look_again(workers, monkeypatch):
    told, looked = [], []
    monkeypatch.setattr(workers, "tell", lambda *what, but: told.append((*what, but)))
    monkeypatch.setattr(workers.cluster.watcher, "hurry", lambda: looked.append(1))
    first, _ = workers.links()
    workers._handlers(first)["look again"](workers.cluster.name)
    assert (looked, told) == ([1], [("look again", workers.cluster.name, first)])
