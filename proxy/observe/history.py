"""The flight recorder: what became of sessions in the last hours, and how many there were.

Three rings, so that what is frequent cannot displace what is rare: sessions' lives (their starts
and ends, and those of transactions), everything else that happens, and samples of the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy.observe.flight import FlightLog
from proxy.observe.rings import FileRing, MemoryRing, Ring

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.observe.flight import Row

#: Of what there is room for, each ring's share.
_SHARES: Final = {"sessions": 0.75, "events": 0.2, "samples": 0.05}

#: Seconds from one sample to the next.
EVERY: Final = 10.0


class Counted(NamedTuple):
    """What a process has counted of a cluster, all in all; ``connections`` are open now."""

    requests: int
    errors: int
    refused: int
    connections: int


class Sample(NamedTuple):
    """The numbers of a moment. From ``requests`` on it is how many there were since the last."""

    time: int
    cluster: str
    sessions: int
    transactions: int
    cursors: int
    connections: int
    requests: int
    errors: int
    refused: int
    started: int


#: Those of them that add up over time, where of the others the most is of interest.
FLOWS: Final = frozenset(("requests", "errors", "refused", "started"))


class History:
    """What is remembered of the last ``hours`` in ``size`` bytes, in memory or below ``file``.

    ``clock`` is that of sessions.
    """

    def __init__(
        self, clock: Callable[[], float], hours: float, size: int, file: Path | None = None
    ) -> None:
        self._clock = clock
        self.hours = hours
        self._rings: dict[str, Ring] = {
            name: MemoryRing(int(size * share))
            if file is None
            else FileRing(file.with_name(f"{file.name}.{name}"), int(size * share))
            for name, share in _SHARES.items()
        }
        #: The program's own events, beside those of clusters.
        self.own = FlightLog(clock)
        self.flights: list[FlightLog] = [self.own]

    def flight(self, cluster: str, *, whole: bool = True) -> FlightLog:
        """What a cluster's sessions are noted with."""
        made = FlightLog(self._clock, cluster, whole=whole)
        self.flights.append(made)
        return made

    def rows(self, epoch: float) -> Iterator[tuple[list[Row], list[Row]]]:
        """What was noted since the last time, some at a time, to be :meth:`add`-ed."""
        return chain.from_iterable(one.rows(epoch) for one in self.flights if one)

    def add(self, lives: Sequence[Row], events: Sequence[Row]) -> None:
        """Remember these, which this process or another one has noted."""
        if lives:
            self._rings["sessions"].add(lives)
        if events:
            self._rings["events"].add(events)

    def sample(self, samples: Sequence[Sample]) -> None:
        """Remember the numbers of a moment."""
        self._rings["samples"].add(samples)

    def write(self, wall: float) -> None:
        """See :meth:`proxy.observe.rings.Ring.write`; ``wall`` is the time since 1970."""
        before = int((wall - self.hours * 3600) * 1000)
        for ring in self._rings.values():
            ring.write(before)

    def blocks(self, name: str, since: int, until: int) -> Iterator[bytes]:
        """See :class:`proxy.observe.rings.Ring`, of which ``name`` is one."""
        return self._rings[name].blocks(since, until)

    def first(self, name: str) -> int:
        """When the oldest row of a ring is from; 0 where there is none."""
        return self._rings[name].first()

    def waiting(self, name: str) -> list[Sequence[Any]]:
        """See :class:`proxy.observe.rings.Ring`."""
        return self._rings[name].waiting()


class Sampling:
    """Makes samples of what several processes have counted in all."""

    def __init__(self) -> None:
        #: By process and cluster: what it said last.
        self._said: dict[tuple[int, str], Counted] = {}
        self._grown: dict[str, list[int]] = {}
        self._started: dict[str, int] = {}

    def hear(self, process: int, counted: Mapping[str, Counted]) -> None:
        """A process has counted so much by now."""
        for cluster, now in counted.items():
            before = self._said.get((process, cluster), Counted(0, 0, 0, 0))
            grown = self._grown.setdefault(cluster, [0, 0, 0])
            for place in range(3):
                # One that was replaced begins anew.
                less = now[place] < before[place]
                grown[place] += now[place] if less else now[place] - before[place]
            self._said[process, cluster] = now

    def gone(self, process: int) -> None:
        """A process is no more, nor are its connections."""
        for key in [key for key in self._said if key[0] == process]:
            del self._said[key]

    def take(
        self, time: int, cluster: str, sessions: int, transactions: int, cursors: int, started: int
    ) -> Sample:
        """The next sample of a cluster, of which so many sessions were ever ``started``."""
        connections = sum(
            one.connections for (_, name), one in self._said.items() if name == cluster
        )
        grown = self._grown.pop(cluster, [0, 0, 0])
        new = started - self._started.get(cluster, 0)
        self._started[cluster] = started
        now = sessions, transactions, cursors, connections
        return Sample(time, cluster, *now, grown[0], grown[1], grown[2], new)
