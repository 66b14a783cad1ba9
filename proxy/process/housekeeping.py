"""What has to happen to sessions though nobody asks: forgetting them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from proxy.conversation.desk import Sessions
    from proxy.upstream.facts import Upstreams

#: Seconds between two rounds.
INTERVAL: Final = 1.0

#: Sessions looked at in one go, which takes well under the 10 ms that the loop may be held.
_SLICE: Final = 500


async def keep_house(sessions: Sessions, upstreams: Upstreams) -> None:
    """Sweep every :data:`INTERVAL` until cancelled."""
    while True:
        await trio.sleep(INTERVAL)
        while sessions.unfinished:
            for _ in sessions.unfinished.popleft():
                await trio.lowlevel.checkpoint()
        sessions.store.timeout = upstreams.timeout_minutes * 60.0
        while sessions.store.expire(trio.current_time(), _SLICE).more:
            await trio.lowlevel.checkpoint()
