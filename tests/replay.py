"""An upstream and a client that replay a recorded conversation, byte for byte.

A recording is one file of ``tests/data/streams``: JSON lines
``{"conn": n, "way": "request" | "reply", "frame": base64 of one whole message}``, and
``"end": true`` where a side closed. `ReplayUpstream` answers the recorded replies to the recorded
requests, `play` sends the recorded requests of one connection and collects the replies. Put a
proxy between the two and compare what each saw with what was recorded (`Exchange.differences`).

The upstream answers by itself what a proxy may ask: ``connectionStatus`` with ``showPrivileges``
inside a recorded connection (kept in `ReplayUpstream.injected`), and hello, ping and the like on
connections that the recording does not know (`ReplayUpstream.strangers`).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import bson
import trio

from proxy.wire.compression import inflate
from proxy.wire.frames import FrameBuffer
from proxy.wire.opcodes import HEADER, HEADER_SIZE, INT32, OP_COMPRESSED, OP_MSG, OP_QUERY, OP_REPLY

STREAMS = Path(__file__).parent / "data" / "streams"

_HELLO = frozenset({"hello", "isMaster", "ismaster"})


@dataclass(slots=True)
class Step:
    """One recorded request and the replies it got: none (moreToCome), one, or a whole stream."""

    request: bytes
    replies: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Recording:
    """The connections of one file by their number, each a list of steps in order."""

    name: str
    connections: dict[int, list[Step]]
    #: Where the recorded server listened, as its hello replies name it.
    address: bytes = b"127.0.0.1:27120"

    @classmethod
    def load(cls, path: Path) -> Recording:
        """Read a file; a reply belongs to the request or reply that its responseTo names."""
        requests: dict[int, list[bytes]] = {}
        replies: dict[int, list[bytes]] = {}
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if "frame" in record:
                side = requests if record["way"] == "request" else replies
                side.setdefault(record["conn"], []).append(base64.b64decode(record["frame"]))
        connections = {}
        for conn, frames in requests.items():
            steps = [Step(frame) for frame in frames]
            by_id = {request_id(step.request): step for step in steps}
            for reply in replies[conn]:
                step = by_id[HEADER.unpack_from(reply)[2]]
                step.replies.append(reply)
                by_id[request_id(reply)] = step
            connections[conn] = steps
        return cls(path.stem, connections)

    def moved(self, port: int) -> Recording:
        """The same recording as if its server had listened on ``port`` (of five digits).

        Only hello replies name the server's own address.
        """
        new = b"127.0.0.1:%05d" % port
        connections = {
            conn: [
                Step(
                    step.request,
                    [reply.replace(self.address, new) for reply in step.replies]
                    if is_hello(step.request)
                    else step.replies,
                )
                for step in steps
            ]
            for conn, steps in self.connections.items()
        }
        return Recording(self.name, connections, new)

    @classmethod
    def load_all(cls) -> list[Recording]:
        return [cls.load(path) for path in sorted(STREAMS.glob("*.jsonl"))]


def request_id(frame: bytes) -> int:
    return int(HEADER.unpack_from(frame)[1])


def plain(frame: bytes) -> bytes:
    """``frame`` without compression."""
    return inflate(frame) if HEADER.unpack_from(frame)[3] == OP_COMPRESSED else frame


def document(frame: bytes) -> dict[str, Any]:
    """The command of a request, or the (first) document of a reply; document sequences left out."""
    frame = plain(frame)
    opcode = HEADER.unpack_from(frame)[3]
    if opcode == OP_MSG:
        start = HEADER_SIZE + 4
        while frame[start] == 1:
            start += 1 + INT32.unpack_from(frame, start + 1)[0]
        start += 1
    elif opcode == OP_QUERY:
        start = frame.index(0, HEADER_SIZE + 4) + 9
    elif opcode == OP_REPLY:
        start = HEADER_SIZE + 20
    else:
        return {}
    return bson.decode(frame[start : start + INT32.unpack_from(frame, start)[0]])


def command(frame: bytes) -> str:
    """The name of the command in a request."""
    return next(iter(document(frame)), "")


def is_hello(frame: bytes) -> bool:
    return command(frame) in _HELLO


def opening(frame: bytes) -> tuple[int, str]:
    """What tells a connection's first frame from those of others, even where hello is edited."""
    return request_id(frame), repr(document(frame).get("client"))


