"""Drivers that have found the new process: it tells the old one, which lets their requests rest.

Both have an end of the socket pair over which the new one has said that it is ready.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from proxy.session.ids import Origin

if TYPE_CHECKING:
    import socket

    from proxy.process.calm import Origins, Seen

#: How often the new process looks who has come, and the part of its time that goes by that.
_LOOK_SECONDS: Final = 0.02
_SHARE: Final = 0.1

#: Told at a time, which is some kilobytes.
_AT_ONCE: Final = 20

#: How often one origin's news are remembered.
_REMEMBERED: Final = 100
_MOST: Final = 65_536


class Looking(Protocol):
    """A cluster of the new process."""

    @property
    def name(self) -> str:
        """What it is called."""

    async def look(self, resting: Origins) -> Seen | None:
        """As :meth:`proxy.process.calm.Watchers.look`."""


class Found:
    """What the old process was told."""

    def __init__(self) -> None:
        self._hears = False
        #: By who has come: when there was news, and how many connections waited for some there.
        self._news: dict[tuple[str, Origin | None], deque[tuple[float, int | None]]] = {}

    def since(self, cluster: str, origin: Origin | None, then: float, waiting: int) -> bool:
        """Whether a driver has found the new process since then, or nobody would tell.

        By so many more connections than before it has to be ``waiting`` for news there: only then
        it has taken in that there is a server again.
        """
        if not self._hears:
            return True
        news = self._news.get((cluster, origin))
        if news is None or news[-1][0] < then:
            return False
        known = news[-1][1]
        if known is None:
            return True  # an older version, which does not say
        before = next((many or 0 for when, many in reversed(news) if when < then), 0)
        return known - before >= waiting

    async def hear(self, channel: socket.socket) -> None:
        """Until the new process has no more to tell, as one of an older version has not."""
        self._hears = True
        try:
            while told := await _receive(channel):
                said = json.loads(told)
                waiting = said.get("waiting") or repeat(None)
                for (cluster, origin), many in zip(said["found"], waiting, strict=False):
                    key = cluster, None if origin is None else Origin(*origin)
                    news = self._news.setdefault(key, deque(maxlen=_REMEMBERED))
                    news.append((trio.current_time(), many))
        finally:
            self._hears = False


async def _receive(channel: socket.socket) -> bytes:
    try:
        await trio.lowlevel.wait_readable(channel)
        return channel.recv(_MOST)
    except (OSError, trio.ClosedResourceError):
        return b""


async def tell(
    channel: socket.socket, clusters: Sequence[Looking], leaving: Callable[[], bool]
) -> None:
    """Tell the old process until it has ended, or this one is ``leaving`` itself."""
    newest: dict[tuple[str, Origin | None], tuple[int, int]] = {}
    with channel:
        while not leaving() and _listens(channel):
            spent = 0.0
            for cluster in clusters:
                seen = await cluster.look(frozenset())
                if seen is None:
                    continue
                spent = max(spent, seen.seconds)
                news = []
                for origin, found in seen.greeting.items():
                    told = newest.get((cluster.name, origin), (0, 0))
                    if found[0] > told[0] or found[1] != told[1]:
                        news.append(((cluster.name, origin), found))
                for start in range(0, len(news), _AT_ONCE):
                    some = news[start : start + _AT_ONCE]
                    if not _say(channel, some):
                        break  # the rest is told later
                    newest.update(some)
            await trio.sleep(max(_LOOK_SECONDS, spent / _SHARE))


def _say(channel: socket.socket, found: Sequence[tuple[Any, tuple[int, int]]]) -> bool:
    """Whether there was room for it."""
    told = {"found": [who for who, _ in found], "waiting": [many for _, (_, many) in found]}
    try:
        channel.send(json.dumps(told).encode())
    except OSError:
        return False
    return True


def _listens(channel: socket.socket) -> bool:
    try:
        return bool(channel.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
