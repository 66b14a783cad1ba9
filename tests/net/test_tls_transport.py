"""Byte streams behind TLS over real sockets."""

from __future__ import annotations

import contextlib
import gc
import socket
import ssl
import struct
import subprocess
import weakref
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
import trustme
from trio.testing import wait_all_tasks_blocked

from proxy.net import readiness
from proxy.net.gone import PeerGoneError
from proxy.net.tls_records import ENDED
from proxy.net.tls_transport import TlsTransport, start_tls
from tests.needs import need
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


# ------------------------------------------------------------------ in one loop with all others


@pytest.mark.parametrize("how", ["each", "receive"])
async def test_what_was_read_with_the_handshake_is_not_waited_for(
    server_context, client_context, how
):
    async with tls_pair(server_context, client_context) as (server, client):
        client.send_now(b"at once")
        await trio.lowlevel.wait_readable(server._sock)
        # As if it had come in the same read as the last of the handshake: the socket is silent.
        server._records.feed(server._sock.recv(1000))
        assert server.pending()
        if how == "receive":
            assert await server.receive() == b"at once"
        else:
            took: list[bytes] = []
            assert await server.each(took.append, lambda: False) is True
            assert took == [b"at once"]
        assert not server.pending()


async def test_what_came_with_the_end_is_settled_before_it(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        happened: list[object] = []
        # Everything in one write, and the connection stays open behind it.
        client._records._object.write(b"last words")
        client._records.say_goodbye()
        outcome = await server.each(happened.append, lambda: happened.append("settled") or True)
        assert (outcome, happened) == (False, [b"last words", "settled"])
        assert await server.each(happened.append, bool) is False
        assert await server.receive() == b""
        assert server.pending()


async def test_the_end_is_told_after_what_had_to_be_waited_for(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        took: list[bytes] = []
        client._records._object.write(b"last words")
        client._records.say_goodbye()
        assert await server.each(took.append, lambda: False) is True
        assert await server.each(took.append, lambda: False) is False
        assert took == [b"last words"]


async def test_what_is_wrong_is_told_after_what_came_before(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        took: list[bytes] = []
        client._records._object.write(b"good")
        client._sock.send(client._records._outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(PeerGoneError, match=r"(?i)bad record mac|decryption failed"):
            await server.each(took.append, lambda: True)
        assert took == [b"good"]
        # Its alert has told the peer why.
        with pytest.raises(PeerGoneError, match=r"(?i)alert"):
            await everything(client)


async def test_both_ends_say_goodbye(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        server.send_now(b"bye")
        server.close()
        assert await client.receive() == b"bye"
        assert await client.receive() == b""
        assert client._records.over == ENDED


class Turns(trio.abc.Instrument):
    """Counts how often trio looks at its sockets."""

    def __init__(self) -> None:
        self.looks = 0

    def before_io_wait(self, timeout: float) -> None:
        self.looks += 1


async def test_many_handshakes_take_turns_with_everybody_else(
    server_context, client_context, monkeypatch
):
    turns, shaken_at = Turns(), []

    class Noted(ssl.SSLObject):
        def do_handshake(self) -> None:
            shaken_at.append(turns.looks)
            super().do_handshake()

    for context in (server_context, client_context):
        monkeypatch.setattr(context, "sslobject_class", Noted)
    trio.lowlevel.add_instrument(turns)
    async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(stack.enter_async_context, tls_pair(server_context, client_context))
    trio.lowlevel.remove_instrument(turns)
    assert len(shaken_at) >= 40
    assert len(set(shaken_at)) == len(shaken_at)


async def test_handshakes_and_requests_do_not_wait_for_each_others_turns(
    server_context, client_context
):
    async with readiness.current().turn, tls_pair(server_context, client_context) as (server, _):
        assert not server.resumed


@pytest.mark.parametrize("key", [b"K\n", b"k\n"])
async def test_keys_are_changed(server_context, key):
    """``openssl s_client`` changes its keys, and with K wants the other side to."""
    openssl = need("openssl")

    async def until(text: bytes) -> None:
        heard = b""
        while text not in heard:
            heard += await process.stdout.receive_some()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        run = partial(
            trio.run_process,
            [openssl, "s_client", "-connect", where, "-tls1_3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        async with trio.open_nursery() as nursery:
            process = await nursery.start(run)
            await trio.lowlevel.wait_readable(listener)
            server = await start_tls(listener.accept()[0], server_context, server_side=True)
            for line in (b"one\n", b"two\n", b"three\n"):
                await process.stdin.send_all(line)
                assert await server.receive() == line
                await server.send(b"heard " + line)
                await until(b"heard " + line)
                await process.stdin.send_all(key)
                await until(b"KEYUPDATE")
            await process.stdin.send_all(b"Q\n")
            assert await server.receive() == b""
            server.close()


async def test_a_client_that_begins_anew_is_refused(authority):
    openssl = need("openssl")
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.options |= ssl.OP_NO_RENEGOTIATION
    authority.issue_cert("proxy.test").configure_cert(listening)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        command = [openssl, "s_client", "-connect", where, "-tls1_2"]
        async with trio.open_nursery() as nursery:
            process = await nursery.start(
                partial(
                    trio.run_process,
                    command,
                    stdin=subprocess.PIPE,
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                )
            )
            await trio.lowlevel.wait_readable(listener)
            server = await start_tls(listener.accept()[0], listening, server_side=True)
            await process.stdin.send_all(b"one\n")
            assert await server.receive() == b"one\n"
            await process.stdin.send_all(b"R\n")
            # It gives up; what it does not get is another handshake.
            with contextlib.suppress(PeerGoneError):
                assert await server.receive() == b""
            server.close()


async def test_a_connection_leaves_no_cycles(server_context, client_context):
    async with tls_pair(server_context, client_context) as (server, client):
        client.send_now(b"x")
        assert await server.receive() == b"x"
    gc.collect()
    gc.disable()
    try:
        async with tls_pair(server_context, client_context) as (server, client):
            client.send_now(b"x")
            assert await server.receive() == b"x"
            left = weakref.ref(server._records._object), weakref.ref(client._records._object)
        del server, client
        await wait_all_tasks_blocked()
        assert [found() for found in left] == [None, None]
    finally:
        gc.enable()
