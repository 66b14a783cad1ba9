"""A transport in memory, whose other end the test holds."""

from __future__ import annotations

from collections.abc import Callable

import trio

from proxy.net.gone import PeerGoneError


class FakeTransport:
    """What the relay sees as one side's connection. The peer is the test.

    ``room`` is how many more bytes the peer's side takes before a send has to wait; None for
    any number.
    """

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.sent = bytearray()
        self.eof_sent = False
        self.closed = False
        self.receives = 0
        self._incoming: list[bytes] = []
        self._problem = ""
        self._changed = trio.Event()

    # ------------------------------------------------------------------ the relay's side

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        self.receives += 1
        while not self._incoming:
            self._check()
            await self._change()
        return self._incoming.pop(0)

    async def each(self, take: Callable[[bytes], None], settle: Callable[[], bool]) -> bool:
        while data := await self.receive():
            take(data)
            if not settle():
                return True
        return False

    async def send(self, data: bytes | memoryview) -> None:
        rest = data
        while rest := rest[self.send_now(rest) :]:
            await self._change()

    def send_now(self, data: bytes | memoryview) -> int:
        self._check()
        taken = data if self.room is None else data[: self.room]
        self.sent += taken
        if self.room is not None:
            self.room -= len(taken)
        self._changed.set()
        return len(taken)

    def pending(self) -> bool:
        return bool(self._incoming or self._problem or self.closed)

    def send_eof(self) -> None:
        self.eof_sent = True
        self._changed.set()

    def close(self) -> None:
        self.closed = True
        self._changed.set()

    def _check(self) -> None:
        if self.closed or self._problem:
            raise PeerGoneError(self._problem or "closed")

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = trio.Event()
        await self._changed.wait()

    # ------------------------------------------------------------------ the peer's side

    def feed(self, *chunks: bytes) -> None:
        """The peer sends; each chunk is one receive. b"" is its end."""
        self._incoming += chunks
        self._changed.set()

    def reset(self, problem: str = "reset by peer") -> None:
        """The peer resets the connection."""
        self._problem = problem
        self._changed.set()

    def make_room(self, room: int | None) -> None:
        self.room = room
        self._changed.set()

    async def has_got(self, size: int) -> None:
        """Wait until so many bytes were sent to the peer."""
        while len(self.sent) < size:
            await self._change()

    def take(self) -> bytes:
        """What was sent to the peer since the last call."""
        taken = bytes(self.sent)
        self.sent.clear()
        return taken