def op_msg(id_: int, response_to: int, body: dict[str, Any], flags: int = 0) -> bytes:
    """A plain OP_MSG with one kind-0 section."""
    payload = INT32.pack(flags) + b"\0" + bson.encode(body)
    return HEADER.pack(HEADER_SIZE + len(payload), id_, response_to, OP_MSG) + payload


def answered(request: bytes, id_: int, body: dict[str, Any]) -> bytes:
    """A reply with ``body`` in the opcode of ``request``, which is not compressed."""
    if HEADER.unpack_from(request)[3] == OP_MSG:
        return op_msg(id_, request_id(request), body)
    payload = bytes((8,)) + bytes(15) + INT32.pack(1) + bson.encode(body)
    return HEADER.pack(HEADER_SIZE + len(payload), id_, request_id(request), OP_REPLY) + payload


def answering(request: bytes, step: Step) -> list[bytes]:
    """The replies of ``step`` for ``request``, which may carry another requestID by now."""
    if request_id(request) == request_id(step.request) or not step.replies:
        return step.replies
    first = bytearray(step.replies[0])
    INT32.pack_into(first, 8, request_id(request))
    return [bytes(first), *step.replies[1:]]


class FrameStream:
    """Whole frames over a trio stream."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self._buffer = FrameBuffer()
        self._frames: list[bytes] = []

    async def receive(self) -> bytes | None:
        """The next frame; ``None`` when the peer closed between frames."""
        while not self._frames:
            try:
                chunk = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not chunk:
                assert not self._buffer.buffered, "the peer closed inside a frame"
                return None
            self._frames = self._buffer.feed(bytes(chunk))
        return self._frames.pop(0)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)


@dataclass(slots=True)
class Exchange:
    """What one side of one connection received, beside what was recorded."""

    recorded: list[bytes]
    seen: list[bytes] = field(default_factory=list)
    #: Set when the conversation is over: the other side closed, or this one hung up.
    end: trio.Event = field(default_factory=trio.Event)

    @property
    def ended(self) -> bool:
        return self.end.is_set()

    def differences(self, alike: Callable[[bytes, bytes], bool] = bytes.__eq__) -> list[str]:
        """Every frame that is not ``alike`` the recorded one, and every one too many or missing."""
        found = [
            f"frame {index}: recorded {recorded.hex()}, seen {seen.hex()}"
            for index, (recorded, seen) in enumerate(zip(self.recorded, self.seen, strict=False))
            if not alike(recorded, seen)
        ]
        found += [f"missing: {frame.hex()}" for frame in self.recorded[len(self.seen) :]]
        found += [f"too many: {frame.hex()}" for frame in self.seen[len(self.recorded) :]]
        return found


class ReplayUpstream:
    """Answers a recording's replies to its requests.

    A connection is known by the requestID and the client metadata of its first frame. After the
    last step the upstream waits for the client to close, or closes first with ``hang_up``.
    """

    def __init__(
        self,
        recording: Recording,
        *,
        users: Sequence[tuple[str, str]] = (),
        hang_up: bool = False,
    ) -> None:
        self.recording = recording
        self.exchanges = {
            conn: Exchange([step.request for step in steps])
            for conn, steps in recording.connections.items()
        }
        #: Requests answered inside recorded connections that are not part of the recording.
        self.injected: list[bytes] = []
        #: First frames of connections that the recording does not know.
        self.strangers: list[bytes] = []
        self._users = users
        self._hang_up = hang_up
        self._conn_by_opening = {
            opening(steps[0].request): conn for conn, steps in recording.connections.items()
        }

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; reports the port that it listens on.

        From then on `recording` is the one of a server on that port.
        """
        listeners = await trio.open_tcp_listeners(port, host=host)
        bound: int = listeners[0].socket.getsockname()[1]
        self.recording = self.recording.moved(bound)
        task_status.started(bound)
        await trio.serve_listeners(self.handle, listeners)

    async def handle(self, stream: trio.abc.HalfCloseableStream) -> None:
        """One connection, on any trio stream."""
        async with stream:
            frames = FrameStream(stream)
            first = await frames.receive()
            if first is None:
                return
            conn = self._conn_by_opening.get(opening(first))
            try:
                if conn is None:
                    await self._stranger(frames, first)
                else:
                    await self._replay(frames, first, conn)
            except trio.BrokenResourceError:
                pass

    async def _replay(self, frames: FrameStream, first: bytes, conn: int) -> None:
        exchange = self.exchanges[conn]
        frame: bytes | None = first
        for step in self.recording.connections[conn]:
            while frame is not None and self._is_injected(frame, step.request):
                self.injected.append(frame)
                await frames.send(answered(frame, 1, self._connection_status()))
                frame = await frames.receive()
            if frame is None:
                exchange.end.set()
                return
            exchange.seen.append(frame)
            await frames.send(b"".join(answering(frame, step)))
            if step is self.recording.connections[conn][-1] and self._hang_up:
                exchange.end.set()
                return
            frame = await frames.receive()
        while frame is not None:
            exchange.seen.append(frame)
            frame = await frames.receive()
        exchange.end.set()

    def _is_injected(self, frame: bytes, expected: bytes) -> bool:
        return request_id(frame) != request_id(expected) and command(frame) == "connectionStatus"

    def _connection_status(self) -> dict[str, Any]:
        info = {
            "authenticatedUsers": [{"user": user, "db": db} for user, db in self._users],
            "authenticatedUserRoles": [],
            "authenticatedUserPrivileges": [],
        }
        return {"authInfo": info, "ok": 1.0}

    async def _stranger(self, frames: FrameStream, first: bytes) -> None:
        self.strangers.append(first)
        hello = document(next(iter(self.recording.connections.values()))[0].replies[0])
        hello.pop("saslSupportedMechs", None)
        hello.pop("compression", None)
        frame: bytes | None = first
        while frame is not None:
            await frames.send(answered(frame, 2, hello if is_hello(frame) else {"ok": 1.0}))
            frame = await frames.receive()


