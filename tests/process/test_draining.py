"""In which order clients are let go, so that drivers notice before they lose anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from proxy import logs
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import Config, load
from proxy.wire.opcodes import EXHAUST_ALLOWED
from tests.build import command
from tests.patience import until
from tests.running import Client, in_time, ping
from tests.upstreams import RecordingUpstream, Seen, document, echo

HELLO = command({"hello": 1, "$db": "admin"})
AWAITED = command({"hello": 1, "do": "wait", "$db": "admin"}, flags=EXHAUST_ALLOWED)


def answer(seen: Seen, frame: bytes) -> Any:
    return () if document(frame).get("do") == "wait" else echo(seen, frame)


class Successor:
    def release(self, **told: int) -> None:
        """As that of a process that needs no word."""


class Served:
    """A proxy before an upstream, and its clients."""

    def __init__(self, running: Running, ended: trio.Event) -> None:
        self.stop = running.server.stop
        self._server = running.server
        self.ended = ended
        self._running = running
        self._clients: list[Client] = []

    async def silent(self) -> Client:
        """A connection that said nothing yet, and was taken."""
        known = len(list(self._server.connections()))
        client = await Client.connect(self._running)
        self._clients.append(client)
        await until(lambda: len(list(self._server.connections())) > known)
        return client

    async def opened(self) -> Client:
        """A connection that said hello, and no more."""
        client = await self.silent()
        assert await client.ask(HELLO) is not None
        return client

    async def working(self) -> Client:
        client = await self.opened()
        await client.ping("works")
        return client

    async def watching(self, *, waits: bool = True) -> Client:
        """A driver watches the server by it: by a hello that waits, or by one every so often."""
        client = await self.opened()
        if waits:
            await client.send(AWAITED)
        else:
            assert await client.ask(HELLO) is not None
        return client

    def replace(self) -> None:
        """Another process takes the clients now."""
        self._server._handover._successor = Successor()
        self._server._handed_over()

    async def close(self) -> None:
        for client in self._clients:
            await client.close()


@asynccontextmanager
async def serving(idle: float) -> AsyncIterator[Served]:
    """A proxy that leaves the idle alone for so many seconds when it drains, which it has to do
    before the end."""
    logs.configure("text", "error")
    ended = trio.Event()

    async def serve(
        config: Config, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await server.serve(config, task_status=task_status)
        ended.set()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(RecordingUpstream(answer).serve)
        tables = {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": f"127.0.0.1:{port}"},
            "admin": {"address": ""},
            "limits": {"drain_seconds": 3600.0, "drain_idle_seconds": idle},
        }
        served = Served(await nursery.start(serve, load(None, tables)), ended)
        yield served
        await ended.wait()
        await served.close()
        nursery.cancel_scope.cancel()


@in_time
async def test_who_watches_is_told_first_and_who_works_leaves_in_peace():
    async with serving(3600.0) as served:
        watching = await served.watching(), await served.watching(waits=False)
        working = await served.working(), await served.working()
        served.stop()
        for client in watching:
            assert await client.receive() is None
        for client in working:
            await client.ping("as before")
            assert not served.ended.is_set()
            await client.close()


@in_time
async def test_who_begins_to_watch_meanwhile_is_told_too():
    async with serving(3600.0) as served:
        working, opened = await served.working(), await served.opened()
        served.stop()
        await working.ping("as before")
        await opened.send(AWAITED)
        assert await opened.receive() is None
        await working.ping("as before still")
        await working.close()


@in_time
async def test_who_was_opened_to_be_used_is_used():
    async with serving(3600.0) as served:
        watching, working = await served.watching(), await served.working()
        opened = await served.opened()
        served.stop()
        assert await watching.receive() is None
        await working.close()
        await opened.ping("its first")
        await opened.ping("its second")
        await opened.close()


@in_time
async def test_where_nobody_works_nothing_is_waited_for():
    async with serving(3600.0) as served:
        watching, opened = await served.watching(), await served.opened()
        served.stop()
        assert await watching.receive() is None
        assert await opened.receive() is None


@in_time
async def test_who_does_not_leave_is_let_go_when_the_moment_is_over():
    async with serving(0.1) as served:
        watching, working = await served.watching(), await served.working()
        served.stop()
        assert await watching.receive() is None
        assert await working.receive() is None


@in_time
async def test_where_nobody_watches_nothing_is_waited_for():
    async with serving(3600.0) as served:
        working = await served.working()
        served.stop()
        assert await working.receive() is None


@in_time
async def test_a_second_stop_ends_the_moment_too():
    async with serving(3600.0) as served:
        watching, working = await served.watching(), await served.working()
        served.stop()
        assert await watching.receive() is None
        served.stop()
        assert await working.receive() is None


@in_time
async def test_who_was_replaced_is_in_no_hurry():
    """Half of the time for draining, whatever is said of the idle, and whether or not anybody
    watches: who has just come may have something to ask as well."""
    async with serving(0.01) as served:
        silent, opened, working = (
            await served.silent(),
            await served.opened(),
            await served.working(),
        )
        served.replace()
        await trio.sleep(0.1)
        for client in (silent, opened, working):
            await client.ping("as before")
            assert not served.ended.is_set()
            await client.close()


@in_time
async def test_who_watches_is_told_first_by_one_that_was_replaced():
    async with serving(3600.0) as served:
        watching, silent = await served.watching(), await served.silent()
        served.replace()
        assert await watching.receive() is None
        assert await silent.ask(HELLO) is not None
        await silent.close()


@in_time
async def test_what_is_asked_at_rest_waits_unless_it_reads_on():
    async with serving(3600.0) as served:
        one, other = await served.working(), await served.working()
        connections = served._server.clusters[0].open_connections.values()
        for connection in connections:
            connection.rest(True)
        await one.send(ping("held"))
        assert await other.ask(command({"getMore": 1, "collection": "c", "$db": "a"})) is not None
        await trio.testing.wait_all_tasks_blocked()
        for connection in connections:
            connection.rest(False)
        answer = await one.receive()
        assert answer is not None
        assert document(answer)["echo"] == "held"
        served.stop()
