"""The proxy, running in this process in front of an upstream, and raw clients for it."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any

import trio

from proxy import logs
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import load
from proxy.wire.frames import FrameBuffer
from tests.build import command
from tests.patience import PATIENCE
from tests.upstreams import RecordingUpstream, document


def in_time(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """For tests: fail instead of hanging."""

    @wraps(test)
    async def limited(*args: Any, **kwargs: Any) -> None:
        with trio.fail_after(PATIENCE):
            await test(*args, **kwargs)

    return limited


@asynccontextmanager
async def proxied(
    upstream_port: int, limits: dict[str, Any] | None = None, **tables: Any
) -> AsyncIterator[Running]:
    """A proxy on a free port in front of 127.0.0.1:``upstream_port``."""
    config = load(
        None,
        {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": f"127.0.0.1:{upstream_port}"},
            "admin": {"address": ""},
            "limits": limits or {},
            **tables,
        },
    )
    logs.configure("text", "error")
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(server.serve, config))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def recording(
    limits: dict[str, Any] | None = None, **tables: Any
) -> AsyncIterator[tuple[RecordingUpstream, Running]]:
    """A proxy in front of a recording upstream."""
    upstream = RecordingUpstream()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        async with proxied(port, limits, **tables) as running:
            yield upstream, running
        nursery.cancel_scope.cancel()


def port_of(running: Running) -> int:
    return int(running.addresses[0].rpartition(":")[2])


class Client:
    """A raw client: whole frames or any bytes."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer()
        self._frames: list[bytes] = []

    @classmethod
    async def connect(cls, running: Running | int) -> Client:
        port = running if isinstance(running, int) else port_of(running)
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def receive(self) -> bytes | None:
        """The next frame; None when the other side closed or reset."""
        while not self._frames:
            try:
                chunk = await self.stream.receive_some(65_536)
            except trio.BrokenResourceError:
                return None
            if not chunk:
                return None
            self._frames = self._buffer.feed(bytes(chunk))
        return self._frames.pop(0)

    async def ask(self, frame: bytes) -> bytes | None:
        await self.send(frame)
        return await self.receive()

    async def ping(self, mark: Any, request_id: int = 1) -> None:
        """A marked request, whose answer has to be its own."""
        answer = await self.ask(ping(mark, request_id))
        assert answer is not None, "closed"
        assert answer[8:12] == request_id.to_bytes(4, "little", signed=True)
        assert document(answer) == {"ok": 1.0, "echo": mark}

    def reset(self) -> None:
        """Close so that the other side sees a reset."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    async def close(self) -> None:
        await trio.aclose_forcefully(self.stream)


def ping(mark: Any, request_id: int = 1, **how: Any) -> bytes:
    return command({"ping": 1, "mark": mark, "$db": "admin"}, request_id, **how)


class Bystanders:
    """Connections that play ping-pong while they are asked to, and must not notice anything."""

    def __init__(self, count: int) -> None:
        self._rounds = [0] * count
        self._turned = trio.Event()
        self._going = trio.Event()
        self._resting = 0

    async def play(self, connect: Callable[[], Awaitable[Client]], place: int) -> None:
        """One bystander, until cancelled; whatever it notices ends the test."""
        client = await connect()
        try:
            while True:
                self._resting += 1
                await self._going.wait()
                self._resting -= 1
                mark = f"bystander {place} round {self._rounds[place]}"
                await client.ping(mark, place + 1)
                self._rounds[place] += 1
                self._turned.set()
                self._turned = trio.Event()
        finally:
            await client.close()

    async def rest(self) -> None:
        """They have their last answers, and the proxy is done with them."""
        while self._resting < len(self._rounds):
            await self._turned.wait()
            await trio.lowlevel.checkpoint()
        for _ in range(20):
            await trio.lowlevel.checkpoint()

    async def go_on(self) -> None:
        """Every one of them has two more rounds, all of them right.

        The quick have begun another one by then: what the test does next meets them at work.
        """
        goal = [rounds + 2 for rounds in self._rounds]
        self._going.set()
        while any(now < then for now, then in zip(self._rounds, goal, strict=True)):
            await self._turned.wait()
        self._going = trio.Event()


@asynccontextmanager
async def bystanding(
    running: Running, count: int = 50, connect: Callable[[], Awaitable[Client]] | None = None
) -> AsyncIterator[Bystanders]:
    """``count`` bystanders around whatever happens inside; ``connect`` is how each gets in."""
    bystanders = Bystanders(count)
    connect = connect or partial(Client.connect, running)
    async with trio.open_nursery() as nursery:
        for place in range(count):
            nursery.start_soon(bystanders.play, connect, place)
        await bystanders.go_on()
        yield bystanders
        await bystanders.go_on()
        nursery.cancel_scope.cancel()
