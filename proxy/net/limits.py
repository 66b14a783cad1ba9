"""How many clients and descriptors there may be, and how many bytes of unfinished messages."""

from __future__ import annotations

import contextlib
import resource
from typing import Protocol

import trio


class Admission(Protocol):
    """A limit on how many there are at a time. The answer is there at once: with several
    processes, each has been given its share before."""

    #: How many there may be; what is there already stays when it sinks.
    limit: int

    def admit(self) -> bool:
        """Take a place; False where none is left."""

    def release(self) -> None:
        """Give a place back."""


class Places:
    """The :class:`Admission` of one process that has the whole limit for itself."""

    __slots__ = ("limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0

    def admit(self) -> bool:
        """Take a place; False where none is left."""
        if self.taken >= self.limit:
            return False
        self.taken += 1
        return True

    def release(self) -> None:
        """Give a place back."""
        self.taken -= 1


class BufferBudget:
    """What all connections together hold beyond a receive buffer; at the limit they wait.

    One of them at a time may go on all the same, so that somebody always finishes: no more
    than ``limit`` and one message are held, and nobody waits for others that wait too.
    """

    __slots__ = ("exempt", "limit", "lot", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.exempt: Share | None = None
        self.lot = trio.lowlevel.ParkingLot()


class Share:
    """One connection's part of a budget; ``held`` is what is counted for it."""

    __slots__ = ("_budget", "held")

    def __init__(self, budget: BufferBudget) -> None:
        self._budget = budget
        self.held = 0

    async def hold(self, amount: int) -> None:
        """Count ``amount`` bytes from now on, after waiting for room if that is more."""
        budget = self._budget
        while amount > self.held and budget.used + amount - self.held > budget.limit:
            if budget.exempt is None or budget.exempt is self:
                budget.exempt = self
                break
            await budget.lot.park()
        if amount < self.held:
            self.release()
        budget.used += amount - self.held
        self.held = amount

    def release(self) -> None:
        """Count nothing any more."""
        budget = self._budget
        budget.used -= self.held
        self.held = 0
        if budget.exempt is self:
            budget.exempt = None
        budget.lot.unpark_all()


def raise_descriptor_limit() -> None:
    """Two descriptors a connection: take what the hard limit gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; then soft stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
