"""The same over TLS on both legs: crowds, stalls and deaths."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trustme

from proxy.process.server import Running
from proxy.settings.limits import Limits
from tests.build import command
from tests.patience import until
from tests.running import Client, in_time, ping, port_of, proxied
from tests.upstreams import RecordingUpstream, Seen, answered, document, echo

LONG = bytes(3_000_000)


def special(seen: Seen, frame: bytes) -> list[bytes]:
    if document(frame).get("do") == "long":
        return [answered(frame, {"ok": 1.0, "long": LONG})]
    return list(echo(seen, frame))


class Secured:
    """A proxy with TLS towards clients and towards upstream."""

    def __init__(
        self, upstream: RecordingUpstream, running: Running, authority: trustme.CA
    ) -> None:
        self.upstream = upstream
        self.running = running
        self._context = ssl.create_default_context()
        authority.configure_trust(self._context)

    async def plain(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", port_of(self.running))

    async def connect(self) -> Client:
        stream = trio.SSLStream(
            await self.plain(), self._context, server_hostname="localhost", https_compatible=True
        )
        await stream.do_handshake()
        return Client(stream)


@contextlib.asynccontextmanager
async def secured(folder: Path, **limits: float) -> AsyncIterator[Secured]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    upstream = RecordingUpstream(special, context)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve)
        async with proxied(
            port,
            limits,
            listen={"address": "127.0.0.1:0", "tls": {"certificate": str(folder / "both.pem")}},
            upstream={"address": f"127.0.0.1:{port}", "tls": {"ca": str(folder / "ca.pem")}},
        ) as running:
            yield Secured(upstream, running, authority)
        nursery.cancel_scope.cancel()


@in_time
async def test_many_clients_get_their_own_answers(tmp_path):
    async def talk(number: int) -> None:
        client = await rig.connect()
        for turn in range(5):
            await client.ping(f"client {number} request {turn}", number)
        answer = await client.ask(command({"ping": 1, "do": "long", "$db": "admin"}, number))
        assert answer is not None
        assert document(answer)["long"] == LONG
        await client.close()

    async with secured(tmp_path) as rig, trio.open_nursery() as nursery:
        for number in range(1, 31):
            nursery.start_soon(talk, number)


@in_time
async def test_pipelined_requests_and_unacknowledged_writes(tmp_path):
    async with secured(tmp_path) as rig:
        client = await rig.connect()
        silent = ping("silent", flags=2)
        await client.send(silent + ping("one", 1) + silent + ping("two", 2) + silent)
        for mark in ("one", "two"):
            answer = await client.receive()
            assert answer is not None
            assert document(answer)["echo"] == mark
        await client.close()
        seen = rig.upstream.with_mark("two")
        await seen.ended.wait()
        assert len(seen.frames) == 5


@in_time
async def test_a_client_that_never_shakes_hands_or_is_no_tls_harms_nobody(tmp_path, clock):
    async with secured(tmp_path) as rig:
        good = await rig.connect()
        await good.ping("before")
        silent, plain = await rig.plain(), await rig.plain()
        await plain.send_all(ping("in clear"))
        with contextlib.suppress(trio.BrokenResourceError):
            while await plain.receive_some(1000):
                pass
        await until(lambda: sum(1 for _ in rig.running.server.connections()) == 2)
        clock.jump(Limits().handshake_seconds)
        for stream in (silent, plain):
            with contextlib.suppress(trio.BrokenResourceError):
                while await stream.receive_some(1000):
                    pass
            await stream.aclose()
        await good.ping("after")
        await good.close()


@pytest.mark.parametrize("point", ["idle", "in a request", "in a reply"])
@in_time
async def test_clients_die(tmp_path, point):
    async with secured(tmp_path) as rig:
        other = await rig.connect()
        client = await rig.connect()
        await client.ping("dies")
        if point == "in a request":
            await client.send(ping("never whole")[:20])
        elif point == "in a reply":
            await client.send(command({"ping": 1, "do": "long", "$db": "admin"}) * 5)
            await client.stream.receive_some(100)
        client.stream.transport_stream.socket.close()
        await rig.upstream.with_mark("dies").ended.wait()
        await other.ping("lives")
        await other.close()


@in_time
async def test_upstream_dies(tmp_path):
    async with secured(tmp_path) as rig:
        client, other = await rig.connect(), await rig.connect()
        await client.ping("loses its upstream")
        await other.ping("keeps it")
        rig.upstream.with_mark("loses its upstream").reset()
        assert await client.receive() is None
        await client.close()
        await other.ping("keeps it still")
        await other.close()


@in_time
async def test_a_slow_reader_waits_and_gets_everything(tmp_path):
    async with secured(tmp_path) as rig:
        slow, other = await rig.connect(), await rig.connect()
        await slow.send(command({"ping": 1, "do": "long", "mark": "slow", "$db": "admin"}) * 10)
        for turn in range(50):
            await other.ping(f"meanwhile {turn}")
        assert len((await rig.upstream.bringing("slow")).frames) < 10
        for _ in range(10):
            answer = await slow.receive()
            assert answer is not None
            assert document(answer)["long"] == LONG
        await slow.close()
        await other.close()
