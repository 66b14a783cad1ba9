"""Uniquely marked requests, a part of them cancelled at random moments, over every kind of path.

    .venv/bin/python -m tests.endurance.marked --requests 1000000

No answer may be crossed, lost or given twice. A cancelled request is one whose client goes away
before it has read the answer: such a request may reach upstream or not, but never twice.
"""

from __future__ import annotations

import argparse
import itertools
import random
import ssl
import struct
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import bson
import trio
import trustme

from proxy.wire.compression import deflate
from proxy.wire.frames import FrameBuffer
from tests.build import command
from tests.running import Client, port_of, proxied
from tests.upstreams import HELLO, Seen, answered, document, echo

#: Of ten requests, one is cancelled.
CANCELLED: Final = 0.1
ZLIB: Final = 2

_mark_at = struct.Struct("<i")


@dataclass(frozen=True)
class Way:
    """What lies between a client and upstream."""

    tls: bool
    compression: bool
    tracking: bool

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {'on' if on else 'off'}"
            for name, on in (
                ("TLS", self.tls),
                ("compression", self.compression),
                ("tracking", self.tracking),
            )
        )


WAYS: Final = [Way(*on) for on in itertools.product((False, True), repeat=3)]


@dataclass
class Figures:
    """What became of the requests."""

    sent: int = 0
    answered: int = 0
    cancelled: int = 0
    connections: int = 0
    #: What must not be: crossed, lost or doubled answers, doubled requests.
    wrong: list[str] = field(default_factory=list)


