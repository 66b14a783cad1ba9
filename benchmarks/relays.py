"""The relays that look at nothing, which the proxy is compared with.

``python -m benchmarks.relays streams|sockets|bare PORT UPSTREAM_PORT``
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable

import trio

_SIZE = 65_536


async def streams(client: trio.SocketStream, port: int) -> None:
    """Two pumps over trio's stream layer: what one writes first."""
    upstream = await trio.open_tcp_stream("127.0.0.1", port)

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        async for data in source:
            await sink.send_all(data)
        nursery.cancel_scope.cancel()

    async with client, upstream, trio.open_nursery() as nursery:
        nursery.start_soon(pump, client, upstream)
        nursery.start_soon(pump, upstream, client)


async def sockets(client: trio.SocketStream, port: int) -> None:
    """Two pumps over trio's sockets, without the stream layer."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)

    async def pump(source: trio.socket.SocketType, sink: trio.socket.SocketType) -> None:
        while data := await source.recv(_SIZE):
            sent = await sink.send(data)
            while sent < len(data):
                sent += await sink.send(memoryview(data)[sent:])
        nursery.cancel_scope.cancel()

    with client.socket as near, stream.socket as far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, near, far)
            nursery.start_soon(pump, far, near)


async def bare(client: trio.SocketStream, port: int) -> None:
    """Two pumps over the standard library's sockets: the least that trio can do.

    One wait and one read, and a write that is tried at once, so that a relayed message has one
    checkpoint where trio's own sockets have two.
    """
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    near = socket.socket(fileno=client.socket.detach())
    far = socket.socket(fileno=stream.socket.detach())

    async def pump(source: socket.socket, sink: socket.socket) -> None:
        while True:
            await trio.lowlevel.wait_readable(source)
            data = source.recv(_SIZE)
            if not data:
                break
            try:
                sent = sink.send(data)
            except BlockingIOError:
                sent = 0
            while sent < len(data):
                await trio.lowlevel.wait_writable(sink)
                sent += sink.send(memoryview(data)[sent:])
        nursery.cancel_scope.cancel()

    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, near, far)
            nursery.start_soon(pump, far, near)


async def _serve(
    relay: Callable[[trio.SocketStream, int], Awaitable[None]], port: int, upstream: int
) -> None:
    async def handle(client: trio.SocketStream) -> None:
        try:
            await relay(client, upstream)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the load closes its connections as it likes

    await trio.serve_tcp(handle, port, host="127.0.0.1", backlog=4096)


if __name__ == "__main__":
    _kind, _port, _upstream = sys.argv[1:]
    _relays = {"streams": streams, "sockets": sockets, "bare": bare}
    trio.run(_serve, _relays[_kind], int(_port), int(_upstream))
