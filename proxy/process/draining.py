"""How clients are let go when the process ends: in an order in which drivers lose no work.

A driver finds out that a connection of its pool was closed by using it, and what it does not run
again by itself (getMore, commands of the application's own) is lost. But when a connection ends by
which it watches the server, it gives up the whole pool at once, and what comes next waits until
there is a server again. So those end first, and the others have a moment to be left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from proxy.process.connection import Connection
    from proxy.settings.config import Limits

#: How often it is looked who watches the server by now.
_LOOK_SECONDS: Final = 0.05


class Draining:
    """Lets go of ``connections``, by their numbers, once it is :meth:`begin`'s time.

    Unless the process is ``alone``, others have connections by which its clients watch.
    """

    def __init__(self, connections: Mapping[int, Connection], *, alone: bool = True) -> None:
        self._connections = connections
        self._alone = alone
        self.begun = False
        #: Those that clients may leave by themselves.
        self._awaited: set[int] = set()
        self._grace = trio.CancelScope()

    def begin(self, serving: trio.Nursery, limits: Limits, *, replaced: bool = False) -> None:
        """End what is idle soon, and whatever is left when ``limits`` say so.

        Where another process takes clients already there is no hurry: also drivers that look for
        their server every ten seconds can leave by themselves, and who has just come is served.
        """
        self.begun = True
        serving.cancel_scope.deadline = trio.current_time() + limits.drain_seconds
        connections = self._connections.values()
        # One that said hello and no more is about to be used, or to watch.
        self._awaited = {
            number
            for number, one in self._connections.items()
            if one.works or one.greets or (replaced and not one.monitors)
        }
        told = any(one.greets for one in connections) and any(one.works for one in connections)
        if told or ((replaced or not self._alone) and self._awaited):
            idle = limits.drain_idle_seconds
            idle = max(idle, limits.drain_seconds / 2) if replaced else idle
            serving.start_soon(self._drain_the_rest, idle)
        else:
            _drain(self._connections.values())

    def left(self, number: int) -> None:
        """A connection ended."""
        self._awaited.discard(number)
        if self.begun and not self._awaited:
            self._grace.cancel()

    async def _drain_the_rest(self, seconds: float) -> None:
        with self._grace:
            self._grace.deadline = trio.current_time() + seconds
            while True:
                # Again and again: one that was just opened is known by its second hello.
                _drain(one for one in self._connections.values() if one.monitors)
                await trio.sleep(_LOOK_SECONDS)
        _drain(self._connections.values())


def _drain(connections: Iterable[Connection]) -> None:
    for connection in list(connections):
        connection.drain()
