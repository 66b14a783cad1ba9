"""The running proxy: where it listens, whom it takes, and how it ends."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel

from proxy import logs
from proxy.embedded import EmbeddedUpstream
from proxy.errors import ConfigError
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import Config, load
from tests.build import command
from tests.ports import free_port
from tests.running import Client, in_time, ping, port_of, proxied, recording
from tests.upstreams import RecordingUpstream, Seen, document, echo

HELLO = command({"hello": 1, "$db": "admin"})


def settings(upstream: str, **tables: Any) -> Config:
    logs.configure("text", "error")
    return load(
        None,
        {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": upstream},
            "admin": {"address": ""},
            **tables,
        },
    )


async def hello(client: Client) -> dict[str, Any]:
    frame = await client.ask(HELLO)
    assert frame is not None
    return document(frame)


# ------------------------------------------------------------------ coming up


@in_time
async def test_it_says_where_to_connect():
    async with recording() as (_, running):
        [address] = running.addresses
        assert address.startswith("127.0.0.1:")
        assert running.admin is None
        client = await Client.connect(running)
        await client.ping("here")
        await client.close()


@in_time
async def test_the_operators_endpoint_is_told():
    async with recording(admin={"address": "127.0.0.1:0"}) as (_, running):
        assert running.admin is not None
        port = int(running.admin.rpartition(":")[2])
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200")


@in_time
async def test_an_address_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = settings("127.0.0.1:1", listen={"address": address})
        with pytest.RaisesGroup(OSError, flatten_subgroups=True, allow_unwrapped=True) as caught:
            await server.serve(config)
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert error.filename == address


@in_time
async def test_a_unix_socket(tmp_path):
    path = tmp_path / "proxy.sock"
    async with recording(listen={"address": str(path)}) as (_, running):
        assert running.addresses == [str(path)]
        client = Client(await trio.open_unix_socket(str(path)))
        await client.ping("by path")
        await client.close()
    assert not path.exists()


@in_time
async def test_both_families_of_a_wildcard():
    async with recording(listen={"address": "localhost:0"}) as (_, running):
        port = port_of(running)
        for host in {info[4][0] for info in socket.getaddrinfo("localhost", port)}:
            client = Client(await trio.open_tcp_stream(host, port))
            await client.ping(host)
            await client.close()


# ------------------------------------------------------------------ upstream


@in_time
async def test_an_upstream_that_comes_later(nursery):
    port = free_port()
    quick = {"address": f"127.0.0.1:{port}", "watch_seconds": 0.05}
    async with proxied(port, upstream=quick) as running:
        for _ in range(3):
            client = await Client.connect(running)
            await client.send(ping("anybody?"))
            assert await client.receive() is None
            await client.close()
        assert not running.server.ready()[0]
        upstream = RecordingUpstream()
        upstream.port = port
        await nursery.start(upstream.serve)
        client = await Client.connect(running)
        await client.ping("now")
        assert running.server.ready()[0]
        await client.close()


@in_time
async def test_members_of_a_replica_set_are_shown_under_the_proxys_address(nursery):
    upstream = EmbeddedUpstream(set_name="rs")
    port = await nursery.start(upstream.serve)
    async with proxied(port) as running:
        client = await Client.connect(running)
        told = await hello(client)
        assert told["hosts"] == running.addresses
        assert told["me"] == told["primary"] == running.addresses[0]
        assert told["setName"] == "rs"
        await client.close()
    async with proxied(port, upstream={"address": f"127.0.0.1:{port}", "hello": "pass"}) as running:
        client = await Client.connect(running)
        assert (await hello(client))["hosts"] == [upstream.address]
        await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_standalone_passes_unchanged():
    async with recording() as (_, running):
        client = await Client.connect(running)
        told = await hello(client)
        assert told["ok"] == 1.0
        assert "hosts" not in told
        await client.close()


# ------------------------------------------------------------------ what operators see


@in_time
async def test_a_row_for_every_connection():
    async with recording() as (_, running):
        assert list(running.server.connections()) == []
        client = await Client.connect(running)
        metadata = {
            "application": {"name": "shop"},
            "driver": {"name": "test", "version": "1.2"},
            "os": {"type": "none"},
        }
        await client.ask(command({"hello": 1, "client": metadata, "$db": "admin"}))
        await client.ping("here")
        [row] = running.server.connections()
        assert row["application"] == "shop"
        assert (row["driver"], row["driver_version"]) == ("test", "1.2")
        assert (row["requests"], row["in_flight"], row["user"]) == (2, 0, "")
        assert row["client"].startswith("127.0.0.1:")
        await client.close()
        while list(running.server.connections()):
            await trio.lowlevel.checkpoint()


# ------------------------------------------------------------------ ending


class Served:
    """A server in a task, to see it end."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.ended = trio.Event()
        self.running: Running | None = None

    async def run(self, *, task_status: trio.TaskStatus[Running]) -> None:
        await server.serve(self._config, task_status=task_status)
        self.ended.set()


def held(seen: Seen, frame: bytes) -> Any:
    """Answers everything but what is to be held."""
    return () if document(frame).get("mark") == "held" else echo(seen, frame)


