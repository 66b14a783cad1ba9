"""Proxies that are their own upstream, by ways that no address tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from proxy import cli, logs
from proxy.errors import ConfigError
from proxy.process import starting
from proxy.process.server import Running
from proxy.settings.config import load
from tests.build import command
from tests.patience import until
from tests.ports import free_port
from tests.running import Client, in_time, ping
from tests.upstreams import RecordingUpstream, document

LOOP = "this proxy is its own upstream"


class Forwarder:
    """Somebody who passes on what comes to ``port``, as a balancer does."""

    port: int

    def __init__(self, leads_to: int) -> None:
        self.leads_to = leads_to

    async def serve(self, client: trio.SocketStream) -> None:
        try:
            behind = await trio.open_tcp_stream("127.0.0.1", self.leads_to)
        except OSError:
            return
        async with behind, trio.open_nursery() as nursery:
            nursery.start_soon(self._pump, client, behind)
            await self._pump(behind, client)
            nursery.cancel_scope.cancel()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
            await sink.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@asynccontextmanager
async def forwarding(leads_to: int) -> AsyncIterator[Forwarder]:
    forwarder = Forwarder(leads_to)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            partial(trio.serve_tcp, forwarder.serve, 0, host="127.0.0.1")
        )
        forwarder.port = listeners[0].socket.getsockname()[1]
        yield forwarder
        nursery.cancel_scope.cancel()


async def asked(running: Running | int, request_id: int = 1) -> dict[str, Any]:
    client = await Client.connect(running)
    hello = {"hello": 1, "client": {"driver": {"name": "x", "version": "1"}}, "$db": "admin"}
    answer = await client.ask(command(hello, request_id))
    assert answer is not None
    assert answer[8:12] == request_id.to_bytes(4, "little")
    assert await client.receive() is None
    await client.close()
    return document(answer)


@asynccontextmanager
async def in_front_of(
    upstream: int, port: int, workers: int = 1, **more: Any
) -> AsyncIterator[Running]:
    config = load(
        None,
        {
            "listen": {"address": f"127.0.0.1:{port}"},
            "upstream": {"address": f"127.0.0.1:{upstream}", **more},
            "admin": {"address": ""},
            "process": {"workers": workers},
        },
    )
    logs.configure("text", "critical" if workers > 1 else "error")
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(starting.serve, config))
        nursery.cancel_scope.cancel()


def refused(answer: dict[str, Any]) -> bool:
    return answer["ok"] == 0 and answer["code"] == 6 and answer["errmsg"].startswith(LOOP)


@pytest.mark.parametrize("hello", ["pass", "rewrite"])
@in_time
async def test_what_is_behind_a_forwarder_is_found_out(hello: str) -> None:
    port = free_port()
    async with (
        forwarding(port) as forwarder,
        in_front_of(forwarder.port, port, hello=hello) as running,
    ):
        assert refused(await asked(running, 7))
        await until(lambda: LOOP in running.server.ready()[1])
        # No chain grew anywhere: what may be open is the proxy's own asking.
        await until(lambda: running.server.about()["connections"] <= 1)


@pytest.mark.parametrize("hello", ["pass", "rewrite"])
@in_time
async def test_two_proxies_that_are_each_others_upstream(hello: str) -> None:
    one_port, other_port = free_port(), free_port()
    async with (
        in_front_of(other_port, one_port, hello=hello) as one,
        in_front_of(one_port, other_port, hello=hello) as other,
    ):
        for proxy in (one, other):
            assert refused(await asked(proxy))
        assert one.server.about()["connections"] + other.server.about()["connections"] < 10


@in_time
async def test_three_in_a_circle() -> None:
    first, second, third = free_port(), free_port(), free_port()
    async with (
        in_front_of(second, first, hello="pass") as one,
        in_front_of(third, second, hello="pass"),
        in_front_of(first, third, hello="pass"),
    ):
        assert refused(await asked(one))


@in_time
async def test_a_loop_that_comes_up_later_ends_with_an_error() -> None:
    """What the forwarder leads to becomes the proxy itself, and later upstream again."""
    port = free_port()
    upstream = RecordingUpstream()
    async with trio.open_nursery() as nursery:
        behind = await nursery.start(upstream.serve)
        async with (
            forwarding(behind) as forwarder,
            in_front_of(forwarder.port, port, hello="pass") as running,
        ):
            client = await Client.connect(running)
            await client.ping("before")
            forwarder.leads_to = port
            assert refused(await asked(running))
            assert refused(await asked(running))
            # Who was there before is not affected.
            await client.ping("meanwhile")
            forwarder.leads_to = behind
            answer = {"ok": 0.0}
            while answer["ok"] == 0:
                again = await Client.connect(running)
                answer = document(await again.ask(ping("again")) or b"")
                await again.close()
            await client.close()
        nursery.cancel_scope.cancel()


@in_time
async def test_a_loop_through_several_workers() -> None:
    port = free_port()
    async with (
        forwarding(port) as forwarder,
        in_front_of(forwarder.port, port, 2, hello="pass") as running,
    ):
        for number in range(4):
            assert refused(await asked(running, number))


@in_time
async def test_where_addresses_tell_the_proxy_does_not_start() -> None:
    port = free_port()
    with pytest.raises(ConfigError, match="is the proxy's own listener"):
        await starting.serve(
            load(
                None,
                {
                    "listen": {"address": f"0.0.0.0:{port}"},
                    "upstream": {"address": f"localhost:{port}"},
                },
            )
        )


def test_check_config_and_serve_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        f'[listen]\naddress = "{tmp_path}/a.sock"\n[upstream]\naddress = "{tmp_path}/a.sock"\n'
    )
    for arguments in (["check-config", str(file)], ["serve", "--config", str(file)]):
        assert cli.main(arguments) == 2
        assert "is the proxy's own listener (listen.address)" in capsys.readouterr().err
