"""The sending end of one side, which both pumps of a connection write to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from proxy.net.transport import Transport


class Outlet:
    """One side's sending end: keeps the order of decisions when both pumps write to it."""

    __slots__ = ("_busy", "_dropping", "_lot", "_out", "_queue", "_rest", "sent", "transport")

    def __init__(self, transport: Transport, queue: list[bytes]) -> None:
        self.transport = transport
        self._queue = queue
        self._rest = memoryview(b"")
        #: Bytes that :meth:`flush` has taken and still sends.
        self._out = 0
        self._busy = False
        self._dropping = False
        self._lot = trio.lowlevel.ParkingLot()
        self.sent = 0

    @property
    def busy(self) -> bool:
        """Whether somebody is inside :meth:`flush` and will send what the queue holds too."""
        return self._busy

    @property
    def held(self) -> int:
        """Bytes that were to be sent and are not yet."""
        return self._out + len(self._rest) + sum(map(len, self._queue))

    def drop(self) -> None:
        """The peer is gone: whatever is to be sent is forgotten from now on."""
        self._dropping = True
        self._rest = memoryview(b"")
        self._queue.clear()
        self.transport.close()

    def push(self) -> bool:
        """Send what the queue holds as far as that needs no waiting; whether all of it is out."""
        if self._busy or self._rest:
            return False
        queue = self._queue
        if self._dropping:
            queue.clear()
        if not queue:
            return True
        data = queue[0] if len(queue) == 1 else b"".join(queue)
        queue.clear()
        sent = self.transport.send_now(data)
        self.sent += sent
        if sent == len(data):
            return True
        self._rest = memoryview(data)[sent:]
        return False

    async def flush(self) -> None:
        """Send what the queue holds; if the other pump is at it, wait until that is out."""
        while self._busy:
            await self._lot.park()
        self._busy = True
        try:
            while self._rest or self._queue:
                if self._dropping:
                    self._queue.clear()
                    return
                data = self._rest or memoryview(b"".join(self._queue))
                if not self._rest:
                    self._queue.clear()
                self._rest = memoryview(b"")
                self._out = len(data)
                await self.transport.send(data)
                self._out = 0
                self.sent += len(data)
        finally:
            self._busy = False
            self._out = 0
            if self._lot:
                self._lot.unpark_all()
