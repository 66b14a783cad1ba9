"""Connections that nobody uses end, and those that something hangs on do not."""

from __future__ import annotations

from typing import Any

import bson
import pytest
import trio

from proxy import logs
from proxy.embedded import EmbeddedUpstream
from proxy.process.idling import Idling
from proxy.wire.opcodes import EXHAUST_ALLOWED
from tests.build import command
from tests.end_to_end.tools import Log, proxy_before
from tests.patience import until
from tests.running import Client, in_time, ping
from tests.upstreams import RecordingUpstream, Seen, document, echo

LSID = {"id": bson.Binary(bytes(range(16)), 4)}
PING = command({"ping": 1, "$db": "admin"}, 3)
BALANCED = command({"hello": 1, "loadBalanced": True, "$db": "admin"}, 3)
MANY = {"insert": "b", "documents": [{"_id": number} for number in range(9)], "$db": "a"}
FIND = command({"find": "b", "batchSize": 2, "$db": "a", "lsid": LSID}, 5)
BEGIN = command(
    {
        "find": "b",
        "$db": "a",
        "lsid": LSID,
        "txnNumber": bson.Int64(1),
        "startTransaction": True,
        "autocommit": False,
    },
    5,
)


def idling_of(running: Any, seconds: float = 60.0) -> Idling:
    cluster = running.server.clusters[0]
    return Idling(cluster.sessions_shared, cluster.open_connections, lambda: seconds)


@pytest.mark.parametrize(
    ("asks", "stays"),
    [
        ([PING], False),
        ([FIND], False),
        ([BEGIN], True),
        ([BALANCED], False),
        ([BALANCED, FIND], True),
        ([BALANCED, BEGIN], True),
    ],
)
@in_time
async def test_what_holds_a_connection(
    nursery: trio.Nursery, asks: list[bytes], stays: bool
) -> None:
    upstream = EmbeddedUpstream(set_name="rs0")
    port = await nursery.start(upstream.serve, "127.0.0.1", 0)
    log = Log()
    async with proxy_before(port, log=log) as running:
        logs.configure("json", "debug", log)
        client = await Client.connect(running)
        for one in (*asks[:-1], command(MANY, 4), asks[-1]):
            answer = await client.ask(one)
            assert answer is not None
            assert document(answer)["ok"] == 1
        idling, now = idling_of(running), trio.current_time()
        await idling.sweep(now, 60.0)
        await idling.sweep(now + 59, 60.0)
        assert await client.ask(PING) is not None
        await idling.sweep(now + 61, 60.0)
        assert await client.ask(PING) is not None
        for when in (62, 121, 123):
            await idling.sweep(now + when, 60.0)
        if stays:
            assert await client.ask(PING) is not None
        else:
            assert await client.receive() is None
            assert await log.reasons(1) == ["idle: for 60 s"]
        await client.close()
    nursery.cancel_scope.cancel()


def answer(seen: Seen, frame: bytes) -> Any:
    """Leaves what is to wait without an answer."""
    return () if "waits" in document(frame) else echo(seen, frame)


@in_time
async def test_nobody_is_cut_off(nursery: trio.Nursery) -> None:
    """Neither who has something in flight, be it a hello, nor who has sent a half, or nothing."""
    upstream = RecordingUpstream(answer)
    port = await nursery.start(upstream.serve)
    async with proxy_before(port) as running:
        clients = [await Client.connect(running) for _ in range(6)]
        waits, streams, half, used, idle, fresh = clients
        for number, client in enumerate(clients[:5]):
            await client.ping(f"here {number}")
        waiting = command({"find": "b", "waits": 1, "$db": "admin"}, 5)
        await waits.send(waiting)
        watching = command({"hello": 1, "waits": 1, "$db": "admin"}, 5, flags=EXHAUST_ALLOWED)
        await streams.send(watching)
        await half.send(ping("whole")[:20])
        connections = running.server.clusters[0].open_connections
        await until(lambda: sum(one.rests for one in connections.values()) == 2)
        idling, now = idling_of(running), trio.current_time()
        await idling.sweep(now, 60.0)
        await used.ping("used again")
        await idling.sweep(now + 61, 60.0)
        assert await idle.receive() is None
        await used.ping("and again")
        await half.send(ping("whole")[20:])
        assert await half.receive() is not None
        await fresh.ping("late")
        assert len(connections) == 5
        for client in clients:
            await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_a_time_that_a_reload_brings_holds_for_those_that_are_there(
    nursery: trio.Nursery,
) -> None:
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    async with proxy_before(port) as running:
        cluster = running.server.clusters[0]
        assert cluster.config.limits.idle_seconds == 0
        client = await Client.connect(running)
        await client.ping("here")
        limits = cluster.config.limits.model_copy(update={"idle_seconds": 0.01})
        cluster.adopt(cluster.config.model_copy(update={"limits": limits}), None)
        assert await client.receive() is None
        await client.close()
    nursery.cancel_scope.cancel()
