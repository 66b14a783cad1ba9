"""The proxy with TLS on both sides, and what one needs to break a conversation there."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio
import trustme

from proxy import logs
from proxy.process import server
from proxy.process.server import Running
from proxy.settings.config import load
from tests.end_to_end.tools import Certificates, Log, tls_client
from tests.running import Client, port_of
from tests.upstreams import RecordingUpstream

#: What happens to a connection instead of a handshake; False where that goes on all the same.
Spoiling = Callable[[trio.SocketStream], Awaitable[bool]]

LONG_AGO: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


class TlsUpstream(RecordingUpstream):
    """``context`` and ``spoils`` are for the next connections."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(tls=context)
        self.spoils: Spoiling | None = None

    def present(self, context: ssl.SSLContext) -> None:
        self._tls = context

    async def _handle(self, stream: trio.SocketStream) -> None:
        if self.spoils is not None and await self.spoils(stream):
            await trio.aclose_forcefully(stream)
            return
        # Busy is what a test sends on it.
        with contextlib.suppress(trio.BrokenResourceError, trio.BusyResourceError):
            await super()._handle(stream)
        await trio.aclose_forcefully(stream)


class Secure:
    """A proxy in front of `TlsUpstream`; clients may show a certificate and need not."""

    def __init__(self, folder: Path) -> None:
        self.known = Certificates(folder)
        self.certificate = self.known.issue("proxy")
        self.upstreams_own = self.known.issue("upstream")
        self.upstream = TlsUpstream(self.known.server(self.upstreams_own))
        self.log = Log()
        self.running: Running

    def expired(self, name: str) -> str:
        """A certificate that was fine long ago; its file's path."""
        path = self.known.folder / f"{name}.pem"
        leaf = self.known.authority.issue_cert(
            "127.0.0.1", "localhost", common_name=name, not_before=LONG_AGO, not_after=LONG_AGO
        )
        leaf.private_key_and_cert_chain_pem.write_to_path(path)
        return str(path)

    def put(self, pem: bytes) -> None:
        """What is to be read as the proxy's certificate from now on."""
        Path(self.certificate).write_bytes(pem)

    async def plain(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", port_of(self.running))

    async def connect(self) -> Client:
        return await tls_client(self.running, self.known.client())

    async def lost(self) -> Client:
        """A client that gets in, and finds nobody behind the proxy."""
        client = await self.connect()
        with contextlib.suppress(trio.BrokenResourceError):
            await client.send(b"\x15\0\0\0")
        return client


@contextlib.asynccontextmanager
async def secured(folder: Path, **limits: float) -> AsyncIterator[Secure]:
    """Clients wait long for what takes long, but for what a client still gets that has gone."""
    secure = Secure(folder)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(secure.upstream.serve)
        logs.configure("json", "info", secure.log)
        tables = {
            "listen": {
                "address": "127.0.0.1:0",
                "tls": {
                    "certificate": secure.certificate,
                    "ca": secure.known.ca,
                    "client_certificates": "optional",
                },
            },
            "upstream": {"address": f"127.0.0.1:{port}", "tls": {"ca": secure.known.ca}},
            "admin": {"address": ""},
            "limits": {"half_close_seconds": 0.5, "handshake_seconds": 3600.0, **limits},
        }
        config = load(None, tables)
        secure.running = await nursery.start(partial(server.serve, config, lambda: config))
        yield secure
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ half of a handshake


class Handshake:
    """A client's handshake, of which as much is sent as is wanted."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._received, self._made = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._made, server_hostname="localhost")

    def go_on(self, received: bytes = b"") -> bytes:
        """What a client says next."""
        self._received.write(received)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._made.read()


def farewell(stream: trio.SSLStream[trio.SocketStream]) -> bytes:
    """The bytes of a close_notify, which nobody has sent yet."""
    with contextlib.suppress(ssl.SSLError):
        stream._ssl_object.unwrap()  # type: ignore[attr-defined]
    return bytes(stream._outgoing.read())


def old_fashioned() -> ssl.SSLContext:
    """A client that speaks no TLS that is still in use."""
    context = ssl.create_default_context()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def distrustful() -> ssl.SSLContext:
    """A client that trusts somebody else."""
    context = ssl.create_default_context()
    trustme.CA().configure_trust(context)
    return context
