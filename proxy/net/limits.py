"""How many clients and descriptors there may be, and how many bytes they make the proxy hold."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import resource
from collections.abc import Callable
from typing import Final

import trio

from proxy.net import readiness
from proxy.net.readiness import BULK_SIZE
from proxy.wire.opcodes import MAX_MESSAGE_SIZE

#: What a connection may hold without waiting for room: most messages are no longer.
UNCOUNTED: Final = 16_384

#: Room that is asked for at a time to read on, which is what is read where there is little.
CHUNK: Final = 65_536

#: While others wait for room, so much of a message has to come in so many seconds: 64 KiB, or an
#: eighth of it where that is more.
_PATIENCE: Final = 2.0
_LEAST_STEP: Final = 65_536
_STEPS: Final = 8

#: How often it is looked for somebody who does not get on, while others wait; and for how long the
#: one that goes on without room may have nothing to go on with, before another one has its turn.
_LOOK_SECONDS: Final = 0.5
_TURN_SECONDS: Final = 0.02


class Places:
    """A limit on how many there are at a time; what is there already stays when it sinks.

    ``elsewhere`` is how many other processes have, by what they told last.
    """

    __slots__ = ("elsewhere", "limit", "taken")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self.elsewhere = 0

    def admit(self) -> bool:
        """Take a place; False where none is left."""
        if self.taken + self.elsewhere >= self.limit:
            return False
        self.taken += 1
        return True

    def release(self) -> None:
        """Give a place back."""
        self.taken -= 1


class BufferBudget:
    """What all connections together hold of messages that cannot go on; at the limit they wait.

    Who needs least to be whole goes first. One at a time may go on although there is no room, so
    that somebody always finishes. Who holds something, is being read and does not get on makes
    room for those that wait: :attr:`Share.give_way` is called, the one with the most first.
    """

    __slots__ = ("_order", "_queue", "_watched", "exempt", "gave_way", "holders", "limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.exempt: Share | None = None
        self.holders: dict[Share, None] = {}
        #: How many were made to give way.
        self.gave_way = 0
        self._queue: list[tuple[int, int, Share]] = []
        self._order = itertools.count()
        self._watched = False

    @property
    def waiting(self) -> int:
        """How many wait for room."""
        return sum(1 for share in self.holders if share.waits is not None)

    @property
    def queued(self) -> bool:
        """Whether somebody is waiting, or was until now."""
        return bool(self._queue)

    def changed(self) -> None:
        """Have everybody read less at a time as room gets scarce."""
        used, limit = self.used, self.limit
        most = BULK_SIZE if used * 2 <= limit else CHUNK if used <= limit else UNCOUNTED
        readiness.current().most = most

    def settle(self) -> None:
        """Let those go on for whom there is room now, and one without."""
        queue = self._queue
        passed_over: list[tuple[int, int, Share]] = []
        while queue:
            left, _, share = queue[0]
            if share.waits is None:  # it was cancelled
                heapq.heappop(queue)
                continue
            if self.used + share.wanted > self.limit:
                if self.exempt is not None and not self._may_pass_on(self.exempt, left):
                    break
                if not share.is_ready():
                    # It has nothing to go on with.
                    passed_over.append(heapq.heappop(queue))
                    continue
                self.exempt = share
            heapq.heappop(queue)
            share.granted()
        if passed_over and self.exempt is None:
            # Nobody has: then it may come as well as not.
            self.exempt = passed_over.pop(0)[2]
            self.exempt.granted()
        for entry in passed_over:
            heapq.heappush(queue, entry)

    def _may_pass_on(self, exempt: Share, left: int) -> bool:
        """Whether another one may go on without room: this one has nothing to go on with, and what
        is held beyond the limit stays little."""
        return (
            trio.current_time() > exempt.since + _TURN_SECONDS
            and not exempt.is_ready()
            and self.used + left <= self.limit + min(self.limit // 4, MAX_MESSAGE_SIZE)
        )

    def wait(self, share: Share, left: int) -> None:
        """Put somebody in the queue who needs ``left`` bytes to be whole."""
        heapq.heappush(self._queue, (left, next(self._order), share))
        self.settle()
        if share.waits is not None and not self._watched:
            self._watched = True
            trio.lowlevel.spawn_system_task(self._watch)

    async def _watch(self) -> None:
        """Make room for as long as somebody waits for it."""
        looked = -math.inf
        while self._queue:
            now = trio.current_time()
            if now >= looked + _LOOK_SECONDS:
                looked = now
                self.make_room(now)
            self.settle()
            await trio.sleep(_TURN_SECONDS)
        self._watched = False

    def make_room(self, now: float) -> None:
        """Have those give way that do not get on, as many as the first in the queue needs."""
        waiting = (one for _, _, one in self._queue if one.waits is not None and one.is_ready())
        first = next(waiting, None)
        if first is None:
            return
        missing = self.used + first.wanted - self.limit
        stalled: list[Share] = []
        for share in self.holders:
            if share.leaving:
                missing -= share.held
            elif share.deadline <= now:
                stalled.append(share)
        stalled.sort(key=_held, reverse=True)
        for share in stalled:
            if missing <= 0:
                return
            if share.waits is not None and share.is_ready():
                continue  # there is more of it, which is not read for want of room
            missing -= share.held
            self.gave_way += 1
            share.leave()


class Share:
    """One connection's part of a budget; ``held`` is what is counted for it.

    ``give_way`` is called, once, when it has to be given back: the connection should end. ``ready``
    says whether there is more to be read; without it there may always be.
    """

    __slots__ = (
        "_budget",
        "_mark",
        "_whole",
        "deadline",
        "give_way",
        "held",
        "leaving",
        "ready",
        "since",
        "waits",
        "wanted",
    )

    def __init__(self, budget: BufferBudget) -> None:
        self._budget = budget
        self.held = 0
        self.give_way: Callable[[], None] | None = None
        self.ready: Callable[[], bool] | None = None
        self.leaving = False
        self._whole = False
        #: When it last got on, if it is being read.
        self.since = 0.0
        #: Set while it waits, for so many bytes.
        self.waits: trio.Event | None = None
        self.wanted = 0
        #: From when on it has to give way to others that wait, unless it gets on.
        self.deadline = math.inf
        self._mark = -1

    def count(self, amount: int, whole: int = 0) -> None:
        """So much is held now, of a message of ``whole`` bytes that is being read."""
        budget = self._budget
        if not amount:
            if self.held:
                self.release()
            return
        budget.used += amount - self.held
        self.held = amount
        budget.holders[self] = None
        budget.changed()
        step = max(_LEAST_STEP, whole // _STEPS)
        if not 0 <= self._mark <= amount < self._mark + step:
            self._mark = amount
            self._whole = False
            self.since = trio.current_time()
            self.deadline = self.since + _PATIENCE

    def rest(self, seconds: float) -> None:
        """It is not read from now on, which is not its fault, but gives way after so many seconds.

        The one for whom there was no room holds up all others, so that it has less time.
        """
        if seconds < math.inf and self._budget.exempt is self:
            seconds = _PATIENCE
        self.since = math.inf
        self.deadline = trio.current_time() + seconds
        self._mark = -1

    def is_ready(self) -> bool:
        """Whether it has something to go on with, as far as that can be told."""
        return self._whole or self.ready is None or self.ready()

    def take(self, extra: int) -> bool:
        """Count ``extra`` bytes more if there is room for them now."""
        budget = self._budget
        if (
            self.held + extra > UNCOUNTED
            and budget.exempt is not self
            and (budget.queued or budget.used + extra > budget.limit)
        ):
            return False
        self._add(extra)
        return True

    async def room(self, extra: int, left: int = 0) -> None:
        """Count ``extra`` bytes more, after waiting for room.

        ``left`` is how many are missing until the message is whole and can leave; 0 for one that
        is and needs room to be inflated.
        """
        self._whole = not left
        if self.take(extra):
            return
        budget = self._budget
        waits = self.waits = trio.Event()
        self.wanted = extra
        # Only where it has sent nothing that could be read.
        self.deadline = math.inf if self.ready is None else trio.current_time() + _PATIENCE
        budget.holders[self] = None
        budget.wait(self, left or extra)
        try:
            await waits.wait()
        finally:
            self.waits = None

    def granted(self) -> None:
        """What it waits for is there."""
        self._add(self.wanted)
        self.since = trio.current_time()
        self.deadline = self.since + _PATIENCE
        self._mark = -1
        if self.waits is not None:
            self.waits.set()
            self.waits = None

    def _add(self, extra: int) -> None:
        self.held += extra
        self._budget.used += extra
        self._budget.holders[self] = None
        self._budget.changed()

    def leave(self) -> None:
        """Have it give way."""
        self.leaving = True
        if self.give_way is not None:
            self.give_way()

    async def fits(self) -> bool:
        """Wait until there is room for what is held already; False if it has to give way."""
        budget = self._budget
        until = trio.current_time() + _PATIENCE
        while budget.used > budget.limit:
            if trio.current_time() >= until:
                budget.gave_way += 1
                return False
            await trio.sleep(_TURN_SECONDS)
        return True

    def release(self) -> None:
        """Count nothing any more."""
        budget = self._budget
        budget.used -= self.held
        self.held = 0
        self._mark = -1
        self.deadline = math.inf
        budget.holders.pop(self, None)
        if budget.exempt is self:
            budget.exempt = None
        budget.changed()
        if budget.queued:
            budget.settle()


def _held(share: Share) -> int:
    return share.held


def raise_descriptor_limit() -> None:
    """Two descriptors a connection: take what the hard limit gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; then soft stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
