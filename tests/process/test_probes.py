"""Who is let in, and what is logged of those that ask for nothing."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from proxy import logs
from proxy.process.probes import Probes
from proxy.settings.process import Log as Settings
from tests.build import command
from tests.end_to_end.tools import Log, proxy_before
from tests.running import Client, in_time, port_of
from tests.upstreams import RecordingUpstream

#: What a balancer sends that only looks.
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
HELLO = command({"hello": 1, "$db": "admin"}, 3)


async def _silent(running: Any) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port_of(running))
    await stream.aclose()


async def _gone(running: Any) -> None:
    while running.server.clusters[0].open_connections:
        await trio.lowlevel.checkpoint()


def counted(running: Any, name: str) -> float:
    _, body = running.server.telemetry.page()
    return sum(
        float(line.split()[-1])
        for line in body.decode().splitlines()
        if line.startswith(f"mongo_session_proxy_{name}")
    )


@in_time
async def test_those_that_ask_for_nothing_are_counted(nursery: trio.Nursery) -> None:
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    log = Log()
    async with proxy_before(port, log=log) as running:
        logs.configure("json", "info", log)
        await _silent(running)
        monitor = await Client.connect(running)
        for _ in range(2):
            assert await monitor.ask(HELLO) is not None
        await monitor.close()
        used = await Client.connect(running)
        assert await used.ask(HELLO) is not None
        assert not log.lines("client connected")
        await used.ping("used")
        [line] = log.lines("client connected")
        assert line["client"].startswith("127.0.0.1:")
        await used.ping("again")
        await used.close()
        await log.reasons(1)
        broken = await Client.connect(running)
        await broken.send(b"GET / HTTP/1.1\r\n\r\n")
        assert len(await log.reasons(2)) == 2
        assert len(log.lines("client connected")) == 2
        await _gone(running)
        assert counted(running, "client_probes_total") == 2
        assert counted(running, "client_connections_closed_total") == 4
        running.server.clusters[0].shared.probes.tell()
        [line] = log.lines("probes")
        assert (line["connections"], line["by_address"]) == (2, {"127.0.0.1": 2})
        await broken.close()
    nursery.cancel_scope.cancel()


@in_time
async def test_they_are_logged_where_that_is_wanted(nursery: trio.Nursery) -> None:
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    log = Log()
    async with proxy_before(port, log=log) as running:
        logs.configure("json", "info", log)
        shared = running.server.clusters[0].shared
        shared.config = shared.config.model_copy(update={"log": Settings(probes=True)})
        await _silent(running)
        assert await log.reasons(1) == ["client closed"]
        assert len(log.lines("client connected")) == 1
        assert counted(running, "client_probes_total") == 1
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("allow", "served"),
    [
        (None, True),
        (["127.0.0.0/8"], True),
        (["10.0.0.0/8", "127.0.0.1/32"], True),
        (["10.0.0.0/8", "::1/128"], False),
    ],
)
@in_time
async def test_who_is_served(nursery: trio.Nursery, allow: list[str] | None, served: bool) -> None:
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    log = Log()
    async with proxy_before(port, log=log, listen={"allow": allow}) as running:
        client = await Client.connect(running)
        if served:
            await client.ping("served")
        else:
            for _ in range(3):
                other = await Client.connect(running)
                assert await other.receive() is None
                await other.close()
            [line] = log.lines("client rejected")
            assert line["reason"] == "not in listen.allow"
        rejected = counted(running, 'client_connections_rejected_total{reason="address"}')
        assert rejected == (0 if served else 4)
        await client.close()
    if not served:
        assert not any(seen.frames for seen in upstream.seen if b"served" in b"".join(seen.frames))
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("source", "served"), [("192.0.2.7", True), ("198.51.100.1", False), (None, True)]
)
@in_time
async def test_behind_a_balancer_the_own_address_counts(
    nursery: trio.Nursery, source: str | None, served: bool
) -> None:
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    log = Log()
    listen = {"allow": ["192.0.2.0/24"], "proxy_protocol": "require"}
    async with proxy_before(port, log=log, listen=listen) as running:
        client = await Client.connect(running)
        header = f"PROXY TCP4 {source} 192.0.2.1 4711 27017\r\n".encode()
        await client.send(header if source else LOCAL)
        if served:
            await client.ping("served")
        else:
            assert await client.receive() is None
            [line] = log.lines("client rejected")
            assert line["client"] == f"{source}:4711"
        await client.close()
    nursery.cancel_scope.cancel()


def test_addresses_are_bounded() -> None:
    class Told:
        def __init__(self) -> None:
            self.lines: list[dict[str, Any]] = []

        def probed(self) -> None:
            """Counted."""

        def info(self, _event: str, **what: Any) -> None:
            self.lines.append(what)

    told = Told()
    probes = Probes(told, told)  # type: ignore[arg-type]
    for number in range(3_000):
        probes.seen(f"10.0.{number // 250}.{number % 250}:1")
    probes.tell()
    probes.tell()
    [line] = told.lines
    assert line["connections"] == 3_000
    assert len(line["by_address"]) == 10
    assert line["by_address"]["others"] == 2_000
