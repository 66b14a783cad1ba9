"""A client or upstream fails at every stage: both ends go, nothing is left, nobody else notices."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import pytest
import trio

from proxy import logs
from proxy.wire.opcodes import HEADER, OP_MSG
from tests.build import command, reply
from tests.end_to_end.tools import Log
from tests.faults.left import BYSTANDERS, faultless
from tests.faults.stages import STAGES, Scene, read_to_the_end
from tests.running import Client, bystanding, recording
from tests.upstreams import Seen, document

Fault = Callable[[Client, Seen], Awaitable[None]]


# ------------------------------------------------------------------ what can go wrong


async def push(seen: Seen, data: bytes) -> None:
    """Send as upstream; nothing where it still sends something else that nobody takes."""
    with contextlib.suppress(trio.BusyResourceError):
        await seen.stream.send_all(data)


async def client_closes(client: Client, seen: Seen) -> None:
    client.stream.socket.close()


async def client_resets(client: Client, seen: Seen) -> None:
    client.reset()


async def client_half_closes(client: Client, seen: Seen) -> None:
    await client.stream.send_eof()
    seen.reset()


async def client_stops_in_a_message_and_dies(client: Client, seen: Seen) -> None:
    await client.send(command({"ping": 1, "$db": "admin"})[:21])
    client.reset()


async def client_sends_garbage(client: Client, seen: Seen) -> None:
    # What was asked before is still due: upstream's end brings it about.
    await client.send(b"GET / HTTP/1.1\r\n\r\n")
    seen.reset()


async def client_sends_a_broken_message(client: Client, seen: Seen) -> None:
    broken = HEADER.pack(30, 5, 0, OP_MSG) + bytes(4) + b"\0" + b"\xff" * 9
    with contextlib.suppress(trio.BrokenResourceError):
        await client.send(broken + b"\0" * (30 - len(broken)))
    seen.reset()


async def client_never_reads_and_dies(client: Client, seen: Seen) -> None:
    await push(seen, reply({"ok": 1.0, "much": bytes(100_000)}, 77))
    client.reset()


async def upstream_closes(client: Client, seen: Seen) -> None:
    seen.stream.socket.close()


async def upstream_resets(client: Client, seen: Seen) -> None:
    seen.reset()


async def upstream_sends_garbage(client: Client, seen: Seen) -> None:
    await push(seen, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    seen.reset()


async def upstream_answers_something_else(client: Client, seen: Seen) -> None:
    await push(seen, reply({"ok": 1.0}, 4_711))
    # Inside a long reply these are bytes of it, so that only its end can be noticed.
    seen.stream.socket.close()


async def upstream_answers_half_and_dies(client: Client, seen: Seen) -> None:
    await push(seen, reply({"ok": 1.0, "long": bytes(1_000)}, 77)[:500])
    seen.reset()


async def upstream_announces_too_much(client: Client, seen: Seen) -> None:
    await push(seen, HEADER.pack(0x7FFFFFFF, 1, 77, OP_MSG))
    seen.stream.socket.close()


FAULTS: Final[dict[str, Fault]] = {
    fault.__name__: fault
    for fault in (
        client_closes,
        client_resets,
        client_half_closes,
        client_stops_in_a_message_and_dies,
        client_sends_garbage,
        client_sends_a_broken_message,
        client_never_reads_and_dies,
        upstream_closes,
        upstream_resets,
        upstream_sends_garbage,
        upstream_answers_something_else,
        upstream_answers_half_and_dies,
        upstream_announces_too_much,
    )
}


# ------------------------------------------------------------------ at every stage


@pytest.mark.parametrize("stage", STAGES)
async def test_nothing_is_left_of_a_fault(stage: str) -> None:
    # What a client that went had asked for itself is waited for so long, and here in vain.
    waits = {"half_close_seconds": 0.5}
    async with recording(waits) as (upstream, running), bystanding(running, BYSTANDERS) as others:
        log = Log()
        logs.configure("json", "info", log)
        scene = Scene(upstream, running)
        for name, fault in FAULTS.items():
            async with faultless(running, others):
                client, seen = await STAGES[stage](scene)
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await fault(client, seen)
                if name.startswith("upstream") or "half_closes" in name or "garbage" in name:
                    await read_to_the_end(client)
                await seen.ended.wait()
                await client.close()
        fresh = await Client.connect(running)
        await fresh.ping("as before")
        await fresh.close()
        assert document(upstream.with_mark("as before").frames[-1])["mark"] == "as before"
        assert not log.lines("connection failed")
        assert "bug" not in await log.reasons(len(FAULTS))