class Upstream:
    """Answers every request with its mark, and notices marks that come again."""

    def __init__(self, figures: Figures, tls: ssl.SSLContext | None) -> None:
        self._figures = figures
        self._tls = tls
        self._seen = bytearray()

    def _note(self, mark: int) -> None:
        place, bit = divmod(mark, 8)
        if place >= len(self._seen):
            self._seen.extend(bytes(place - len(self._seen) + 4096))
        if self._seen[place] >> bit & 1:
            self._figures.wrong.append(f"upstream got request {mark} twice")
        self._seen[place] |= 1 << bit

    async def serve(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(self._handle, listeners)

    async def _handle(self, plain: trio.SocketStream) -> None:
        stream: Any = plain
        if self._tls is not None:
            stream = trio.SSLStream(plain, self._tls, server_side=True, https_compatible=True)
        buffer = FrameBuffer()
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for chunk in stream:
                for frame in buffer.feed(bytes(chunk)):
                    mark = document(frame).get("mark")
                    if mark is not None:
                        self._note(mark)
                    await stream.send_all(b"".join(_answers(frame)))
        await trio.aclose_forcefully(stream)


def _answers(frame: bytes) -> Sequence[bytes]:
    if next(iter(document(frame)), "") == "hello":
        return (answered(frame, {**HELLO, "compression": ["zlib"]}),)
    return echo(Seen(None), frame) or ()  # type: ignore[arg-type]


@asynccontextmanager
async def between(way: Way, figures: Figures, folder: Path) -> AsyncIterator[Any]:
    """A proxy on such a path; gives what opens a connection to it."""
    tables: dict[str, Any] = {"sessions": {"tracking": way.tracking}}
    server = client = None
    if way.tls:
        authority = trustme.CA()
        both, ca = folder / "both.pem", folder / "ca.pem"
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(both)
        authority.cert_pem.write_to_path(ca)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(server)
        client = ssl.create_default_context(cafile=ca)
        tables["listen"] = {"address": "127.0.0.1:0", "tls": {"certificate": str(both)}}
    async with trio.open_nursery() as nursery:
        port = await nursery.start(Upstream(figures, server).serve)
        if way.tls:
            behind = {"address": f"127.0.0.1:{port}", "tls": {"ca": str(folder / "ca.pem")}}
            tables["upstream"] = behind
        async with proxied(port, **tables) as running:

            async def connect() -> Client:
                figures.connections += 1
                plain = await trio.open_tcp_stream("127.0.0.1", port_of(running))
                if client is None:
                    return Client(plain)
                tls = trio.SSLStream(
                    plain, client, server_hostname="127.0.0.1", https_compatible=True
                )
                return Client(tls)  # type: ignore[arg-type]

            yield connect
            # It takes the proxy a moment to see that the last ones went.
            while any(True for _ in running.server.connections()):
                await trio.lowlevel.checkpoint()
            if running.server.common.budget.used:
                figures.wrong.append("bytes are counted that nobody holds")
        nursery.cancel_scope.cancel()


def request(mark: int, way: Way, chance: random.Random) -> bytes:
    """One marked request of a size of its own, in a session of its own or in none."""
    asked: dict[str, Any] = {"ping": 1, "mark": mark, "$db": "admin"}
    if chance.random() < 0.1:
        asked["b"] = bytes(chance.randrange(2_000))
    if chance.random() < 0.5:
        asked["lsid"] = {"id": bson.Binary(chance.randbytes(16), 4)}
    frame = command(asked, mark & 0x7FFFFFFF)
    return deflate(frame, ZLIB) if way.compression else frame


async def talk(
    connect: Any, way: Way, marks: range, figures: Figures, chance: random.Random
) -> None:
    """Send these marks in bursts, and go away in the midst of one of ten requests."""
    client: Client | None = None
    waiting = list(marks)
    while waiting:
        if client is None:
            client = await connect()
            if way.compression:
                await negotiate(client)
        burst = [waiting.pop() for _ in range(min(len(waiting), chance.randrange(1, 40)))]
        figures.sent += len(burst)
        # A tenth of all requests, in runs at the ends of bursts: a client that goes away takes
        # with it all that it still waits for.
        doomed = round(len(burst) * chance.random() * 0.4) if chance.random() < 0.5 else 0
        data = b"".join(request(mark, way, chance) for mark in burst)
        if doomed and chance.random() < 0.3:
            data = data[: -chance.randrange(1, 20)]
        await client.send(data)
        for mark in burst[: len(burst) - doomed]:
            answer = await client.receive()
            if answer is None:
                figures.wrong.append(f"request {mark} got no answer")
                break
            if document(answer).get("echo") != mark or _mark_at.unpack_from(answer, 8)[0] != mark:
                figures.wrong.append(f"request {mark} got {document(answer)}")
            figures.answered += 1
        if doomed:
            figures.cancelled += doomed
            client.reset() if not way.tls and chance.random() < 0.5 else await client.close()
            client = None
    if client is not None:
        with trio.move_on_after(0.01):
            if await client.receive() is not None:
                figures.wrong.append("an answer that nobody waited for")
        await client.close()


async def negotiate(client: Client) -> None:
    """Agree on zlib, as a driver does in its first message."""
    hello = command({"hello": 1, "compression": ["zlib"], "$db": "admin"})
    if await client.ask(hello) is None:
        raise AssertionError("no hello")


async def run(way: Way, requests: int, clients: int, seed: int) -> Figures:
    """So many requests over one kind of path, by so many clients at one time."""
    figures = Figures()
    each = -(-requests // clients)
    with tempfile.TemporaryDirectory() as folder:
        async with between(way, figures, Path(folder)) as connect, trio.open_nursery() as nursery:
            for number in range(clients):
                marks = range(1 + number * each, 1 + min((number + 1) * each, requests))
                chance = random.Random(f"{seed} {way} {number}")
                nursery.start_soon(talk, connect, way, marks, figures, chance)
    return figures


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="in all")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(words)
    wrong = 0
    for way in WAYS:
        begun = time.monotonic()
        figures = trio.run(partial(run, way, given.requests // 8, given.clients, given.seed))
        wrong += len(figures.wrong)
        print(
            f"{way}: {figures.sent} sent, {figures.answered} answered, {figures.cancelled}"
            f" cancelled, {figures.connections} connections, {len(figures.wrong)} wrong,"
            f" {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        for line in figures.wrong[:10]:
            print("   ", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
