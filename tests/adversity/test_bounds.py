"""What one client may take has limits, and at the limits the others go on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from proxy.net.intake import MOST_PIPELINED
from proxy.net.limits import CHUNK
from proxy.wire.opcodes import MAX_MESSAGE_SIZE
from tests.build import command
from tests.patience import PATIENCE
from tests.running import Client, bystanding, ping, recording
from tests.upstreams import Seen, document, echo


def large(mark: str, size: int) -> bytes:
    """A marked request of exactly ``size`` bytes."""
    empty = command({"ping": 1, "mark": mark, "b": b"", "$db": "admin"})
    whole = command({"ping": 1, "mark": mark, "b": bytes(size - len(empty)), "$db": "admin"})
    assert len(whole) == size
    return whole


async def test_clients_over_the_limit_are_turned_away_at_once():
    with trio.fail_after(PATIENCE):
        async with (
            recording({"connections": 12}) as (_, running),
            bystanding(running, 10) as others,
        ):
            fits = [await Client.connect(running) for _ in range(2)]
            for client in fits:
                await client.ping("inside")
            for _ in range(5):
                surplus = await Client.connect(running)
                assert await surplus.receive() is None
                await surplus.close()
            await others.go_on()
            for client in fits:
                await client.ping("still inside")
                await client.close()
            # A place is free as soon as the proxy has seen that somebody left.
            while sum(1 for _ in running.server.connections()) > 10:
                await others.go_on()
            again = await Client.connect(running)
            await again.ping("inside again")
            await again.close()


async def test_what_is_half_received_stays_within_the_budget_and_who_stalls_gives_way():
    limit, size = 500_000, 400_000
    with trio.fail_after(PATIENCE):
        async with (
            recording({"buffered_bytes": limit}) as (upstream, running),
            bystanding(running) as others,
        ):
            budget = running.server.common.budget
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, budget.used)
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                stalled = []
                for number in range(8):
                    client = await Client.connect(running)
                    stalled.append(client)
                    # All but the last byte; what does not fit waits in its socket.
                    nursery.start_soon(client.send, large(f"half {number}", size)[:-1])
                for _ in range(3):
                    await others.go_on()
                assert budget.used > limit // 2
                for turn in range(3):
                    honest = await Client.connect(running)
                    await honest.send(large(f"whole {turn}", size))
                    frame = await honest.receive()
                    assert frame is not None
                    assert document(frame)["echo"] == f"whole {turn}"
                    await honest.close()
                nursery.cancel_scope.cancel()
            for client in stalled:
                client.reset()
            while budget.used:
                await others.go_on()
            # A read of each may be there before it waits.
            assert most <= limit + size + 8 * CHUNK
            with pytest.raises(KeyError):
                upstream.with_mark("half 0")


@pytest.mark.parametrize("size", [MAX_MESSAGE_SIZE, MAX_MESSAGE_SIZE + 1])
async def test_the_largest_message_passes_and_a_larger_one_does_not(size):
    with trio.fail_after(PATIENCE):
        async with recording() as (upstream, running), bystanding(running) as others:
            client = await Client.connect(running)
            await client.ping("alive")
            message = large("huge", size)
            if size <= MAX_MESSAGE_SIZE:
                await client.send(message)
                frame = await client.receive()
                assert frame is not None
                assert document(frame)["echo"] == "huge"
                assert upstream.with_mark("huge").frames[-1] == message
            else:
                with pytest.raises(trio.BrokenResourceError):
                    await client.send(message)
                assert len(upstream.with_mark("alive").frames) == 1
            await others.go_on()
            await client.close()


def silent_about_stuck(seen: Seen, frame: bytes) -> Sequence[bytes]:
    return () if document(frame).get("mark") == "stuck" else echo(seen, frame)


async def test_a_client_that_pipelines_without_end_is_slowed_down():
    with trio.fail_after(PATIENCE):
        async with recording() as (upstream, running), bystanding(running) as others:
            upstream.answer = silent_about_stuck
            client = await Client.connect(running)
            await client.send(ping("stuck"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, ping("stuck", 2) * 200_000)
                for _ in range(3):
                    await others.go_on()
                row = next(row for row in running.server.connections() if row["in_flight"] > 1)
                assert row["in_flight"] == MOST_PIPELINED
                nursery.cancel_scope.cancel()
            client.reset()
