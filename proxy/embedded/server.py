"""The embedded server's sockets: one task reads a connection, one answers it (trio)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from proxy.embedded.connection import Connection
from proxy.embedded.node import make_node
from proxy.embedded.versions import DEFAULT, named
from proxy.errors import WireError
from proxy.wire.frames import FrameBuffer
from proxy.wire.proxy_header import read_header

if TYPE_CHECKING:
    from proxy.embedded.users import EmbeddedRole, EmbeddedUser

log = logging.getLogger(__name__)

#: Requests read ahead of the one being answered; a client beyond that waits in its socket.
_READ_AHEAD: Final = 64
#: Waiting for ever is cut into pieces, so that transactions held open expire meanwhile.
_LONG: Final = 1.0
#: What clients of this machine dial where every address is listened on.
_REACHABLE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class EmbeddedUpstream:
    """A small MongoDB replica-set primary in this process, for demonstrations and tests.

    It keeps everything in memory, has one member, and no change streams. ``set_name`` None makes
    it a standalone. ``version`` is the server version that it plays, ``4.2`` to ``8.2``, or
    ``max_wire_version`` names the newest that fits it.
    ``address`` is the name it goes by in ``hello``; it becomes the real ``host:port`` once it
    listens. With ``balanced`` its port is as the load balancer port of a mongos: each connection
    begins with a PROXY header, and hello has to say ``loadBalanced``.

    Its ``node`` has hooks for tests: ``reject_every`` and :meth:`Node.expire_logins`.
    """

    def __init__(
        self,
        *,
        authorization: bool = False,
        users: Iterable[EmbeddedUser] = (),
        roles: Iterable[EmbeddedRole] = (),
        set_name: str | None = "embedded",
        version: str = DEFAULT,
        max_wire_version: int | None = None,
        address: str = "127.0.0.1:27117",
        balanced: bool = False,
    ) -> None:
        if max_wire_version is not None:
            version = named(max_wire_version)
        self.node = make_node(
            authorization=authorization,
            users=users,
            roles=roles,
            set_name=set_name,
            version=version,
            address=address,
            now=time.time(),
            balanced=balanced,
        )
        self._changed = trio.Event()
        self.node.wake = self._wake

    @property
    def address(self) -> str:
        """``host:port`` by which the server goes."""
        return self.node.address

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def change(self, until: float) -> None:
        """Wait for something to change, at most until Unix time ``until`` and for a second."""
        changed = self._changed
        with trio.move_on_after(max(0.0, min(until - time.time(), _LONG))):
            await changed.wait()

    async def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen and answer until cancelled; ``task_status`` gives the port."""
        listeners = await trio.open_tcp_listeners(port, host=host)
        bound = int(listeners[0].socket.getsockname()[1])
        name = _REACHABLE.get(host, host)
        self.node.address = f"[{name}]:{bound}" if ":" in name else f"{name}:{bound}"
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(trio.serve_listeners, self._serve_one, listeners))
            task_status.started(bound)

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        try:
            peer = stream.socket.getpeername()
        except OSError:
            await trio.aclose_forcefully(stream)
            return
        client, ahead = f"{peer[0]}:{peer[1]}", b""
        if self.node.service_id is not None:
            try:
                client, ahead = await _from_header(stream, client)
            except (WireError, trio.BrokenResourceError):
                await trio.aclose_forcefully(stream)
                return
        connection = Connection(self.node, client)
        try:
            async with stream:
                await _Conversation(self, connection, stream, ahead).run()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # A client may go whenever it likes.
        except* Exception:
            log.exception("connection from %s failed", connection.client.address)
        finally:
            connection.close()


async def _from_header(stream: trio.SocketStream, peer: str) -> tuple[str, bytes]:
    """Whose connection it is, by a PROXY header, and what came behind that."""
    data = b""
    while (header := read_header(data)) is None:
        more = await stream.receive_some()
        if not more:
            raise WireError("no whole header")
        data += more
    return str(header.source or peer), data[header.size :]


class _Conversation:
    """One connection's two tasks. The reader notices a client that goes while a command waits."""

    def __init__(
        self,
        upstream: EmbeddedUpstream,
        connection: Connection,
        stream: trio.SocketStream,
        ahead: bytes,
    ) -> None:
        self._ahead = ahead
        self._upstream = upstream
        self._connection = connection
        self._stream = stream
        self._gone = False

    async def run(self) -> None:
        send, receive = trio.open_memory_channel[bytes](_READ_AHEAD)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, send)
            async with receive:
                async for frame in receive:
                    if not await self._answer(frame):
                        break
            nursery.cancel_scope.cancel()

    async def _read(self, send: trio.MemorySendChannel[bytes]) -> None:
        buffer = FrameBuffer()
        async with send:
            try:
                for frame in buffer.feed(self._ahead):
                    await send.send(frame)
                async for chunk in self._stream:
                    for frame in buffer.feed(bytes(chunk)):
                        await send.send(frame)
            except (WireError, trio.BrokenResourceError):
                pass  # Framing or the peer is lost: nothing more can come.
            self._gone = True
            self._upstream.node.wake()

    async def _answer(self, frame: bytes) -> bool:
        """Carry out one request to its last reply; False when the connection is to close."""
        connection = self._connection
        step = connection.receive(frame, time.time())
        while True:
            for reply in step.frames:
                await self._stream.send_all(reply)
            if step.close:
                return False
            if step.wait_until is None and not step.more:
                # Without replies nothing above lets other tasks run.
                await trio.lowlevel.checkpoint()
                return True
            if self._gone:
                connection.gone()
                return True
            if step.wait_until is None:
                step = connection.proceed(time.time())
            else:
                await self._upstream.change(step.wait_until)
                if not self._gone:
                    step = connection.resume(time.time())
