"""Ending connections that nobody uses, between requests: drivers then just open another.

Nothing is counted for it per message and no timer runs per connection: now and then it is looked
at which have moved no byte since the last time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import trio

from proxy.listing.slices import in_slices

if TYPE_CHECKING:
    from proxy.conversation.sharing import Sessions
    from proxy.process.asking import Asking
    from proxy.session.ids import Origin

#: Seconds between two rounds: this part of the time that is allowed, within bounds; and until it is
#: looked whether a time was set meanwhile.
_PART: Final = 1 / 8
_LEAST: Final = 0.1
_MOST: Final = 10.0
_OFF: Final = 1.0


class Idling:
    """Ends those of ``connections``, by their numbers, that were idle for ``seconds``; 0 for none.

    Idle is who has nothing in flight, half sent or half read. A hello that is answered as a stream
    is in flight. So is, in effect, a transaction that was begun on the connection and is open; and
    where a driver holds to one connection because of a balancer, whatever its client has open.
    """

    def __init__(
        self,
        sessions: Sessions,
        connections: Mapping[int, Asking],
        seconds: Callable[[], float],
    ) -> None:
        self._sessions = sessions
        self._connections = connections
        self._seconds = seconds
        #: Bytes moved, by connection, and when it was first seen to have moved them.
        self._seen: dict[int, tuple[int, float]] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            seconds = self._seconds()
            await trio.sleep(min(max(seconds * _PART, _LEAST), _MOST) if seconds else _OFF)
            if seconds:
                await self.sweep(trio.current_time(), seconds)
            else:
                self._seen.clear()

    async def sweep(self, now: float, seconds: float) -> None:
        """One round at the time ``now``."""
        seen: dict[int, tuple[int, float]] = {}
        late: list[Asking] = []
        for some in in_slices(list(self._connections.items())):
            for number, one in some:
                moved, before = one.moved, self._seen.get(number)
                if before is None or before[0] != moved or not one.rests:
                    before = moved, now
                elif now - before[1] >= seconds:
                    late.append(one)
                seen[number] = before
            await trio.lowlevel.checkpoint()
        self._seen = seen
        if late:
            begun, busy = await self._open()
            for one in late:
                held = one.id in begun or (one.balanced and self._may_hold(one, busy))
                if not held and one.moved == seen[one.id][0]:
                    one.end_idle(seconds)

    def _may_hold(self, one: Asking, busy: set[Origin | None]) -> bool:
        return not self._sessions.enabled or one.origin in busy

    async def _open(self) -> tuple[set[int], set[Origin | None]]:
        """Connections on which an open transaction was begun; who has anything open."""
        begun: set[int] = set()
        busy: set[Origin | None] = set()
        for active in self._sessions.store.active():
            for some in in_slices(active):
                for session in some:
                    tracker = session.transaction
                    if tracker is not None and tracker.may_be_open:
                        begun.add(tracker.connection)
                    busy.add(session.origin)
                await trio.lowlevel.checkpoint()
        return begun, busy