def _whole(data: bytes) -> list[bytes]:
    return [data]


def in_pieces(size: int) -> Callable[[bytes], list[bytes]]:
    """A way to send bytes: ``size`` at a time."""
    return lambda data: [data[at : at + size] for at in range(0, len(data), size)]


async def play(
    stream: trio.abc.HalfCloseableStream,
    steps: Sequence[Step],
    *,
    pieces: Callable[[bytes], Iterable[bytes]] = _whole,
    pipelined: bool = False,
    await_end: bool = False,
) -> Exchange:
    """Play the client's side of one recorded connection; return what it received.

    ``pieces`` cuts what is sent; ``pipelined`` sends every request without waiting for a reply;
    ``await_end`` waits for the other side to close instead of closing first.
    """
    frames = FrameStream(stream)
    exchange = Exchange([reply for step in steps for reply in step.replies])
    async with stream, trio.open_nursery() as nursery:
        if pipelined:
            nursery.start_soon(_send, frames, b"".join(s.request for s in steps), pieces)
        for step in steps:
            if not pipelined:
                await _send(frames, step.request, pieces)
            for _ in step.replies:
                reply = await frames.receive()
                if reply is None:
                    exchange.end.set()
                    nursery.cancel_scope.cancel()
                    return exchange
                exchange.seen.append(reply)
        if await_end:
            extra = await frames.receive()
            if extra is None:
                exchange.end.set()
            else:
                exchange.seen.append(extra)
    return exchange


async def _send(
    frames: FrameStream, data: bytes, pieces: Callable[[bytes], Iterable[bytes]]
) -> None:
    for piece in pieces(data):
        await frames.send(piece)


async def play_all(
    recording: Recording, connect: Callable[[], Any], **how: Any
) -> dict[int, Exchange]:
    """Play every connection of ``recording`` at once, each over a stream from ``connect()``."""
    results: dict[int, Exchange] = {}

    async def one(conn: int, steps: list[Step]) -> None:
        results[conn] = await play(await connect(), steps, **how)

    async with trio.open_nursery() as nursery:
        for conn, steps in recording.connections.items():
            nursery.start_soon(partial(one, conn, steps))
    return results
