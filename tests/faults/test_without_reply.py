"""Requests that have no reply, in every form, around faults at every stage.

Nobody is told what became of them, so that nobody could ask again: what a client sent whole before
it went reaches upstream, once and in order, and no other request gets an answer of theirs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import bson
import pytest
import trio

from proxy import logs
from proxy.wire.compression import deflate
from proxy.wire.opcodes import HEADER, MORE_TO_COME
from tests.build import (
    body,
    command,
    op_delete,
    op_insert,
    op_kill_cursors,
    op_msg,
    op_update,
    reply,
    sequence,
)
from tests.end_to_end.tools import Log
from tests.faults.left import BYSTANDERS, faultless
from tests.faults.stages import STAGES, Scene, lsid, read_to_the_end
from tests.running import Client, bystanding, ping, recording
from tests.upstreams import Seen, answered, document, echo


def without_reply(number: int, **asked: Any) -> bytes:
    return command({**asked, "$db": "shop"}, number, flags=MORE_TO_COME)


def burst() -> list[bytes]:
    """One of each form."""
    cursors = [bson.Int64(5), bson.Int64(6)]
    insert = body({"insert": "c", "lsid": lsid(), "txnNumber": bson.Int64(1), "$db": "shop"})
    return [
        without_reply(901, insert="c", documents=[{"n": 1}]),
        op_insert("shop.c", {"n": 2}, {"n": 3}, request_id=902),
        op_update("shop.c", {"n": 2}, {"n": 4}, request_id=903),
        op_delete("shop.c", {"n": 4}, request_id=904),
        op_kill_cursors(5, 6, request_id=905),
        without_reply(906, killCursors="c", cursors=cursors, lsid=lsid()),
        op_msg(insert, sequence("documents", {}, {}), flags=MORE_TO_COME, request_id=907),
        deflate(without_reply(908, update="c", updates=[]), 2),
        # Longer than what passes in one go.
        without_reply(909, insert="c", documents=[{"b": bytes(200_000)}]),
    ]


End = Callable[[Client, Seen], Awaitable[None]]


async def half_closes(client: Client, seen: Seen) -> None:
    await client.stream.send_eof()
    await read_to_the_end(client)


async def closes(client: Client, seen: Seen) -> None:
    client.stream.socket.close()


async def breaks_off(client: Client, seen: Seen) -> None:
    await client.send(ping("never whole")[:30])
    await half_closes(client, seen)


async def resets(client: Client, seen: Seen) -> None:
    client.reset()


async def upstream_goes(client: Client, seen: Seen) -> None:
    seen.reset()
    await read_to_the_end(client)


async def send_and_end(client: Client, seen: Seen, data: bytes, end: End) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        await client.send(data)
        await end(client, seen)


#: How it ends, and whether what was sent before is certain to have arrived then.
ENDS: Final[Sequence[tuple[End, bool]]] = (
    (half_closes, True),
    (closes, True),
    (breaks_off, True),
    (resets, False),
    (upstream_goes, False),
)

#: Where upstream has to answer first. It is waited for, as a server is that is at work: it goes.
BLOCKED: Final = {"login", "transaction", "kill"}


def arrives(stage: str, end: End, *, certain: bool) -> bool:
    """Whether everything is certain to reach upstream. In the middle of a reply, who closes has
    not read all, and the kernel throws away what it sent."""
    return certain and stage not in BLOCKED and (stage != "reply" or end is half_closes)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "unacknowledged"])
async def test_what_was_sent_before_the_end_arrives_once(stage: str) -> None:
    waits = {"half_close_seconds": 0.5}
    async with recording(waits) as (upstream, running), bystanding(running, BYSTANDERS) as others:
        log = Log()
        logs.configure("json", "info", log)
        scene = Scene(upstream, running)
        for end, certain in ENDS:
            async with faultless(running, others):
                client, seen = await STAGES[stage](scene)
                sent = burst()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send_and_end, client, seen, b"".join(sent), end)
                    if stage in BLOCKED:
                        seen.stream.socket.close()
                await seen.ended.wait()
                await client.close()
            got = [frame for frame in seen.frames if frame in sent]
            assert got == sent[: len(got)]
            if arrives(stage, end, certain=certain):
                assert len(got) == len(sent)
                assert seen.rest == 0
        assert not log.lines("connection failed")


async def test_their_answers_are_nobodys() -> None:
    """Not even where upstream gives some, which ends the connection."""

    def talkative(seen: Seen, frame: bytes) -> Sequence[bytes]:
        if document(frame).get("do") == "answer":
            return (answered(frame, {"ok": 1.0, "echo": "wrong"}),)
        return echo(seen, frame)

    async with recording() as (upstream, running), bystanding(running, BYSTANDERS) as others:
        upstream.answer = talkative
        client = await Client.connect(running)
        for number in range(3):
            await client.send(b"".join(burst()))
            await client.ping(f"behind {number}", number)
        async with faultless(running, others):
            wrong = await Client.connect(running)
            await wrong.send(without_reply(77, insert="c", documents=[], do="answer"))
            with contextlib.suppress(trio.BrokenResourceError):
                await wrong.send(ping("behind", 78))
            assert await wrong.receive() is None
            await wrong.close()
        await client.ping("behind all")
        await client.close()


#: Session commands, which the proxy carries out itself as far as it has to.
COMMANDS: Final[dict[str, Any]] = {
    "startSession": 1,
    "refreshSessions": [],
    "endSessions": [],
    "killSessions": [],
    "killAllSessions": [],
    "killAllSessionsByPattern": [],
    "logout": 1,
}


@pytest.mark.parametrize("name", COMMANDS)
async def test_session_commands_without_a_reply_have_none(name: str) -> None:
    quiet = command({name: COMMANDS[name], "$db": "admin"}, 50, flags=MORE_TO_COME)
    async with recording() as (_, running), bystanding(running, 5) as others:
        client = await Client.connect(running)
        await client.send(quiet * 3)
        await client.ping("behind")
        async with faultless(running, others):
            for end, _certain in ENDS[:4]:
                goes = await Client.connect(running)
                await goes.ping("first")
                await goes.send(quiet * 3)
                with contextlib.suppress(trio.BrokenResourceError):
                    await end(goes, Seen(goes.stream))
                await goes.close()
        await client.ping("as before")
        await client.close()


async def test_upstream_fails_in_the_middle_of_them() -> None:
    """Whatever it says is not taken for an answer to what comes behind them."""
    late = reply({"ok": 1.0, "echo": "late"}, 909)
    async with recording() as (upstream, running), bystanding(running, BYSTANDERS) as others:
        for said in (late, late[:30], HEADER.pack(-1, 1, 909, 2013)):
            async with faultless(running, others):
                client = await Client.connect(running)
                await client.ping("knows it")
                seen = upstream.with_mark("knows it")
                await client.send(b"".join(burst()))
                await seen.frame_count(1 + len(burst()))
                await seen.stream.send_all(said)
                seen.stream.socket.close()
                assert await client.receive() is None
                await client.close()
