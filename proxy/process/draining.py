"""How clients are let go when the process ends: in an order in which drivers lose no work.

A driver finds out that a connection of its pool was closed by using it, and what it does not run
again by itself (getMore, commands of the application's own) is lost. But when a connection ends by
which it watches the server, it gives up the whole pool at once, and what comes next waits until
there is a server again. So those end first, and the others have a moment to be left.

Some drivers (Go, Java) ask a cursor's next batch of the pool without waiting for a server, and fail
while that is given up and until the server was found again, which takes milliseconds. Where another
process serves already, who watches is therefore told while the application reads no cursor. Such a
moment is brought about: what begins something new waits until the cursors that are open have been
read, and then until the driver has found the other process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from time import thread_time
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from proxy.process.connection import Connection
    from proxy.session.ids import Origin
    from proxy.session.store import SessionStore
    from proxy.settings.limits import Limits

#: How often it is looked who watches the server by now, and who reads no cursor.
_LOOK_SECONDS: Final = 0.05
_SHORT_LOOK_SECONDS: Final = 0.005
#: No more of the time than this part of it goes by looking.
_SHARE: Final = 0.1

#: How long requests wait for the driver to find the other process; and how long for a moment
#: without cursors, before they have some time to go on.
_FINDING_SECONDS: Final = 0.5
_HOLD_SECONDS: Final = 0.3
_FREE_SECONDS: Final = 1.0

#: The part of the time for draining in which a moment without cursors is waited for.
_CALM: Final = 0.25

#: Commands whose replies may open a cursor, or have one to be read on.
_READING: Final = frozenset(
    {"aggregate", "bulkWrite", "find", "getMore", "listCollections", "listIndexes"}
)


class Draining:
    """Lets go of ``connections``, by their numbers, once it is :meth:`begin`'s time.

    Unless the process is ``alone``, others have connections by which its clients watch. ``store``
    knows who has cursors open.
    """

    def __init__(
        self, connections: Mapping[int, Connection], store: SessionStore, *, alone: bool = True
    ) -> None:
        self._connections = connections
        self._store = store
        self._alone = alone
        self.begun = False
        #: Those that clients may leave by themselves.
        self._awaited: set[int] = set()
        self._grace = trio.CancelScope()
        #: Until when those of an origin rest or rested, and who.
        self._resting: dict[Origin | None, tuple[float, list[Connection]]] = {}

    def begin(self, serving: trio.Nursery, limits: Limits, *, replaced: bool = False) -> None:
        """End what is idle soon, and whatever is left when ``limits`` say so.

        Where another process takes clients already there is no hurry: also drivers that look for
        their server every ten seconds can leave by themselves, and who has just come is served.
        """
        self.begun = True
        now = trio.current_time()
        serving.cancel_scope.deadline = now + limits.drain_seconds
        connections = self._connections.values()
        # One that said hello and no more is about to be used, or to watch.
        self._awaited = {
            number
            for number, one in self._connections.items()
            if one.works or one.greets or (replaced and not one.monitors)
        }
        told = any(one.greets for one in connections) and any(one.works for one in connections)
        if replaced and self._awaited:
            self._grace.deadline = now + max(limits.drain_idle_seconds, limits.drain_seconds / 2)
            calm = now + limits.drain_seconds * _CALM
            serving.start_soon(self._drain_the_rest, calm)
        elif told or (not self._alone and self._awaited):
            self._grace.deadline = now + limits.drain_idle_seconds
            serving.start_soon(self._drain_the_rest, now)
        else:
            _drain(self._connections.values())

    def left(self, number: int) -> None:
        """A connection ended."""
        self._awaited.discard(number)
        if self.begun and not self._awaited:
            self._grace.cancel()

    async def _drain_the_rest(self, calm: float) -> None:
        """Until the time ``calm`` those who read cursors are not told."""
        told: set[int] = set()
        with self._grace:
            while True:
                # Again and again: one that was just opened is known by its second hello.
                watching = {
                    number: one
                    for number, one in self._connections.items()
                    if one.monitors and number not in told
                }
                pause = _LOOK_SECONDS
                now = trio.current_time()
                if (watching and now < calm) or self._resting:
                    began = thread_time()
                    watching = self._calm(watching, now) if now < calm else watching
                    self._wake(now)
                    pause = max(_SHORT_LOOK_SECONDS, (thread_time() - began) / _SHARE)
                told |= watching.keys()
                _drain(watching.values())
                await trio.sleep(pause)
        self._wake(math.inf)
        _drain(self._connections.values())

    def _calm(self, watching: dict[int, Connection], now: float) -> dict[int, Connection]:
        """Those of whose clients none reads a cursor; the others' begin nothing new for a while."""
        reading = self._reading()
        origins = {one.origin for one in watching.values()}
        for origin in origins - reading:
            self._rest(origin, now + _FINDING_SECONDS)
        for origin in origins & reading:
            if origin not in self._resting:
                self._rest(origin, now + _HOLD_SECONDS)
        return {number: one for number, one in watching.items() if one.origin not in reading}

    def _reading(self) -> set[Origin]:
        """Who has a cursor open, or may have one soon."""
        return {
            session.origin
            for some in self._store.active()
            for session in some
            if (activity := session.activity) is not None
            and (activity.cursors or any(one.command in _READING for one in activity.operations))
        }

    def _rest(self, origin: Origin | None, until: float) -> None:
        working = [one for one in self._connections.values() if one.works and one.origin == origin]
        for connection in working:
            connection.rest(True)
        self._resting[origin] = until, working

    def _wake(self, now: float) -> None:
        """Have those go on whose rest is over; after some time they may rest again."""
        for origin, (until, resting) in list(self._resting.items()):
            if now >= until:
                for connection in resting:
                    connection.rest(False)
                resting.clear()
            if now >= until + _FREE_SECONDS:
                del self._resting[origin]


def _drain(connections: Iterable[Connection]) -> None:
    for connection in list(connections):
        connection.drain()
