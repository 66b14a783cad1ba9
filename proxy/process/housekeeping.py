"""What has to happen though nobody asks: forgetting sessions, and saying what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from proxy import logs

if TYPE_CHECKING:
    from proxy.conversation.sharing import Sessions
    from proxy.observe.slow import SlowLog
    from proxy.upstream.facts import Upstreams

#: Seconds between two rounds.
INTERVAL: Final = 1.0

#: Sessions looked at in one go, which takes well under the 10 ms that the loop may be held.
_SLICE: Final = 500


async def keep_house(sessions: Sessions, upstreams: Upstreams, log: SlowLog | None = None) -> None:
    """Sweep every :data:`INTERVAL` until cancelled."""
    while True:
        await trio.sleep(INTERVAL)
        now = trio.current_time()
        if log is not None:
            log.look(now)
        sessions.recorder.look(now)
        logs.look(now)
        while sessions.unfinished:
            for _ in sessions.unfinished.popleft():
                await trio.lowlevel.checkpoint()
        sessions.store.timeout = upstreams.timeout_minutes * 60.0
        while sessions.store.expire(trio.current_time(), _SLICE).more:
            await trio.lowlevel.checkpoint()
