"""Whether a worker still answers."""

from __future__ import annotations

import pytest
import trio

from proxy.process.channel import Channel
from proxy.process.links import Link


@pytest.fixture
def ends():
    ours, theirs = Channel.pair()
    with theirs:
        yield ours, theirs


async def test_one_that_answers_is_asked_on_and_one_that_falls_silent_hangs(ends, autojump_clock):
    ours, theirs = ends
    answers = trio.Event()
    asked: list[float] = []

    async def alive() -> None:
        asked.append(trio.current_time())
        if len(asked) == 3:
            answers.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run, {})
        nursery.start_soon(Channel(theirs.dup()).run, {"alive": alive})
        assert await Link(0, ours).hangs() == "it has not answered for 60 seconds"
        nursery.cancel_scope.cancel()
    assert answers.is_set()
    assert len(asked) == 3


async def test_one_whose_end_is_closed_although_it_runs_hangs(ends, autojump_clock):
    ours, _ = ends
    ours.close()
    assert await Link(0, ours).hangs() == "it has stopped listening"
