"""What the new process does for the old one, as long as that lets its clients go.

It tells which drivers have found it. It is asked to have requests rest, as they do in the old one
by then, and who reads cursors through it: a driver's pool has connections to both processes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import trio

from proxy.process.calm import NOBODY, Seen
from proxy.process.draining import LONGEST_REST
from proxy.process.found import AT_ONCE, MOST, UNREADABLE, origin_of, say, written
from proxy.process.reads import readings

if TYPE_CHECKING:
    import socket

    from proxy.process.reads import Origins, Reading
    from proxy.session.ids import Origin
    from proxy.session.store import SessionStore

#: How often the new process looks who has come, and the part of its time that goes by that.
_LOOK_SECONDS: Final = 0.02
_SHARE: Final = 0.1


class Looking(Protocol):
    """A cluster of the new process."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def store(self) -> SessionStore:
        """Its sessions."""

    async def look(self, resting: Origins) -> Seen | None:
        """As :meth:`proxy.process.calm.Watchers.look`."""


async def help_predecessor(
    channel: socket.socket, clusters: Sequence[Looking], leaving: Callable[[], bool]
) -> None:
    """Until the old process has ended, or this one is ``leaving`` itself."""
    helps = [_Help(channel, cluster) for cluster in clusters]
    by_name = {one.name: one for one in helps}
    with channel:
        try:
            # An older version hears nothing new in this.
            if not _say(channel, {"found": [], "waiting": [], "looks": True}):
                return
            when = 0.0
            while not leaving():
                if trio.current_time() >= when:
                    spent = max([await one.look() for one in helps])
                    when = trio.current_time() + max(_LOOK_SECONDS, spent / _SHARE)
                with trio.move_on_at(when):
                    await trio.lowlevel.wait_readable(channel)
                try:
                    asked = channel.recv(MOST)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                if not asked:
                    return
                try:
                    question = _Question.read(asked)
                except UNREADABLE:
                    continue
                one = by_name.get(question.cluster)
                if one is not None:
                    await one.answer(question)
                elif not question.more:  # the old process had a cluster that is in no file now
                    nothing = {"reading": [], "seconds": 0.0, "more": False}
                    await say(channel, {"number": question.number, **nothing})
        finally:
            with trio.CancelScope(shield=True):
                for one in helps:
                    await one.end()


class _Question(NamedTuple):
    cluster: str
    number: int
    rest: list[Origin | None]
    more: bool

    @classmethod
    def read(cls, asked: bytes) -> _Question:
        said = json.loads(asked)
        return cls(
            str(said["look"]), said["number"], list(map(origin_of, said["rest"])), said["more"]
        )


class _Help:
    """Of one cluster."""

    def __init__(self, channel: socket.socket, cluster: Looking) -> None:
        self.name = cluster.name
        self._channel = channel
        self._cluster = cluster
        #: By who has come: what the old process was told last.
        self._newest: dict[Origin | None, tuple[float, int]] = {}
        self._asked: set[Origin | None] = set()
        self._resting: Origins = frozenset()
        self._rest_ends = math.inf

    async def look(self) -> float:
        """Tell who has come; how many seconds it took to look."""
        if trio.current_time() >= self._rest_ends:
            self._resting = frozenset()
        seen = await self._see()
        if seen is None:
            return 0.0
        news = []
        for origin, found in seen.greeting.items():
            told = self._newest.get(origin, NOBODY)
            if found[0] > told[0] or found[1] != told[1]:
                news.append((origin, found))
        for start in range(0, len(news), AT_ONCE):
            some = news[start : start + AT_ONCE]
            who, many = [(self.name, origin) for origin, _ in some], [found[1] for _, found in some]
            if not _say(self._channel, {"found": who, "waiting": many}):
                break  # the rest is told later
            self._newest.update(some)
        return seen.seconds

    async def answer(self, question: _Question) -> None:
        """Have requests rest, and say who reads what then."""
        self._asked.update(question.rest)
        if question.more:
            return
        self._resting, self._asked = frozenset(self._asked), set()
        self._rest_ends = trio.current_time() + LONGEST_REST
        seen = await self._see()
        if seen is not None and not seen.whole:
            return  # the old process waits for a while, and knows that it is not known
        found = readings(self._cluster.store, self._resting, trio.current_time())
        # The old process may not read what it has asked for: requests are to go on all the same.
        with trio.move_on_after(LONGEST_REST):
            await self._tell(question.number, list(found.items()), seen.seconds if seen else 0.0)

    async def _see(self) -> Seen | None:
        # A worker that hangs is not to have those of the others rest meanwhile.
        with trio.move_on_after(LONGEST_REST if self._resting else math.inf):
            return await self._cluster.look(self._resting)
        return Seen({}, {}, 0.0, whole=False)

    async def _tell(
        self, number: int, reads: list[tuple[Origin | None, Reading]], seconds: float
    ) -> None:
        for start in range(0, max(1, len(reads)), AT_ONCE):
            answer = {
                "number": number,
                "reading": reads[start : start + AT_ONCE],
                "seconds": seconds,
                "more": start + AT_ONCE < len(reads),
            }
            if not await say(self._channel, answer):
                return

    async def end(self) -> None:
        """Nothing rests any more."""
        if self._resting:
            self._resting = frozenset()
            await self._cluster.look(self._resting)


def _say(channel: socket.socket, what: dict[str, Any]) -> bool:
    """Whether there was room for it."""
    try:
        channel.send(written(what))
    except OSError:
        return False
    return True
