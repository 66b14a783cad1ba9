"""When the connections are let go by which clients watch, where another process serves already.

Some drivers (Go, Java) ask a cursor's next batch of the pool without waiting for a server, and fail
while that is given up and until the server was found again, which takes milliseconds. So who
watches is told while the application reads no cursor. Such a moment is brought about: what begins
something new waits until the cursors that are open have been read, and then until the driver has
found the other process.

An application uses connections of several workers and watches by one of them, and its pools have
some of the other process by then. So one process looks for all: requests rest in every worker, and
in the other process, before it is looked who reads, and until all of those that watch are let go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from time import thread_time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import trio

from proxy.process.reads import Reading, readings, together

if TYPE_CHECKING:
    from proxy.process.reads import Origins, Readings
    from proxy.session.ids import Origin
    from proxy.session.store import SessionStore

#: How often it is looked who watches the server by now, and who reads no cursor.
LOOK_SECONDS: Final = 0.05
_SHORT_LOOK_SECONDS: Final = 0.005
#: No more of the time than this part of it goes by looking.
_SHARE: Final = 0.1

#: How long requests wait for the driver to find the other process, at the least; and how long for
#: a moment without cursors, without and with progress, before they have some time to go on.
FINDING_SECONDS: Final = 0.5
_HOLD_SECONDS: Final = 0.3
_MOST_HOLD_SECONDS: Final = 3.0
_FREE_SECONDS: Final = 1.0

#: Seconds: a cursor that was open for longer (a change stream) is not about to end.
_LONG_SECONDS: Final = 10.0


#: What is seen of an origin by which nobody has come.
NOBODY: Final = (-inf, 0)


class Seen(NamedTuple):
    """By origins: whose connections watch and were not told yet, and by how many of those drivers
    wait for news; when the latest of those was opened by which nothing but hello was asked, and by
    how many of those drivers wait for news. And how many seconds it took to look. It is not
    ``whole`` where requests may go on by some connections, or what is read by them is not known."""

    watching: Mapping[Origin | None, int]
    greeting: Mapping[Origin | None, tuple[float, int]]
    seconds: float
    whole: bool = True


class Watchers(Protocol):
    """The connections of one process, or of several."""

    async def look(self, resting: Origins) -> Seen | None:
        """Have new requests of these rest, and of nobody else; None where nobody is left.

        What they have begun before is known behind it.
        """

    async def look_there(self, resting: Origins) -> tuple[Readings, float] | None:
        """The same in the other process: what is read there, and how many seconds it took to look;
        None where that is not known."""

    async def let_go(self, origins: Origins) -> None:
        """Tell the connections of these that watch."""

    def found(self, origin: Origin | None, then: float, waiting: int) -> bool:
        """Whether the driver has found the other process since then, as far as one is told: where
        some wait for news, as many of them."""


@dataclass(slots=True)
class _Rest:
    """Of an origin's requests: it ends at ``until``, or did, having begun at ``since``. Meanwhile
    this was ``read`` last. Or its driver was told then, by so many connections by which it was
    ``waiting`` for news: by as many as it has instances, if it does that."""

    since: float
    until: float
    read: int | None = None
    waiting: int | None = None

    def lasts(self, now: float, found: Callable[[float, int], bool]) -> bool:
        """Whether it is not over, also as the driver has not ``found`` the other process yet."""
        if now < self.until or self.waiting is None or now >= self.since + _MOST_HOLD_SECONDS:
            return now < self.until
        return not found(self.since, self.waiting)

    def goes_on(self, reading: Reading, now: float) -> None:
        """It lasts on while cursors are read to their ends, which takes time on a busy machine."""
        if reading.mark != self.read and now - reading.seconds > self.since - _LONG_SECONDS:
            self.read = reading.mark
            self.until = min(now + _HOLD_SECONDS, self.since + _MOST_HOLD_SECONDS)


async def let_go_in_calm(watchers: Watchers, store: SessionStore, end: float) -> None:
    """Until the time ``end`` let go of those whose clients read no cursor, as ``store`` knows."""
    rests: dict[Origin | None, _Rest] = {}
    while (now := trio.current_time()) < end:
        resting = {
            origin
            for origin, rest in rests.items()
            if rest.lasts(now, partial(watchers.found, origin))
        }
        seen = await watchers.look(resting)
        if seen is None:
            return
        there = await watchers.look_there(resting)
        began = thread_time()
        now = trio.current_time()
        # Who reads what by some of them may not be known: nobody is let go of then.
        watching = seen.watching if seen.whole and there is not None else {}
        waiting = watching.keys() & resting
        elsewhere, spent = there or ({}, 0.0)
        reading = together(readings(store, waiting, now), elsewhere)
        spent = max(spent, seen.seconds + thread_time() - began)
        calm = waiting - reading.keys()
        began_telling = now
        if calm:
            await watchers.let_go(calm)
            now = trio.current_time()
        for origin in waiting:
            if origin in calm:
                told = watching[origin]
                rests[origin] = _Rest(began_telling, now + FINDING_SECONDS, waiting=told)
            else:
                rests[origin].goes_on(reading[origin], now)
        rests = {
            origin: rest
            for origin, rest in rests.items()
            if origin in resting or now < rest.until + _FREE_SECONDS
        }
        fresh = watching.keys() - rests.keys()
        rests |= {origin: _Rest(now, now + _HOLD_SECONDS) for origin in fresh}
        least = _SHORT_LOOK_SECONDS if watching or resting else LOOK_SECONDS
        await trio.sleep(0.0 if fresh else max(least, spent / _SHARE))
