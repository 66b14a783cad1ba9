"""A fast upstream that answers and writes down every frame it gets.

    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)

It answers hello as a standalone server, connectionStatus with nobody, and everything else with
``{ok: 1.0, echo: <the request's field "mark">}``, in the opcode and with the compressor of the
request. What it cannot read it answers with 22 InvalidBSON; what has no reply it keeps silent
about. `RecordingUpstream.answer` may be replaced; ``None`` closes the connection.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
import trio

from proxy.wire.compression import compressor_of, deflate, inflate
from proxy.wire.frames import FrameBuffer
from proxy.wire.opcodes import HEADER, INT32, MORE_TO_COME, OP_COMPRESSED, OP_MSG, OP_QUERY
from tests.build import op_reply, reply
from tests.talk import connection_status

HELLO = {
    "ismaster": True,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "localTime": bson.DatetimeMS(0),
    "logicalSessionTimeoutMinutes": 30,
    "connectionId": 1,
    "minWireVersion": 0,
    "maxWireVersion": 9,
    "readOnly": False,
    "ok": 1.0,
}

Answer = Callable[["Seen", bytes], "Sequence[bytes] | None"]


@dataclass(eq=False)
class Seen:
    """One connection: the frames it brought, and how it ended ("eof" or "reset")."""

    stream: trio.SocketStream
    frames: list[bytes] = field(default_factory=list)
    end: str = ""
    ended: trio.Event = field(default_factory=trio.Event)
    #: Set anew with every frame.
    got: trio.Event = field(default_factory=trio.Event)
    #: Bytes of an unfinished frame at the end.
    rest: int = 0
    #: What lies around ``stream``, where that is behind TLS.
    tls: trio.SSLStream[trio.SocketStream] | None = None

    async def frame_count(self, count: int) -> None:
        """Wait until so many frames have come."""
        while len(self.frames) < count:
            await self.got.wait()

    def reset(self) -> None:
        """Close so that the peer sees a reset."""
        self.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


class RecordingUpstream:
    """See the module's text."""

    def __init__(self, answer: Answer | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.answer: Answer = answer or echo
        self._tls = tls
        self.seen: list[Seen] = []
        self.port = 0
        self._accepting: trio.CancelScope | None = None
        self._by_mark: dict[Any, Seen] = {}
        self._marked = trio.Event()

    async def serve(
        self,
        host: str = "127.0.0.1",
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve on a free port of ``host`` until cancelled."""
        listeners = await trio.open_tcp_listeners(self.port, host=host, backlog=4096)
        self.port = listeners[0].socket.getsockname()[1]
        task_status.started(self.port)
        async with trio.open_nursery() as nursery, trio.open_nursery() as accepting:
            self._accepting = accepting.cancel_scope
            await trio.serve_listeners(self._handle, listeners, handler_nursery=nursery)

    def stop_listening(self) -> None:
        """Refuse new connections; those that are open stay."""
        assert self._accepting is not None
        self._accepting.cancel()

    async def _handle(self, stream: trio.SocketStream) -> None:
        seen = Seen(stream)
        self.seen.append(seen)
        if self._tls is None:
            await self._answer(seen, stream)
        else:
            tls = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
            seen.tls = tls
            await self._answer(seen, tls)

    async def _answer(
        self, seen: Seen, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    ) -> None:
        buffer = FrameBuffer()
        try:
            async for chunk in stream:
                for frame in buffer.feed(bytes(chunk)):
                    seen.frames.append(frame)
                    if mark := document(frame).get("mark"):
                        self._by_mark[mark] = seen
                        self._marked.set()
                        self._marked = trio.Event()
                    seen.got.set()
                    seen.got = trio.Event()
                    replies = self.answer(seen, frame)
                    if replies is None:
                        return
                    if replies:
                        await stream.send_all(b"".join(replies))
            seen.end = "eof"
        except trio.BrokenResourceError:
            seen.end = "reset"
        except trio.ClosedResourceError:
            seen.end = "closed here"
        finally:
            seen.rest = buffer.buffered
            seen.ended.set()
            await trio.aclose_forcefully(stream)

    def with_mark(self, mark: Any) -> Seen:
        """The connection that brought a request with this mark last."""
        return self._by_mark[mark]

    async def bringing(self, mark: Any) -> Seen:
        """As `with_mark`, after waiting for it."""
        while mark not in self._by_mark:
            await self._marked.wait()
        return self._by_mark[mark]


def document(frame: bytes) -> dict[str, Any]:
    """The command of a request, found without the proxy's own reader; {} if it has none."""
    try:
        message = inflate(frame) if _opcode(frame) == OP_COMPRESSED else frame
        if _opcode(message) == OP_MSG:
            start = 20
            while message[start] == 1:
                start += 1 + INT32.unpack_from(message, start + 1)[0]
            start += 1
        elif _opcode(message) == OP_QUERY:
            start = message.index(0, 20) + 9
        else:
            return {}
        decoded = bson.decode(message[start : start + INT32.unpack_from(message, start)[0]])
    except Exception:  # whatever is wrong with it, it is no command
        return {}
    inner = decoded.get("$query")
    return inner if isinstance(inner, dict) else decoded


def _opcode(frame: bytes) -> int:
    return int(HEADER.unpack_from(frame)[3])


def expects_reply(frame: bytes) -> bool:
    message = inflate(frame) if _opcode(frame) == OP_COMPRESSED else frame
    if _opcode(message) == OP_MSG:
        return not message[16] & MORE_TO_COME
    return _opcode(message) in (OP_QUERY, 2005, 2010)


def echo(seen: Seen, frame: bytes) -> Sequence[bytes]:
    """The usual answer."""
    if not expects_reply(frame):
        return ()
    command = document(frame)
    name = next(iter(command), "")
    if not command:
        answer: dict[str, Any] = {"ok": 0.0, "code": 22, "codeName": "InvalidBSON"}
    elif name in ("hello", "isMaster", "ismaster"):
        answer = HELLO
    elif name == "connectionStatus":
        answer = connection_status()
    else:
        answer = {"ok": 1.0, "echo": command.get("mark")}
    return (answered(frame, answer),)


def answered(frame: bytes, value: dict[str, Any], request_id: int = 5_000, **how: Any) -> bytes:
    """A reply to ``frame`` in its opcode and with its compressor."""
    _, response_to, _, opcode = HEADER.unpack_from(frame)
    inner = _opcode(inflate(frame)) if opcode == OP_COMPRESSED else opcode
    if inner == OP_MSG:
        made = reply(value, response_to, request_id, **how)
    else:
        made = op_reply(value, response_to=response_to, request_id=request_id)
    return deflate(made, compressor_of(frame)) if opcode == OP_COMPRESSED else made
