"""Names fail at every stage: not known any more, known elsewhere, or not in time."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final

import pytest
import trio

from proxy import logs
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import load
from proxy.wire.compression import deflate
from tests.build import command
from tests.end_to_end.tools import Log
from tests.faults.left import BYSTANDERS, faultless
from tests.faults.stages import STAGES, Scene, lsid, read_to_the_end
from tests.patience import until
from tests.running import Client, bystanding, ping
from tests.upstreams import RecordingUpstream, document

NAME: Final = "upstream.test"

#: Where nobody listens.
NOWHERE: Final = "127.0.0.3"
ELSEWHERE: Final = "127.0.0.2"

LookUp = Callable[[], Awaitable[list[str]]]


async def as_ever() -> list[str]:
    return ["127.0.0.1"]


class Names(trio.abc.HostnameResolver):
    """Resolves as the machine does, but for one name."""

    def __init__(self) -> None:
        self.look_up: LookUp = as_ever

    async def getaddrinfo(self, host: Any, port: Any, *args: Any) -> Any:
        if host not in (NAME, NAME.encode()):
            return await trio.to_thread.run_sync(socket.getaddrinfo, host, port, *args)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (found, int(port)))
            for found in await self.look_up()
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


def fails(code: int) -> LookUp:
    async def look_up() -> list[str]:
        raise socket.gaierror(code, "it failed")

    return look_up


def gives(*addresses: str) -> LookUp:
    async def look_up() -> list[str]:
        return list(addresses)

    return look_up


class Slow:
    """Look-ups that hang in threads, as the machine's do, until they are let go."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self.begun = 0

    async def __call__(self) -> list[str]:
        self.begun += 1
        await trio.to_thread.run_sync(self._go.wait, abandon_on_cancel=True)
        return ["127.0.0.1"]

    def let_go(self) -> None:
        self._go.set()


@contextlib.asynccontextmanager
async def named(**tables: Any) -> AsyncIterator[tuple[Names, RecordingUpstream, Running, Log]]:
    """A proxy that knows its upstream by name, and does not ask for it by itself again."""
    names, upstream, log = Names(), RecordingUpstream(), Log()
    trio.socket.set_custom_hostname_resolver(names)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        logs.configure("json", "info", log)
        config = load(
            None,
            {
                "listen": {"address": "127.0.0.1:0"},
                "upstream": {"address": f"{NAME}:{port}", "watch_seconds": 3600.0},
                "admin": {"address": ""},
                **tables,
            },
        )
        yield (
            names,
            upstream,
            await nursery.start(partial(server.serve, config, lambda: config)),
            log,
        )
        nursery.cancel_scope.cancel()
    assert not log.lines("connection failed")
    assert "bug" not in {line["reason"] for line in log.lines("client gone")}


async def lost(running: Running) -> Client:
    """A client that comes now. It may be closed before it has asked something, or behind that."""
    client = await Client.connect(running)
    with contextlib.suppress(trio.BrokenResourceError):
        await client.send(ping("lost"))
    return client


#: Names that lead to nobody.
LOSSES: Final[dict[str, LookUp]] = {
    "not known any more": fails(socket.EAI_NONAME),
    "not known for now": fails(socket.EAI_AGAIN),
    "failing servers": fails(socket.EAI_FAIL),
    "no memory": fails(socket.EAI_MEMORY),
    "nobody there": gives(NOWHERE),
    "nobody at any of several": gives(NOWHERE, "127.0.0.4", "127.0.0.5"),
}


async def test_names_that_fail_at_any_stage_cost_single_connections() -> None:
    async with (
        named() as (names, upstream, running, log),
        bystanding(running, BYSTANDERS) as others,
    ):
        scene = Scene(upstream, running)
        for stage in STAGES.values():
            client, seen = await stage(scene)
            async with faultless(running, others):
                for names.look_up in LOSSES.values():
                    nobody = await lost(running)
                    await read_to_the_end(nobody)
                    await nobody.close()
                    running.server.reload()
                # The first of several may be gone.
                for names.look_up in (gives(NOWHERE, "127.0.0.1"), as_ever):
                    found = await Client.connect(running)
                    await found.ping("found again")
                    await found.close()
            assert seen.end == ""
            seen.reset()
            await read_to_the_end(client)
            await client.close()
        assert len(log.lines("configuration reloaded")) == len(STAGES) * len(LOSSES)


async def test_names_that_lead_elsewhere_at_any_stage_move_only_who_comes() -> None:
    async with (
        trio.open_nursery() as nursery,
        named() as (names, upstream, running, _),
        bystanding(running, BYSTANDERS) as others,
    ):
        elsewhere = RecordingUpstream()
        elsewhere.port = upstream.port
        await nursery.start(partial(elsewhere.serve, host=ELSEWHERE))
        scene = Scene(upstream, running)
        for number, stage in enumerate(STAGES.values()):
            names.look_up = as_ever
            client, seen = await stage(scene)
            names.look_up = gives(ELSEWHERE)
            async with faultless(running, others):
                moved = await Client.connect(running)
                await moved.ping(f"moved {number}")
                assert elsewhere.with_mark(f"moved {number}").frames
                await moved.close()
                await elsewhere.with_mark(f"moved {number}").ended.wait()
            assert seen.end == ""
            seen.reset()
            await read_to_the_end(client)
            await client.close()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stage", STAGES)
async def test_names_that_hang_at_any_stage_hold_up_nobody_else(stage: str) -> None:
    """More of them than there are threads, while others need one."""
    large = command({"ping": 1, "b": bytes(600_000), "lsid": lsid(), "$db": "admin"}, 7)
    async with (
        named() as (names, upstream, running, _),
        bystanding(running, BYSTANDERS) as others,
    ):
        talks = await Client.connect(running)
        await talks.ping("talks")
        client, seen = await STAGES[stage](Scene(upstream, running))
        async with faultless(running, others):
            names.look_up = slow = Slow()
            waiting = [await lost(running) for _ in range(60)]
            await until(lambda: slow.begun == len(waiting))
            await others.go_on()
            assert await talks.ask(deflate(large, 2)) is not None
            for one in waiting[:20]:
                one.reset()
            slow.let_go()
            for one in waiting[20:]:
                answer = await one.receive()
                assert answer is not None
                assert document(answer)["echo"] == "lost"
            for one in waiting:
                await one.close()
        assert seen.end == ""
        seen.reset()
        await read_to_the_end(client)
        await client.close()
        await talks.close()


async def test_draining_waits_for_no_name() -> None:
    async with named(limits={"drain_seconds": 3600.0}) as (names, _, running, log):
        inside = await Client.connect(running)
        await inside.ping("inside")
        names.look_up = slow = Slow()
        waiting = [await Client.connect(running) for _ in range(3)]
        for client in waiting:
            await client.send(ping("never whole")[:20])
        await until(lambda: slow.begun == len(waiting))
        running.server.stop()
        for client in (inside, *waiting):
            await read_to_the_end(client)
            await client.close()
        await log.line("stopped")
        slow.let_go()
