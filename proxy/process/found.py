"""Drivers that have found the new process: it tells the old one, which lets their requests rest.

Both have an end of the socket pair over which the new one has said that it is ready.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
        self._times: dict[tuple[str, Origin | None], float] = {}

    def since(self, cluster: str, origin: Origin | None, then: float) -> bool:
        """Whether a driver has found the new process since then, or nobody would tell."""
        return not self._hears or self._times.get((cluster, origin), -1.0) >= then

    async def hear(self, channel: socket.socket) -> None:
        """Until the new process has no more to tell, as one of an older version has not."""
        self._hears = True
        try:
            while told := await _receive(channel):
                for cluster, origin in json.loads(told)["found"]:
                    key = cluster, None if origin is None else Origin(*origin)
                    self._times[key] = trio.current_time()
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
    newest: dict[tuple[str, Origin | None], int] = {}
    with channel:
        while not leaving() and _listens(channel):
            spent = 0.0
            for cluster in clusters:
                seen = await cluster.look(frozenset())
                if seen is None:
                    continue
                spent = max(spent, seen.seconds)
                news = [
                    ((cluster.name, origin), number)
                    for origin, number in seen.greeting.items()
                    if number > newest.get((cluster.name, origin), 0)
                ]
                for start in range(0, len(news), _AT_ONCE):
                    some = news[start : start + _AT_ONCE]
                    if not _say(channel, [who for who, _ in some]):
                        break  # the rest is told later
                    newest.update(some)
            await trio.sleep(max(_LOOK_SECONDS, spent / _SHARE))


def _say(channel: socket.socket, found: Sequence[Any]) -> bool:
    """Whether there was room for it."""
    try:
        channel.send(json.dumps({"found": found}).encode())
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
