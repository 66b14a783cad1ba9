"""A client or upstream fails at every stage: both ends go, nothing is left, nobody else notices."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import bson
import pytest
import trio

from proxy import logs
from proxy.wire.compression import deflate
from proxy.wire.opcodes import HEADER, MORE_TO_COME, OP_MSG
from tests.build import command, op_msg, op_reply, reply
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


def upstream_says(name: str, *frames: bytes) -> Fault:
    """It says this and goes: inside a long reply it is bytes of that, and only the end is told."""

    async def fault(client: Client, seen: Seen) -> None:
        await push(seen, b"".join(frames))
        seen.stream.socket.close()

    fault.__name__ = f"upstream_{name}"
    return fault


async def upstream_half_closes(client: Client, seen: Seen) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_to_the_end, client)
        while True:
            try:
                await seen.stream.send_eof()
                return
            except trio.BusyResourceError:  # what it said before is still on its way
                await trio.lowlevel.checkpoint()


def client_says(name: str, *frames: bytes, ends: bool = True) -> Fault:
    """It says this, and for what is due anyway it closes its half or has upstream go."""

    async def fault(client: Client, seen: Seen) -> None:
        await client.send(b"".join(frames))
        if ends:
            await client.stream.send_eof()
        seen.reset()

    fault.__name__ = f"client_{name}_and_half_closes" if ends else f"client_{name}_garbage"
    return fault


ANSWER: Final = reply({"ok": 1.0}, 77)
CURSOR: Final = {"cursor": {"id": bson.Int64(7), "ns": "a.b", "firstBatch": []}, "ok": 1.0}
PING: Final = command({"ping": 1, "$db": "admin"}, 78)
WRITE: Final = command({"insert": "c", "documents": [{}], "$db": "a"}, 79, flags=MORE_TO_COME)

#: What upstreams answer that are out of their minds.
ANSWERS: Final = (
    upstream_says("answers_twice", ANSWER, ANSWER),
    upstream_says("answers_the_next_one_first", reply({"ok": 1.0}, 78), ANSWER),
    upstream_says("answers_nobody", reply({"ok": 1.0}, 0)),
    upstream_says("answers_by_a_request", command({"ping": 1, "$db": "admin"}, 77)),
    upstream_says("answers_in_an_unknown_opcode", op_msg(response_to=77)[:12] + bytes(4)),
    upstream_says("answers_in_a_reply_of_old", op_reply({"ok": 1.0}, response_to=77)),
    upstream_says("answers_without_a_document", op_msg(response_to=77)),
    upstream_says("answers_unasked_for_more", reply(CURSOR, 77, flags=MORE_TO_COME), ANSWER),
    upstream_says("answers_with_a_wrong_checksum", ANSWER[:16] + b"\1" + ANSWER[17:]),
    upstream_says("answers_compressed", deflate(ANSWER, 2)),
    upstream_says("answers_by_a_compressor_that_is_none", deflate(ANSWER, 0)[:24] + b"\x63"),
    upstream_says("announces_less_than_nothing", HEADER.pack(-1, 1, 77, OP_MSG)),
    upstream_says("announces_half_a_header", HEADER.pack(9, 1, 77, OP_MSG)),
)

#: What clients ask that are out of theirs.
REQUESTS: Final = (
    client_says("asks_twice_by_one_number", PING, PING),
    client_says("writes_without_asking", WRITE, WRITE, WRITE),
    client_says("breaks_off_in_a_write", WRITE, WRITE[:30]),
    client_says("replies", ANSWER),
    client_says("says_compressed", deflate(PING, 2)[:-4] + b"\xff" * 4),
    client_says("says_by_an_unknown_opcode", PING[:12] + b"\x39\5\0\0" + PING[16:], ends=False),
)

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
        upstream_half_closes,
        *ANSWERS,
        *REQUESTS,
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
