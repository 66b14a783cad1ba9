"""A thousand clients at once, every request marked, no answer crossed."""

from __future__ import annotations

import random
import resource

import pytest
import trio

from proxy.wire.compression import deflate
from tests.patience import PATIENCE
from tests.running import Client, ping, recording
from tests.upstreams import document

CLIENTS = 1_000
#: Four descriptors a client: its own, the proxy's two, upstream's.
DESCRIPTORS = 4 * CLIENTS + 200


def marks(number: int) -> list[str]:
    return [f"client {number} request {turn}" for turn in range(6)]


async def talk(running, number: int, finished: list[int], all_here: trio.Event) -> None:
    """Six requests: alone, pipelined and compressed, cut at random places."""
    chance = random.Random(number)
    client = await Client.connect(running)
    mine = marks(number)
    await client.ping(mine[0], number)
    finished.append(number)
    if len(finished) == CLIENTS:
        all_here.set()
    await all_here.wait()
    frames = [ping(mark, number + turn) for turn, mark in enumerate(mine)][1:]
    frames = [deflate(frame, 2) if chance.random() < 0.2 else frame for frame in frames]
    data = b"".join(frames)
    cut = chance.randrange(1, len(data))
    await client.send(data[:cut])
    await client.send(data[cut:])
    for turn, mark in enumerate(mine[1:], 1):
        answer = await client.receive()
        assert answer is not None, f"{number}: closed"
        assert answer[8:12] == (number + turn).to_bytes(4, "little")
        assert document(answer) == {"ok": 1.0, "echo": mark}
    await client.close()


async def test_a_thousand_connections_get_their_own_answers():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        pytest.skip(f"needs {DESCRIPTORS} descriptors, the hard limit is {hard}")
    if soft < DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    all_here = trio.Event()
    finished: list[int] = []
    with trio.fail_after(PATIENCE):
        async with recording() as (upstream, running):
            async with trio.open_nursery() as nursery:
                for number in range(CLIENTS):
                    nursery.start_soon(talk, running, number, finished, all_here)
                await all_here.wait()
                assert sum(1 for _ in running.server.connections()) == CLIENTS
            brought = [
                [mark for frame in seen.frames if (mark := document(frame).get("mark"))]
                for seen in upstream.seen
            ]
    brought = sorted((mine for mine in brought if mine), key=lambda mine: int(mine[0].split()[1]))
    assert brought == [marks(number) for number in range(CLIENTS)]
