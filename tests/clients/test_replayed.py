"""Recorded conversations through the proxy: every byte of both directions is compared."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from proxy.config import Config
from proxy.server import serve
from tests.replay import Exchange, Recording, ReplayUpstream, command, in_pieces, play_all

RECORDINGS = Recording.load_all()
#: Which user each recording logs in, as connectionStatus would tell it.
USERS = {"pymongo-mongos": ("root", "admin"), "go": None}


@pytest.fixture(params=RECORDINGS, ids=lambda recording: recording.name)
def recording(request):
    return request.param


@asynccontextmanager
async def between(recording: Recording, *, hello: str = "rewrite", hang_up: bool = False):
    """A replaying upstream with the proxy in front of it, and how to connect to the proxy."""
    user = USERS.get(recording.name, ("alice", "app"))
    upstream = ReplayUpstream(recording, users=[user] if user else [], hang_up=hang_up)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        settings = {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": f"127.0.0.1:{port}", "hello": hello},
            "admin": {"address": ""},
        }
        running = await nursery.start(serve, Config.model_validate(settings))
        proxy_port = int(running.addresses[0].rpartition(":")[2])

        async def connect():
            return await trio.open_tcp_stream("127.0.0.1", proxy_port)

        yield upstream, proxy_port, connect
        with trio.fail_after(10):
            for exchange in upstream.exchanges.values():
                await exchange.end.wait()
        nursery.cancel_scope.cancel()


def check(
    upstream: ReplayUpstream, seen: dict[int, Exchange], port: int, *, rewritten: bool = True
) -> None:
    for conn, exchange in upstream.exchanges.items():
        assert exchange.differences() == [], f"requests of connection {conn}"
    told = upstream.recording.moved(port) if rewritten else upstream.recording
    for conn, steps in told.connections.items():
        expected = [reply for step in steps for reply in step.replies]
        assert Exchange(expected, seen[conn].seen).differences() == [], f"replies of {conn}"
    logins = sum(
        command(step.request) == "saslStart"
        for steps in upstream.recording.connections.values()
        for step in steps
    )
    assert len(upstream.injected) == logins


@pytest.mark.parametrize(
    "how",
    [{}, {"pieces": in_pieces(17)}, {"pipelined": True}],
    ids=["whole", "split", "pipelined"],
)
async def test_every_byte_arrives_as_it_was_sent(recording, how):
    async with between(recording) as (upstream, port, connect):
        seen = await play_all(upstream.recording, connect, **how)
    check(upstream, seen, port)


async def test_hello_can_be_left_alone(recording):
    async with between(recording, hello="pass") as (upstream, port, connect):
        seen = await play_all(upstream.recording, connect)
    check(upstream, seen, port, rewritten=False)


async def test_an_upstream_that_hangs_up_is_passed_on_after_its_last_reply(recording):
    async with between(recording, hang_up=True) as (upstream, port, connect):
        seen = await play_all(upstream.recording, connect, await_end=True)
    check(upstream, seen, port)
    assert all(exchange.ended for exchange in seen.values())
