"""How clients are let go when the process ends: in an order in which drivers lose no work.

A driver finds out that a connection of its pool was closed by using it, and what it does not run
again by itself (getMore, commands of the application's own) is lost. But when a connection ends by
which it watches the server, it gives up the whole pool at once, and what comes next waits until
there is a server again. So those end first, and the others have a moment to be left.

Where another process serves already that is done at a moment that suits the application
(:mod:`proxy.process.calm`), which one of several workers is told from outside.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from time import thread_time
from typing import TYPE_CHECKING, Final

import trio

from proxy.process.calm import LOOK_SECONDS, NOBODY, Seen, let_go_in_calm

if TYPE_CHECKING:
    from proxy.process.connection import Connection
    from proxy.process.reads import Origins, Readings
    from proxy.session.ids import Origin
    from proxy.session.store import SessionStore
    from proxy.settings.limits import Limits

#: The part of the time for draining in which a moment without cursors is waited for.
CALM: Final = 0.25

#: Requests rest no longer than this without a word of whoever wants it.
LONGEST_REST: Final = 2.0


async def _nothing_there(_resting: Origins) -> tuple[Readings, float] | None:
    return {}, 0.0


class Draining:
    """Lets go of ``connections``, by their numbers, once it is :meth:`begin`'s time.

    Unless the process is ``alone``, others have connections by which its clients watch, and it is
    told by :meth:`see` and :meth:`tell` what to do about them. ``store`` knows who has cursors,
    ``found`` who has found the other process, and ``look_there`` who reads cursors through that.
    """

    def __init__(
        self,
        connections: Mapping[int, Connection],
        store: SessionStore,
        *,
        alone: bool = True,
        found: Callable[[Origin | None, float, int], bool] = lambda *_: True,
        look_there: Callable[[Origins], Awaitable[tuple[Readings, float] | None]] = _nothing_there,
    ) -> None:
        self._connections = connections
        self._store = store
        self._alone = alone
        self._found = found
        self._look_there = look_there
        self.begun = False
        #: Those that clients may leave by themselves.
        self._awaited: set[int] = set()
        self._grace = trio.CancelScope()
        #: Those that were let go because they watch, and those whose requests rest, until then.
        self._told: set[int] = set()
        self._resting: dict[int, Connection] = {}
        self._rest_ends = 0.0

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
            calm = now + limits.drain_seconds * CALM
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

    # ------------------------------------------------------------------ calm.Watchers

    async def look(self, resting: Origins) -> Seen:
        return self.see(resting)

    async def look_there(self, resting: Origins) -> tuple[Readings, float] | None:
        with trio.move_on_after(LONGEST_REST):
            return await self._look_there(resting)
        return None

    async def let_go(self, origins: Origins) -> None:
        self.tell(origins)

    def see(self, resting: Origins) -> Seen:
        """Have requests of those origins rest that do not go on with something, and no others."""
        began = thread_time()
        self._rest_ends = trio.current_time() + LONGEST_REST
        watching: dict[Origin | None, int] = {}
        greeting: dict[Origin | None, tuple[float, int]] = {}
        for number, one in self._connections.items():
            if one.greets:
                latest, waiting = greeting.get(one.origin, NOBODY)
                greeting[one.origin] = max(latest, one.opened), waiting + one.awaits_news
            if one.monitors:
                if number not in self._told:
                    watching[one.origin] = watching.get(one.origin, 0) + one.awaits_news
            elif number not in self._resting and one.origin in resting:
                self._resting[number] = one
                one.rest(True)
        # One whose origin was not known, or that has come to watch, is not to wait either.
        for number, one in list(self._resting.items()):
            if one.monitors or one.origin not in resting:
                del self._resting[number]
                one.rest(False)
        return Seen(watching, greeting, thread_time() - began)

    def found(self, origin: Origin | None, then: float, waiting: int) -> bool:
        return self._found(origin, then, waiting)

    def tell(self, origins: Origins, until: float = math.inf) -> None:
        """Let go of those of these that watch, if it is no later than ``until``: then others do
        not rest any more."""
        if trio.current_time() > until:
            return
        self._tell({number: one for number, one in self._watching() if one.origin in origins})

    def _watching(self) -> Iterable[tuple[int, Connection]]:
        for number, one in self._connections.items():
            if one.monitors and number not in self._told:
                yield number, one

    def _tell(self, watching: Mapping[int, Connection]) -> None:
        self._told |= watching.keys()
        _drain(watching.values())

    # ------------------------------------------------------------------

    async def _drain_the_rest(self, calm: float) -> None:
        """Until the time ``calm`` those who read cursors are not told."""
        with self._grace:
            if self._alone:
                await let_go_in_calm(self, self._store, calm)
            while (now := trio.current_time()) < calm:
                if self._resting and now > self._rest_ends:
                    self.see(frozenset())
                await trio.sleep(LOOK_SECONDS)
            self.see(frozenset())
            while True:
                # Again and again: one that was just opened is known by its second hello.
                self._tell(dict(self._watching()))
                await trio.sleep(LOOK_SECONDS)
        self.see(frozenset())
        _drain(self._connections.values())


def _drain(connections: Iterable[Connection]) -> None:
    for connection in list(connections):
        connection.drain()
