"""One wait for all sockets: plain functions are called for each that has something to read.

trio arms a descriptor anew for every wait and wakes a task for every message. Here a
descriptor stays armed and nobody is woken as long as the function can do all there is to do.
A relay that looks at nothing costs 13 µs a request that way, 27 µs with a wait per message and
48 µs with trio's streams (one machine, 64 connections); with one connection there is no
difference.

What was decided for several sockets is sent when all of them were read, so that peers that sleep
are woken once for all of it: a sixth less processor time a request with 16 connections and more.

A process that sleeps between two messages finds its caches cold: with one connection, what
takes 60 µs takes 180. So it does not go to sleep at once where messages follow each other
closely (:meth:`Readiness._linger`): 1.7 times as many requests with one connection, and
for less processor time. Where they do not, or others need the processor, it soon stops trying
(:mod:`proxy.net.awake`).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from time import perf_counter
from typing import Final

import trio

from proxy.net.awake import Odds, Others, Starved
from proxy.processors import processors

#: Bytes asked for in a read that follows one which brought as many as it could: replies of 100 KB
#: then pass 1.6 times as fast, and of 1 MB twice as fast. With half of this the latter cost 1.4
#: times as much, since the peers are woken more often.
BULK_SIZE: Final = 1 << 20

#: Sockets asked for at a time.
_AT_ONCE: Final = 32

#: Looks at the sockets, of a microsecond each, between two turns of all other tasks.
_LOOKS: Final = 20

#: Processors from which on one of them may be kept awake.
_ENOUGH: Final = 2


class Readiness:
    """Calls ``take`` of every watched descriptor that can be read, again and again.

    Where that returns True, ``settle`` is called when some others were taken too.
    """

    def __init__(self) -> None:
        # Within trio's own epoll, which waits for this one like for any descriptor.
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Callable[[], bool], Callable[[], None]]] = {}
        #: Those that the last slice had no time for: asked again, the kernel could put the same
        #: slow ones before them each time.
        self._left: list[tuple[int, int]] = []
        #: Whoever has more to do than fits into one turn does the rest under it, some at a time:
        #: the sockets are looked at between any two of those, however many there are.
        self.turn: Final = trio.Lock()
        #: The same for handshakes of TLS: a thousand at once keep no request waiting for its turn.
        self.shaking: Final = trio.Lock()
        #: Bytes that senders hold because their peers do not read.
        self.waiting = 0
        #: Bytes that are read at a time at the most: less where there is little room for them.
        self.most = BULK_SIZE
        #: Seconds for which sockets are served before other tasks have their turn.
        self.slice = 0.002
        #: Seconds for which what was decided may wait to be sent. Where there are more to work than
        #: processors, the next pause of some milliseconds comes at any moment, and takes with it
        #: all that is not sent: with ten times as much, the slowest hundredth takes a tenth longer.
        self.unsent = 0.0002
        #: Seconds for which it was waited awake in vain.
        self.lingered = 0.0
        self._patience = 0.0
        self._odds = Odds()
        self._starved: Starved | None = None
        self._others: Others | None = None

    def watch(self, fd: int, take: Callable[[], bool], settle: Callable[[], None]) -> None:
        """Begin; neither may raise, and both may end this or others. One watcher a descriptor.

        ``take`` may find that there is nothing to read.
        """
        self._epoll.register(fd, select.EPOLLIN)
        self._watched[fd] = take, settle

    def forget(self, fd: int) -> None:
        """End, before the descriptor is closed."""
        del self._watched[fd]
        self._epoll.unregister(fd)

    def be_patient(self, seconds: float) -> None:
        """Wait for so long awake before going to sleep, where that is likely to pay; 0: never."""
        # With one processor nothing could come meanwhile, and a container's quota of less than
        # two is used up by it: all of it stands still for the rest of the tenth of a second then.
        self._patience = seconds if processors() >= _ENOUGH else 0.0
        if self._patience and self._starved is None:
            self._starved = Starved()
            self._others = Others(self._starved.seconds, self._odds.give_chance)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                self._serve()
                while self._may_linger() and await self._linger():
                    pass
        finally:
            self._epoll.close()
            if self._starved is not None:
                self._starved.close()

    def _may_linger(self) -> bool:
        if not self._patience or self._others is None:
            return False
        return self._others.allow(perf_counter()) and self._odds.good()

    def _serve(self) -> bool:
        """Call what has something to read, for a while; whether there was anything."""
        ready = self._left or self._epoll.poll(0, _AT_ONCE)
        if not ready:
            return False
        watched = self._watched
        now = perf_counter()
        end = now + self.slice
        while ready:
            taken = []
            turns = iter(ready)
            send_by = now + self.unsent
            for fd, _ in turns:
                # One that was taken before it may have ended this one.
                if (found := watched.get(fd)) is not None:
                    take, settle = found
                    if take():
                        taken.append(settle)
                    if (now := perf_counter()) > send_by:
                        break
            self._left = list(turns)
            for settle in taken:
                settle()
            now = perf_counter()
            ready = (self._left or self._epoll.poll(0, _AT_ONCE)) if now < end else []
        return True

    async def _linger(self) -> bool:
        """Look again and again instead of sleeping; whether something came."""
        began = now = perf_counter()
        came = False
        while not came and now < began + self._patience:
            # All other tasks have a turn, and then other processes: what they wait for here,
            # 0.9 ms in a hundredth of all cases with more of them than processors, becomes 0.5.
            await trio.lowlevel.checkpoint()
            os.sched_yield()
            for _ in range(_LOOKS):
                came = self._serve()
                if came:
                    break
            now = perf_counter()
        self._odds.waited(came)
        if not came:
            self.lingered += now - began
        return came


_current: Final[trio.lowlevel.RunVar[Readiness]] = trio.lowlevel.RunVar("readiness")


def current() -> Readiness:
    """The one of this trio run; it begins with its first use."""
    try:
        return _current.get()
    except LookupError:
        readiness = Readiness()
        _current.set(readiness)
        trio.lowlevel.spawn_system_task(readiness.run)
        return readiness
