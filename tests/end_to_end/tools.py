"""What the end-to-end tests share: the proxy with its log at hand, PyMongo in threads, TLS."""

from __future__ import annotations

import io
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pymongo
import trio
import trustme

from proxy import logs
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import load
from proxy.wire.frames import FrameBuffer
from tests.patience import PATIENCE
from tests.running import Client, port_of
from tests.upstreams import Answer, RecordingUpstream

T = TypeVar("T")


# ------------------------------------------------------------------ the proxy


class Log(io.StringIO):
    """What the proxy logs, as the lines of its JSON log."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = trio.Event()

    def write(self, text: str) -> int:
        self._changed.set()
        self._changed = trio.Event()
        return super().write(text)

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.getvalue().splitlines()]
        return [line for line in found if event in ("", line["event"])]

    async def line(self, event: str, **fields: Any) -> dict[str, Any]:
        """The first line with this event and these fields, as soon as there is one."""
        while True:
            for line in self.lines(event):
                if fields.items() <= line.items():
                    return line
            await self._changed.wait()

    async def reasons(self, count: int) -> list[str]:
        """Why connections ended, as soon as so many have."""
        while len(found := [line["reason"] for line in self.lines("client gone")]) < count:
            await self._changed.wait()
        return found


@asynccontextmanager
async def proxy_before(
    behind: str | int, /, *, log: Log | None = None, log_format: str = "json", **tables: Any
) -> AsyncIterator[Running]:
    """The proxy on a free port before an address, or a port of 127.0.0.1."""
    address = f"127.0.0.1:{behind}" if isinstance(behind, int) else behind
    settings: dict[str, Any] = {
        "listen": {"address": "127.0.0.1:0"},
        "upstream": {"address": address, "watch_seconds": 0.2},
        "admin": {"address": ""},
    }
    for name, table in tables.items():
        settings[name] = {**settings.get(name, {}), **table}
    if log is None:
        logs.configure("text", "error")
    else:
        logs.configure(log_format, "debug", log)
    config = load(None, settings)
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(server.serve, config))
        nursery.cancel_scope.cancel()


async def users_of(running: Running, count: int = 1) -> list[str]:
    """Whom the proxy shows on its connections, once there are so many."""
    while len(rows := list(running.server.connections())) < count:
        await trio.lowlevel.checkpoint()
    return [row.get("user", "") for row in rows]


# ------------------------------------------------------------------ PyMongo


class Driver:
    """A PyMongo client, whose work happens in threads."""

    def __init__(self, client: pymongo.MongoClient[dict[str, Any]]) -> None:
        self.client = client

    async def run(self, work: Callable[[pymongo.MongoClient[dict[str, Any]]], T]) -> T:
        return await trio.to_thread.run_sync(work, self.client, abandon_on_cancel=True)

    async def command(self, name: str, db: str = "admin", **more: Any) -> dict[str, Any]:
        return await self.run(lambda client: client[db].command(name, **more))


@asynccontextmanager
async def pymongo_at(where: Running | str, **options: Any) -> AsyncIterator[Driver]:
    """A PyMongo client of the proxy (or of a URI)."""
    uri = where if isinstance(where, str) else f"mongodb://{where.addresses[0]}/"
    options = {
        "serverSelectionTimeoutMS": PATIENCE * 1000,
        "heartbeatFrequencyMS": 500,
        # A busy machine makes no member too distant.
        "localThresholdMS": 60_000,
        **options,
    }
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri, **options)
    try:
        yield Driver(client)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(client.close)


# ------------------------------------------------------------------ TLS


class Certificates:
    """An authority that everybody trusts, one that nobody does, and whom they certified."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.stranger = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *identities: str, trusted: bool = True, file: str = "") -> str:
        """Certificate and key in one file, whose path is returned; ``name`` is the common name."""
        by = self.authority if trusted else self.stranger
        path = self.folder / f"{file or name}.pem"
        leaf = by.issue_cert(*(identities or ("127.0.0.1", "localhost")), common_name=name)
        leaf.private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)

    def server(self, certificate: str, asks: ssl.VerifyMode = ssl.CERT_NONE) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.load_verify_locations(self.ca)
        context.verify_mode = asks
        return context

    def client(self, certificate: str = "") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if certificate:
            context.load_cert_chain(certificate)
        return context


async def tls_client(
    where: Running | int, context: ssl.SSLContext, name: str = "127.0.0.1"
) -> Client:
    """A raw client behind TLS.

    Raises:
        trio.BrokenResourceError: the handshake failed.
    """
    port = where if isinstance(where, int) else port_of(where)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    tls = trio.SSLStream(stream, context, server_hostname=name, https_compatible=True)
    try:
        await tls.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return Client(tls)  # type: ignore[arg-type]


class TlsUpstream(RecordingUpstream):
    """A recording upstream behind TLS; ``context`` is for the next connection.

    ``names`` are what clients called it (SNI), one for each handshake that was begun.
    """

    def __init__(self, context: ssl.SSLContext, answer: Answer | None = None) -> None:
        super().__init__(answer)
        self.context = context
        self.names: list[str | None] = []
        self.refused = 0
        #: Accept, and say nothing.
        self.hangs = False
        self.hanging: list[trio.SocketStream] = []

    async def _handle(self, stream: trio.SocketStream) -> None:
        self.context.sni_callback = lambda _, name, __: self.names.append(name)
        tls = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        try:
            if self.hangs:
                self.hanging.append(stream)
                await trio.sleep_forever()
            await tls.do_handshake()
        except trio.BrokenResourceError:
            self.refused += 1
            await trio.aclose_forcefully(stream)
            return
        await super()._handle(tls)  # type: ignore[arg-type]


async def tls_before(
    port: int,
    context: ssl.SSLContext,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Terminate TLS for a server that has none; ``task_status`` gives the port."""

    async def pump(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        async for chunk in source:
            await sink.send_all(chunk)

    async def handle(stream: trio.SocketStream) -> None:
        outer = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        inner = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pump, outer, inner)
                await pump(inner, outer)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            inner.socket.close()
            stream.socket.close()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, handle, listeners))
        task_status.started(listeners[0].socket.getsockname()[1])


# ------------------------------------------------------------------ what passes by


class Tap:
    """Passes bytes on to ``port`` of this machine and keeps them: all that one side sent."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.requests: list[bytes] = []
        self.replies: list[bytes] = []

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen on a free port until cancelled; ``task_status`` gives the port."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._handle, listeners))
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _handle(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._port)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, client, server, self.requests)
                await self._pass(server, client, self.replies)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            server.socket.close()
            client.socket.close()

    async def _pass(
        self, source: trio.SocketStream, sink: trio.SocketStream, frames: list[bytes]
    ) -> None:
        buffer = FrameBuffer()
        async for chunk in source:
            frames += buffer.feed(bytes(chunk))
            await sink.send_all(chunk)
        await sink.send_eof()
