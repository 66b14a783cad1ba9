"""What the new process tells the old one, which lets its clients go: who has found it, and who
reads cursors through it.

Both have an end of the socket pair over which the new one has said that it is ready.
:mod:`proxy.process.takeover` is the other end.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy.process.reads import Reading
from proxy.session.ids import Origin

if TYPE_CHECKING:
    import socket

    from proxy.process.reads import Origins, Readings

#: Told at a time, which is some kilobytes.
AT_ONCE: Final = 20

#: Bytes that are received at a time.
MOST: Final = 65_536

#: What another version says beside what is known here may fail so; it is for another version.
UNREADABLE: Final = (AttributeError, LookupError, TypeError, ValueError)

#: How long it is waited for what the new process sees.
_PATIENCE: Final = 1.0

#: How often one origin's news are remembered.
_REMEMBERED: Final = 100


@dataclass(slots=True)
class _Question:
    """What is asked of the new process: what it found, and in how many ``seconds`` if it did."""

    number: int
    found: dict[Origin | None, Reading] = field(default_factory=dict)
    seconds: float | None = None
    over: trio.Event = field(default_factory=trio.Event)


class Found:
    """What the old process was told."""

    def __init__(self) -> None:
        self._channel: socket.socket | None = None
        #: By who has come: when there was news, and how many connections waited for some there.
        self._news: dict[tuple[str, Origin | None], deque[tuple[float, int | None]]] = {}
        #: Whether it looks for this process, as one of an older version does not.
        self._looks = False
        #: One question at a time: each cluster asks.
        self._asking = trio.Lock()
        self._question = _Question(0)
        self._rest: dict[str, Origins] = {}

    def since(self, cluster: str, origin: Origin | None, then: float, waiting: int) -> bool:
        """Whether a driver has found the new process since then, or nobody would tell.

        By so many more connections than before it has to be ``waiting`` for news there: only then
        it has taken in that there is a server again.
        """
        if self._channel is None:
            return True
        news = self._news.get((cluster, origin))
        if news is None or news[-1][0] < then:
            return False
        known = news[-1][1]
        if known is None:
            return True  # an older version, which does not say
        before = next((many or 0 for when, many in reversed(news) if when < then), 0)
        return known - before >= waiting

    async def look_there(self, cluster: str, resting: Origins) -> tuple[Readings, float] | None:
        """As :meth:`proxy.process.calm.Watchers.look_there`, in the new process."""
        async with self._asking:
            if not self._looks or not (resting or self._rest.get(cluster)):
                return {}, 0.0
            self._rest[cluster] = resting
            question = self._question = _Question(self._question.number + 1)
            with trio.move_on_after(_PATIENCE):
                if await self._ask(cluster, list(resting)):
                    await question.over.wait()
            return None if question.seconds is None else (question.found, question.seconds)

    async def hear(self, channel: socket.socket) -> None:
        """Until the new process has no more to tell, as one of an older version has not."""
        self._channel = channel
        try:
            while told := await _receive(channel):
                with suppress(*UNREADABLE):
                    self._hear(json.loads(told))
        finally:
            self._channel, self._looks = None, False
            self._question.over.set()

    async def _ask(self, cluster: str, resting: list[Origin | None]) -> bool:
        """Whether all of it was said."""
        for start in range(0, max(1, len(resting)), AT_ONCE):
            some, behind = resting[start : start + AT_ONCE], start + AT_ONCE < len(resting)
            asked = {"look": cluster, "number": self._question.number, "rest": some, "more": behind}
            if self._channel is None or not await say(self._channel, asked):
                return False
        return True

    def _hear(self, said: dict[str, Any]) -> None:
        if "number" in said:
            self._hear_answer(said)
            return
        self._looks = self._looks or "looks" in said
        waiting = said.get("waiting") or repeat(None)
        for (cluster, origin), many in zip(said["found"], waiting, strict=False):
            key = cluster, origin_of(origin)
            news = self._news.setdefault(key, deque(maxlen=_REMEMBERED))
            news.append((trio.current_time(), many))

    def _hear_answer(self, said: dict[str, Any]) -> None:
        question = self._question
        if said["number"] != question.number:
            return  # it was too late
        for origin, reading in said["reading"]:
            question.found[origin_of(origin)] = Reading(*reading)
        if not said["more"]:
            question.seconds = said["seconds"]
            question.over.set()


def origin_of(told: list[str] | None) -> Origin | None:
    """Where somebody comes from, as JSON has it."""
    return None if told is None else Origin(*told)


def written(what: dict[str, Any]) -> bytes:
    """What is said, in fewer bytes than :data:`MOST`: what clients say of themselves is short, but
    as JSON escapes it could be longer than that."""
    return json.dumps(what, ensure_ascii=False).encode()


async def say(channel: socket.socket, what: dict[str, Any]) -> bool:
    """Whether it could be said: the other process may have ended."""
    data = written(what)
    while True:
        try:
            channel.send(data)
        except BlockingIOError:
            try:
                await trio.lowlevel.wait_writable(channel)
            except (OSError, trio.ClosedResourceError):
                return False
        except OSError:
            return False
        else:
            return True


async def _receive(channel: socket.socket) -> bytes:
    try:
        await trio.lowlevel.wait_readable(channel)
        return channel.recv(MOST)
    except (OSError, trio.ClosedResourceError):
        return b""
