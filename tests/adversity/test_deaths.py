"""One side dies or stalls at every point: both ends go in time, and nobody else notices.

What is asserted is that the end comes, not when; where only a deadline can bring it, the clock is
put forward.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
import trio

from proxy.process.server import Running
from proxy.settings.limits import Limits
from proxy.wire.opcodes import EXHAUST_ALLOWED, MORE_TO_COME
from tests.build import body, command, op_msg, reply
from tests.patience import PATIENCE, until
from tests.running import Bystanders, Client, bystanding, ping, recording
from tests.upstreams import RecordingUpstream, Seen, answered, document, echo

LONG = bytes(3_000_000)


def special(seen: Seen, frame: bytes) -> Sequence[bytes] | None:
    """Answers to what these tests ask for by the field "do"; the rest is echoed."""
    what = document(frame).get("do")
    if what == "nothing":
        return ()
    if what == "long":
        return (answered(frame, {"ok": 1.0, "long": LONG}),)
    if what == "half":
        # Half a reply, and no more.
        return (answered(frame, {"ok": 1.0, "long": LONG})[:1_000_000],)
    if what == "half a header":
        return (answered(frame, {"ok": 1.0})[:9],)
    if what == "stream":
        first = answered(frame, {"ok": 1.0, "n": 1}, 501, flags=MORE_TO_COME)
        return (first, reply({"ok": 1.0, "n": 2}, 501, 502, flags=MORE_TO_COME))
    if what == "hang up":
        return None
    return echo(seen, frame)


def do(what: str, mark: Any, **how: Any) -> bytes:
    return command({"ping": 1, "do": what, "mark": mark, "$db": "admin"}, **how)


@contextlib.asynccontextmanager
async def scene(
    **limits: Any,
) -> AsyncIterator[tuple[RecordingUpstream, Running, Bystanders]]:
    with trio.fail_after(PATIENCE):
        async with recording(limits) as (upstream, running):
            upstream.answer = special
            async with bystanding(running) as bystanders:
                yield upstream, running, bystanders
            assert sum(1 for _ in running.server.connections()) <= 50, "a connection is left over"


async def gone(client: Client) -> None:
    """The client reads to the end of what there is."""
    with contextlib.suppress(trio.BrokenResourceError):
        while await client.stream.receive_some(65_536):
            pass
    await client.close()


def leave(client: Client) -> None:
    """Close as a process that ends: FIN, nothing read any more."""
    client.stream.socket.close()


DEATHS: dict[str, Callable[[Client], None]] = {"closes": leave, "resets": Client.reset}


# ------------------------------------------------------------------ the client


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("at", [0, 3, 10, 16, 30])
async def test_a_client_dies_in_a_message(death, at):
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.ping("alive")
        seen = upstream.with_mark("alive")
        await client.send(ping("never whole")[:at])
        DEATHS[death](client)
        await seen.ended.wait()
        assert (len(seen.frames), seen.rest) == (1, 0)
        await bystanders.go_on()


async def test_clients_stall_in_a_message(clock):
    async with scene() as (upstream, running, bystanders):
        clients = []
        for at in (1, 3, 16, 30):
            client = await Client.connect(running)
            await client.ping(f"alive {at}")
            await client.send(ping("never whole")[:at])
            clients.append((at, client))
        await bystanders.go_on()
        clock.jump(Limits().frame_seconds)
        for at, client in clients:
            await gone(client)
            seen = upstream.with_mark(f"alive {at}")
            await seen.ended.wait()
            assert (len(seen.frames), seen.rest) == (1, 0)


async def test_clients_never_finish_their_first_message(clock):
    async with scene() as (_, running, bystanders):
        clients = []
        for sent in (b"", b"\x10", ping("x")[:20]):
            client = await Client.connect(running)
            if sent:
                await client.send(sent)
            clients.append(client)
        await until(lambda: sum(1 for _ in running.server.connections()) == 50 + len(clients))
        await bystanders.go_on()
        clock.jump(Limits().handshake_seconds)
        for client in clients:
            await gone(client)


@pytest.mark.parametrize("death", DEATHS)
async def test_a_client_dies_while_upstream_works(death):
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.send(do("nothing", "waits"))
        seen = await upstream.bringing("waits")
        DEATHS[death](client)
        await seen.ended.wait()
        assert seen.end == "eof"
        await bystanders.go_on()


@pytest.mark.parametrize("death", DEATHS)
async def test_a_client_dies_in_a_reply(death):
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.send(do("long", "asks"))
        assert await client.stream.receive_some(1000)
        DEATHS[death](client)
        seen = await upstream.bringing("asks")
        await seen.ended.wait()
        await bystanders.go_on()


@pytest.mark.parametrize("death", DEATHS)
async def test_a_client_dies_in_a_stream(death):
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.send(do("stream", "asks", flags=EXHAUST_ALLOWED))
        for number in (1, 2):
            frame = await client.receive()
            assert frame is not None
            assert document(frame)["n"] == number
        DEATHS[death](client)
        seen = await upstream.bringing("asks")
        await seen.ended.wait()
        await bystanders.go_on()


async def test_a_client_does_not_read_its_reply():
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.send(do("long", "asks") * 20)
        seen = await upstream.bringing("asks")
        for _ in range(3):
            await bystanders.go_on()
        assert len(seen.frames) < 20, "upstream was read on behalf of nobody"
        got = [await client.receive() for _ in range(20)]
        assert all(frame is not None and document(frame)["long"] == LONG for frame in got)
        await client.ping("and goes on")
        await client.close()


async def test_a_client_that_does_not_read_dies():
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.send(do("long", "asks") * 20)
        seen = await upstream.bringing("asks")
        await bystanders.go_on()
        client.reset()
        await seen.ended.wait()
        await bystanders.go_on()


# ------------------------------------------------------------------ upstream


async def hang_up(seen: Seen) -> None:
    await seen.stream.aclose()


async def reset(seen: Seen) -> None:
    seen.reset()


UPSTREAM_DEATHS = {"closes": hang_up, "resets": reset}


@pytest.mark.parametrize("death", UPSTREAM_DEATHS)
@pytest.mark.parametrize("what", ["nothing", "half a header", "half", "stream"])
async def test_upstream_dies(death, what):
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.ping("alive")
        await client.send(do(what, "asks", flags=EXHAUST_ALLOWED))
        seen = await upstream.bringing("asks")
        if what == "stream":
            assert await client.receive() is not None
        elif what == "half":
            assert await client.stream.receive_some(1000)
        await UPSTREAM_DEATHS[death](seen)
        await gone(client)
        await bystanders.go_on()


@pytest.mark.parametrize("death", UPSTREAM_DEATHS)
async def test_upstream_dies_in_half_a_request(death):
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.ping("alive")
        await client.send(ping("never whole")[:30])
        await UPSTREAM_DEATHS[death](upstream.with_mark("alive"))
        await gone(client)
        await bystanders.go_on()


@pytest.mark.parametrize("death", UPSTREAM_DEATHS)
async def test_upstream_dies_while_idle(death):
    async with scene() as (upstream, running, bystanders):
        client = await Client.connect(running)
        await client.ping("alive")
        await UPSTREAM_DEATHS[death](upstream.with_mark("alive"))
        await gone(client)
        await bystanders.go_on()


async def test_upstream_answers_by_closing():
    async with scene() as (_, running, _bystanders):
        client = await Client.connect(running)
        await client.send(do("hang up", "asks"))
        assert await client.receive() is None
        await client.close()


async def test_upstream_is_not_there():
    """It was when the proxy came up, and clients that are connected stay so."""
    async with recording() as (upstream, running):
        upstream.answer = special
        with trio.fail_after(PATIENCE):
            async with bystanding(running) as bystanders:
                upstream.stop_listening()
                for _ in range(5):
                    client = await Client.connect(running)
                    await client.send(ping("anybody?"))
                    assert await client.receive() is None
                    await client.close()
                await bystanders.go_on()


async def test_an_upstream_that_breaks_the_protocol_ends_that_connection_alone():
    def wrong(seen: Seen, frame: bytes) -> Sequence[bytes] | None:
        kind = document(frame).get("do")
        if kind == "other id":
            return (reply({"ok": 1.0}, 77),)
        if kind == "twice":
            return (answered(frame, {"ok": 1.0}), answered(frame, {"ok": 1.0}))
        if kind == "length":
            return (answered(frame, {"ok": 1.0})[:0] + bytes(16),)
        if kind == "opcode hello":
            return (op_msg(b"\7", response_to=1),)
        return echo(seen, frame)

    async with scene() as (upstream, running, bystanders):
        upstream.answer = wrong
        for kind in ("other id", "twice", "length"):
            client = await Client.connect(running)
            await client.send(do(kind, kind))
            await gone(client)
            await upstream.with_mark(kind).ended.wait()
            await bystanders.go_on()


# ------------------------------------------------------------------ writes nobody answers


@pytest.mark.parametrize("death", DEATHS)
async def test_unacknowledged_writes_before_a_clients_death_are_not_lost(death):
    writes = 100
    async with scene() as (upstream, running, _):
        for number in range(writes):
            client = await Client.connect(running)
            insert = op_msg(
                body({"insert": "c", "mark": f"write {number}", "$db": "t"}),
                b"\1"
                + (14 + len(LONG) // 100).to_bytes(4, "little")
                + b"documents\0"
                + bytes(len(LONG) // 100),
                flags=MORE_TO_COME,
            )
            await client.send(insert)
            DEATHS[death](client)
        for number in range(writes):
            seen = await upstream.bringing(f"write {number}")
            await seen.ended.wait()
            assert seen.rest == 0


async def test_replies_to_a_client_that_only_closed_its_sending_side_arrive():
    async with scene() as (_, running, _bystanders):
        for number in range(20):
            client = await Client.connect(running)
            await client.send(ping(f"last {number}") + ping(f"very last {number}", 2))
            await client.stream.send_eof()
            for _ in range(2):
                assert await client.receive() is not None
            assert await client.receive() is None
            await client.close()
