"""Byte streams behind TLS over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from proxy.net.tls_transport import TlsTransport, start_tls
from proxy.net.transport import PeerGoneError
from tests.net.test_transport import everything, tcp_pair


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_context(authority) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("proxy.test").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@pytest.fixture(scope="module")
def client_context(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def tls_pair(
    server: ssl.SSLContext, client: ssl.SSLContext
) -> AsyncIterator[tuple[TlsTransport, TlsTransport]]:
    with tcp_pair() as (one, other):
        ends: dict[str, TlsTransport] = {}

        async def handshake(name: str, sock: socket.socket, context: ssl.SSLContext) -> None:
            ends[name] = await start_tls(
                sock,
                context,
                server_side=name == "server",
                server_name="proxy.test" if name == "client" else "",
            )

        # The transports own the descriptors from now on.
        one, other = socket.socket(fileno=one.detach()), socket.socket(fileno=other.detach())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handshake, "server", other, server)
            nursery.start_soon(handshake, "client", one, client)
        try:
            yield ends["server"], ends["client"]
        finally:
            ends["server"].close()
            ends["client"].close()


async def test_tls_carries_bytes_and_their_end(server_context, client_context, nursery):
    async with tls_pair(server_context, client_context) as (server, client):
        data = bytes(range(256)) * 4_000
        nursery.start_soon(client.send, data)
        got = b""
        while len(got) < len(data):
            got += await server.receive()
        assert got == data
        client.send_eof()
        await server.send(b"a reply all the same")
        assert await client.receive() == b"a reply all the same"
        # TLS has no half-close. Python 3.11.2 still sends to who has ended so, 3.11.7 does not:
        # what is not refused has to arrive.
        assert await server.receive() == b""
        try:
            await server.send(b"too late")
        except PeerGoneError:
            return
        assert await client.receive() == b"too late"


async def test_tls_sends_and_receives_at_once(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        data = bytes(2_000_000)
        received = []

        async def take(end: TlsTransport) -> None:
            got = 0
            while got < len(data):
                got += len(await end.receive())
            received.append(got)

        async with trio.open_nursery() as nursery:
            for end in (server, client):
                nursery.start_soon(end.send, data)
                nursery.start_soon(take, end)
        assert received == [len(data)] * 2


async def test_tls_shows_the_peers_certificate(authority, server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        assert server.peer_certificate() is None
        assert client.peer_certificate()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("client@proxy.test").configure_cert(context)
    async with tls_pair(server_context, context) as (server, client):
        await client.send(b"x")
        assert await server.receive() == b"x"
        certificate = server.peer_certificate()
        assert certificate is not None
        assert b"client@proxy.test" in certificate


async def test_a_handshake_with_somebody_else_fails_and_closes(server_context):
    with tcp_pair() as (one, other):
        one = socket.socket(fileno=one.detach())
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(PeerGoneError, match="TLS handshake"):
            await start_tls(one, server_context, server_side=True)
        while other.recv(1000):  # an alert, then the end
            pass


async def test_an_untrusted_certificate_is_told(server_context):
    stranger = ssl.create_default_context()
    with tcp_pair() as (one, other):
        one, other = socket.socket(fileno=one.detach()), socket.socket(fileno=other.detach())
        problems = []

        async def serve() -> None:
            try:
                await start_tls(other, server_context, server_side=True)
            except PeerGoneError as error:
                problems.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with pytest.raises(PeerGoneError, match="CERTIFICATE_VERIFY_FAILED"):
                await start_tls(one, stranger, server_side=False, server_name="proxy.test")
        assert len(problems) == 1


@pytest.mark.parametrize("name", [".x", "x" * 300, "a\0b", "\u2603"])
async def test_a_name_that_no_certificate_can_have_is_nobody(name):
    with tcp_pair() as (one, other):
        one = socket.socket(fileno=one.detach())
        with pytest.raises(PeerGoneError, match="is no server's name"):
            await start_tls(one, ssl.create_default_context(), server_side=False, server_name=name)
        assert other.recv(10) == b""


async def test_a_handshake_that_is_given_up_closes_the_socket(server_context, autojump_clock):
    with tcp_pair() as (one, other):
        one = socket.socket(fileno=one.detach())
        with trio.move_on_after(10) as scope:
            await start_tls(one, server_context, server_side=True)
        assert scope.cancelled_caught
        assert other.recv(10) == b""


@pytest.mark.parametrize("doing", ["receive", "send"])
async def test_closing_tls_wakes_who_waits(server_context, client_context, doing):
    async with tls_pair(server_context, client_context) as (server, _):
        problems = []

        async def work() -> None:
            try:
                await (server.receive() if doing == "receive" else server.send(bytes(20_000_000)))
            except PeerGoneError as error:
                problems.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await wait_all_tasks_blocked()
            server.close()
            server.close()
        assert len(problems) == 1


async def test_a_peer_that_closes_without_saying_so_in_tls(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        await client.send(b"last words")
        client.close()
        assert await everything(server) == b"last words"


async def test_a_peer_that_resets_tls(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        sock = client._sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(PeerGoneError):
            await everything(server)
