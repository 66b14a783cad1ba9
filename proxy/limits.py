"""The process-wide bound on bytes held of messages that have not arrived whole."""

from __future__ import annotations

import trio


class BufferBudget:
    """Counts what connections hold beyond a receive buffer; makes them wait at the limit.

    Whoever waits holds a message half received, so its own deadline ends the wait: nobody
    can wait for ever on others that wait too.
    """

    __slots__ = ("_lot", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lot = trio.lowlevel.ParkingLot()

    async def take(self, amount: int) -> None:
        """Count ``amount`` more bytes, after waiting for room if need be."""
        while self.used + amount > self.limit and self.used:
            await self._lot.park()
        self.used += amount

    def give(self, amount: int) -> None:
        """Give back what was taken."""
        self.used -= amount
        if amount:
            self._lot.unpark_all()
