"""What one client may take has limits, and at the limits the others go on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

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


async def test_what_is_half_received_stays_within_the_budget():
    limit, size = 500_000, 400_000
    with trio.fail_after(PATIENCE):
        async with (
            recording({"buffered_bytes": limit}) as (upstream, running),
            bystanding(running) as others,
        ):
            budget = running.server.shared.budget
            finish = trio.Event()
            most = 0

            async def send(number: int) -> None:
                nonlocal most
                client = await Client.connect(running)
                message = large(f"large {number}", size)
                # All but the last byte; what does not fit waits in its socket.
                await client.send(message[:-1])
                await finish.wait()
                await client.send(message[-1:])
                frame = await client.receive()
                most = max(most, budget.used)
                assert frame is not None
                assert document(frame)["echo"] == f"large {number}"
                await client.close()

            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(send, number)
                for _ in range(3):
                    await others.go_on()
                    most = max(most, budget.used)
                assert budget.used > limit // 2
                finish.set()
            assert most <= limit + size
            assert budget.used == 0
            assert len(upstream.with_mark("large 0").frames) == 1


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
                assert row["in_flight"] == 1_000
                nursery.cancel_scope.cancel()
            client.reset()
