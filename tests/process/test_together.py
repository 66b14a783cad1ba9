"""The metrics of several processes, where one of them dies."""

from __future__ import annotations

from types import SimpleNamespace

import trio
import trio.testing

from proxy.process.supervisor import Supervisor
from proxy.session.counts import Counts
from proxy.settings.config import Config


async def test_one_that_dies_while_another_one_is_waited_for_is_counted_once():
    one = Supervisor(
        Config.model_validate({"upstream": {"address": "127.0.0.1:1"}, "process": {"workers": 2}}),
        2,
    )
    dies, answers = trio.Event(), trio.Event()

    def part(untracked: int):
        return [], {"": (Counts().told(), {"untracked": untracked, "vague_origins": 0})}

    async def ask_each(what: str, *_: object):
        if what != "metrics":
            return []
        dies.set()
        await answers.wait()
        return [(SimpleNamespace(slot=0), part(5)), (SimpleNamespace(slot=1), part(2))]

    together = one._together
    together._ask_each = ask_each
    together.keep(0, *part(4))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(together.metrics)
        await dies.wait()
        together.lost(0)
        together.keep(0, *part(1))  # the one in its place
        answers.set()
    assert one.clusters[0].hub.untracked == 4 + 1 + 2