async def release(seen: Seen) -> None:
    for reply in echo(seen, seen.frames[-1]):
        await seen.stream.send_all(reply)


@pytest.mark.parametrize("how", ["stop", "SIGTERM", "SIGINT"])
@in_time
async def test_draining_lets_work_finish_and_takes_nobody_new(nursery, how):
    upstream = RecordingUpstream(held)
    port = await nursery.start(upstream.serve)
    served = Served(settings(f"127.0.0.1:{port}"))
    running = await nursery.start(served.run)
    idle, busy = await Client.connect(running), await Client.connect(running)
    await idle.ping("idle")
    await busy.send(ping("held"))
    seen = await upstream.bringing("held")
    assert not running.server.draining()
    if how == "stop":
        running.server.stop()
    else:
        os.kill(os.getpid(), getattr(signal, how))
    assert await idle.receive() is None
    assert running.server.draining()
    with pytest.raises(OSError, match="connect"):
        await Client.connect(running)
    assert not served.ended.is_set()
    await release(seen)
    frame = await busy.receive()
    assert frame is not None
    assert document(frame)["echo"] == "held"
    assert await busy.receive() is None
    await served.ended.wait()
    await idle.close()
    await busy.close()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("again", [False, True])
@in_time
async def test_clients_are_served_until_balancers_have_noticed(nursery, again):
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    delay = 3600 if again else 0.5
    limits = {"drain_delay_seconds": delay}
    served = Served(settings(f"127.0.0.1:{port}", limits=limits))
    running = await nursery.start(served.run)
    before = await Client.connect(running)
    await before.ping("before")
    running.server.stop()
    assert running.server.draining()
    after = await Client.connect(running)
    if again:
        await after.ping("after")
        running.server.stop()
    for client in (before, after):
        assert again or await client.receive() is None
    await served.ended.wait()
    for client in (before, after):
        await client.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_draining_has_an_end(nursery):
    upstream = RecordingUpstream(held)
    port = await nursery.start(upstream.serve)
    served = Served(settings(f"127.0.0.1:{port}", limits={"drain_seconds": 0.2}))
    running = await nursery.start(served.run)
    busy = await Client.connect(running)
    await busy.send(ping("held"))
    seen = await upstream.bringing("held")
    running.server.stop()
    assert await busy.receive() is None
    await served.ended.wait()
    await seen.ended.wait()
    await busy.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_a_second_stop_does_not_wait(nursery):
    upstream = RecordingUpstream(held)
    port = await nursery.start(upstream.serve)
    served = Served(settings(f"127.0.0.1:{port}"))
    running = await nursery.start(served.run)
    busy = await Client.connect(running)
    await busy.send(ping("held"))
    await upstream.bringing("held")
    running.server.stop()
    running.server.stop()
    assert await busy.receive() is None
    await served.ended.wait()
    await busy.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_cancelling_closes_everything():
    upstream = RecordingUpstream(held)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        async with proxied(port) as running:
            client = await Client.connect(running)
            await client.send(ping("held"))
            seen = await upstream.bringing("held")
        assert await client.receive() is None
        await seen.ended.wait()
        with pytest.raises(OSError, match="connect"):
            await Client.connect(running)
        await client.close()
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ reload


@in_time
async def test_hangup_reads_the_limits_again(nursery):
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    config = settings(f"127.0.0.1:{port}")
    read = [
        settings(f"127.0.0.1:{port}", limits={"connections": 1}),
        ConfigError(["limits.connections: nonsense"]),
    ]

    def again() -> Config:
        found = read.pop(0)
        if isinstance(found, ConfigError):
            raise found
        return found

    running = await nursery.start(partial(server.serve, config, again))
    first, second = await Client.connect(running), await Client.connect(running)
    await first.ping("one")
    await second.ping("two")
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGHUP)
        while running.server.config.limits.connections != 1:
            await trio.lowlevel.checkpoint()
        turned_away = await Client.connect(running)
        assert await turned_away.receive() is None
        await turned_away.close()
    await first.ping("nobody is dropped")
    await second.ping("nobody is dropped")
    while read:
        await trio.lowlevel.checkpoint()
    await first.close()
    await second.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_what_a_reload_takes_over_is_not_said_to_need_a_restart(nursery):
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    config = settings(f"127.0.0.1:{port}")
    changed = settings(
        f"127.0.0.1:{port}",
        limits={"buffered_bytes": 70_000, "drain_seconds": 3},
        sessions={"refuse_early": True},
        log={"level": "error", "slow_seconds": 0.5},
    )
    lines = io.StringIO()
    logs.configure("json", "info", lines)
    running = await nursery.start(partial(server.serve, config, lambda: changed))
    running.server.reload()
    assert running.server.common.budget.limit == 70_000
    assert running.server.config.limits.drain_seconds == 3
    assert running.server.clusters[0].sessions_shared.refuse_early
    assert running.server.telemetry.slow_seconds == 0.5
    told = {line["event"]: line for line in map(json.loads, lines.getvalue().splitlines())}
    assert told["configuration reloaded"]["needs_restart"] == ["log"]
    nursery.cancel_scope.cancel()
