"""Behind a balancer that sends PROXY headers, and in front of whoever speaks something else."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from proxy.addresses import Address
from proxy.net.proxied import Senders
from proxy.process.arrival import Arrival
from proxy.settings.listen import Listen
from proxy.wire.proxy_header import LOCAL_HEADER, header_for
from tests.end_to_end.tools import Certificates, Log, proxy_before
from tests.patience import until
from tests.running import Client, in_time, ping, port_of
from tests.upstreams import RecordingUpstream

CLIENT = Address("192.0.2.7", 50_001)
BINARY = header_for(CLIENT, Address("198.51.100.9", 27_017))
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.9 50001 27017\r\n"


@asynccontextmanager
async def behind_balancer(
    mode: str = "require", log: Log | None = None, **listen: Any
) -> AsyncIterator[tuple[RecordingUpstream, Any]]:
    upstream = RecordingUpstream()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        tables = {"listen": {"proxy_protocol": mode, **listen}}
        async with proxy_before(port, log=log or Log(), **tables) as running:
            yield upstream, running
        nursery.cancel_scope.cancel()


async def refused(running: Any, says: bytes) -> None:
    """A client that says this gets no answer."""
    client = await Client.connect(running)
    assert await client.ask(says) is None
    await client.close()


def shown(running: Any) -> list[str]:
    return [row["client"] for row in running.server.connections()]


def counted(running: Any) -> dict[str, float]:
    """What is counted of other protocols, by "side protocol"."""
    found = {}
    for line in running.server.telemetry.page()[1].decode().splitlines():
        if line.startswith("mongo_session_proxy_wrong_protocol_total{"):
            labels, _, value = line.partition("{")[2].rpartition("} ")
            parts = dict(part.split("=") for part in labels.replace('"', "").split(","))
            if float(value):
                found[f"{parts['side']} {parts['protocol']}"] = float(value)
    return found


@pytest.mark.parametrize("mode", ["accept", "require"])
@pytest.mark.parametrize("header", [BINARY, LINE], ids=["2", "1"])
@in_time
async def test_the_client_in_the_header_is_the_client(mode: str, header: bytes) -> None:
    log = Log()
    async with behind_balancer(mode, log) as (_, running):
        at_once, in_pieces = await Client.connect(running), await Client.connect(running)
        await at_once.send(header + ping("one"))
        assert await at_once.receive()
        for byte in header:
            await in_pieces.send(bytes((byte,)))
        await in_pieces.ping("two")
        assert shown(running) == [str(CLIENT)] * 2
        await at_once.close()
        await in_pieces.close()
        await log.reasons(2)
        assert {line["client"] for line in log.lines("client connected")} == {str(CLIENT)}


@in_time
async def test_without_a_header_the_socket_says_who_it_is_unless_one_is_required() -> None:
    async with behind_balancer("accept") as (_, running):
        client = await Client.connect(running)
        await client.ping("one")
        assert shown(running)[0].startswith("127.0.0.1:")
        await client.close()
    log = Log()
    async with behind_balancer("require", log) as (upstream, running):
        await refused(running, ping("one"))
        (reason,) = await log.reasons(1)
        assert reason == "client PROXY header: none, where one is required: this is MongoDB"
        line = await log.line("wrong protocol", side="client", protocol="MongoDB")
        assert line["client"].startswith("127.0.0.1:")
        assert counted(running) == {"client MongoDB": 1}
        assert not any(b"mark" in frame for seen in upstream.seen for frame in seen.frames)


@pytest.mark.parametrize("header", [LOCAL_HEADER, b"PROXY UNKNOWN\r\n", header_for(None, None)])
@in_time
async def test_a_header_without_addresses_leaves_the_sockets(header: bytes) -> None:
    async with behind_balancer() as (_, running):
        client = await Client.connect(running)
        await client.send(header)
        await client.ping("one")
        assert shown(running)[0].startswith("127.0.0.1:")
        await client.close()


@pytest.mark.parametrize("mode", ["accept", "require"])
@in_time
async def test_a_header_from_elsewhere_is_refused_and_named(mode: str) -> None:
    log = Log()
    listen = {"proxy_protocol_from": ["203.0.113.0/24", "2001:db8::/32"]}
    async with behind_balancer(mode, log, **listen) as (_, running):
        await refused(running, LINE + ping("one"))
        (reason,) = await log.reasons(1)
        assert reason.startswith("client PROXY header: one that is not taken: 127.0.0.1:")
        assert reason.endswith("is not in listen.proxy_protocol_from")
        assert counted(running) == {"client PROXY protocol": 1}


@in_time
async def test_a_broken_header_is_refused_and_named() -> None:
    log = Log()
    async with behind_balancer("accept", log) as (_, running):
        await refused(running, b"PROXY TCP4 nobody nowhere 1 2\r\n")
        assert await log.reasons(1) == [
            "client PROXY header: an address that is none of its family"
        ]
        line = await log.line("wrong protocol")
        assert (line["level"], line["protocol"]) == ("warning", "PROXY protocol")


@pytest.mark.parametrize("begun", [b"", b"\r", BINARY[:20], LINE[:9], BINARY])
async def test_a_header_has_no_more_time_than_the_first_message(
    begun: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(begun)
    arrival = Arrival(ours, "127.0.0.1:1", None)
    with trio.move_on_after(30) as scope:
        await arrival.receive(Senders(Listen(proxy_protocol="require")), None)
    assert (arrival.client is None) == scope.cancelled_caught == (begun != BINARY)
    ours.close()
    theirs.close()


@in_time
async def test_who_sends_half_a_header_is_cut_in_time() -> None:
    log = Log()
    upstream = RecordingUpstream()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        tables = {"listen": {"proxy_protocol": "accept"}, "limits": {"handshake_seconds": 0.05}}
        async with proxy_before(port, log=log, **tables) as running:
            await refused(running, LINE[:9])
            assert await log.reasons(1) == ["handshake timeout"]
        nursery.cancel_scope.cancel()


@in_time
async def test_balancers_that_look_whether_somebody_is_there_are_no_news() -> None:
    log = Log()
    async with behind_balancer("accept", log) as (_, running):
        for said in (None, b"", LOCAL_HEADER, b"PROXY UNKNOWN\r\n"):
            for reset in (False, True):
                client = await Client.connect(running)
                itself = Address(*client.stream.socket.getsockname())
                await client.send(header_for(itself, itself) if said is None else said)
                client.reset() if reset else await client.close()
        await log.reasons(8)
        about = [line for line in log.lines() if line["event"].startswith("client ")]
        assert {line["level"] for line in about} == {"debug"}
        assert not log.lines("wrong protocol")
        client = await Client.connect(running)
        await client.send(BINARY)
        await client.close()
        await log.line("client gone", level="info")


@in_time
async def test_the_header_stands_in_front_of_tls(certificates: Certificates) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    log = Log()
    tls = {"certificate": certificates.issue("proxy")}
    async with behind_balancer("require", log, tls=tls) as (_, running):
        stream = await trio.open_tcp_stream("127.0.0.1", port_of(running))
        await stream.send_all(BINARY)
        secure = trio.SSLStream(stream, context, server_hostname="127.0.0.1")
        await secure.send_all(ping("one"))
        assert await secure.receive_some()
        assert shown(running) == [str(CLIENT)]
        await trio.aclose_forcefully(stream)
        without = await trio.open_tcp_stream("127.0.0.1", port_of(running))
        hello = ssl.MemoryBIO()
        out = ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            context.wrap_bio(hello, out, server_hostname="127.0.0.1").do_handshake()
        await without.send_all(out.read())
        await until(lambda: counted(running))
        assert counted(running) == {"client TLS": 1}
        await trio.aclose_forcefully(without)
        # With the header and the hello in one piece.
        await refused(running, BINARY + ping("two"))
        assert counted(running) == {"client TLS": 1, "client MongoDB": 1}
        (line,) = log.lines("wrong protocol")
        assert line["problem"].startswith("PROXY header: none")


@in_time
async def test_on_a_unix_socket_the_header_says_who_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "proxy.sock")
    listen = {"address": path, "proxy_protocol_from": []}
    async with behind_balancer("require", **listen) as (_, running):
        client = Client(await trio.open_unix_socket(path))
        await client.send(BINARY)
        await client.ping("one")
        assert shown(running) == [str(CLIENT)]
        await client.close()


# ------------------------------------------------------------------ other protocols


@pytest.mark.parametrize(
    ("says", "protocol", "problem"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP", "message length 542393671"),
        (b"POST / HTTP/1.1\r\n\r\n", "HTTP", "message length 1414745936"),
        (LINE, "PROXY protocol", "message length 1481593424"),
        (BINARY, "PROXY protocol", "message length 168626701"),
        (b"*1\r\n$4\r\nPING\r\n", "Redis", "message length 168636714"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH", "message length 759714643"),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", "PostgreSQL", "message length 134217728"),
        (bytes.fromhex("16030102000100"), "TLS", "message length 33620758"),
    ],
)
@in_time
async def test_a_client_that_speaks_something_else_is_named(
    says: bytes, protocol: str, problem: str
) -> None:
    log = Log()
    async with behind_balancer("off", log) as (_, running):
        client = await Client.connect(running)
        await client.send(says)
        line = await log.line("wrong protocol")
        assert (line["side"], line["protocol"], line["level"]) == ("client", protocol, "warning")
        assert line["problem"] == f"{problem} is out of range: this is {protocol}"
        assert line["client"].startswith("127.0.0.1:")
        await log.reasons(1)
        assert counted(running) == {f"client {protocol}": 1}
        await client.close()


@in_time
async def test_a_plain_client_of_a_listener_with_tls_is_named(certificates: Certificates) -> None:
    log = Log()
    tls = {"certificate": certificates.issue("proxy")}
    async with behind_balancer("off", log, tls=tls) as (_, running):
        client = await Client.connect(running)
        await client.send(ping("one"))
        line = await log.line("wrong protocol", side="client", protocol="MongoDB")
        assert line["problem"].endswith("what came is no TLS: this is MongoDB")
        await client.close()


UPSTREAMS = {
    "HTTP": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "message length 1347703880"),
    "TLS": (bytes.fromhex("15030100020246"), "this is TLS"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "message length 759714643"),
    "MySQL": (b"\x4a\0\0\0\x0a8.0.36\0" + bytes(66), "this is MySQL"),
    "nothing": (b"", "without an answer"),
}


@pytest.mark.parametrize("protocol", UPSTREAMS)
@in_time
async def test_an_upstream_that_speaks_something_else_is_named(protocol: str) -> None:
    answer, problem = UPSTREAMS[protocol]
    log = Log()

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        async with proxy_before(port, log=log, upstream={"hello": "pass"}) as running:
            await refused(running, ping("one"))
            line = await log.line("wrong protocol")
            assert (line["side"], line["protocol"]) == ("upstream", protocol)
            assert problem in line["problem"]
            assert line["upstream"] == f"127.0.0.1:{port}"
            assert counted(running) == {f"upstream {protocol}": 1}
            # The one that asks for its hello says it too.
            line = await log.line("member")
            assert line["problem"]
        nursery.cancel_scope.cancel()
