"""Keeps the history: collects what was noted, takes samples, writes, and notes what changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy import logs
from proxy.observe.history import EVERY, Counted, History, Sampling

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.process.cluster import Cluster
    from proxy.settings.config import Config

#: Seconds until what was noted is where it is found, and until it is in a file.
_COLLECT: Final = 1.0
_WRITE: Final = 2.0

#: This process's number among those that count; workers' begin at 0.
_OWN: Final = -1

#: Seconds in which what is left at the end has to be written.
_LAST_SECONDS: Final = 2.0


def make_history(config: Config) -> History | None:
    """What the settings ask for."""
    settings = config.history
    if not settings.hours:
        return None
    return History(trio.current_time, settings.hours, settings.bytes, settings.file)


def counted_by(clusters: Sequence[Cluster]) -> dict[str, Counted]:
    """What this process has counted."""
    return {
        one.name: Counted(*one.telemetry.totals(), len(one.open_connections)) for one in clusters
    }


class Remembering:
    """Keeps a process's history while :meth:`run` runs.

    One of several workers has no history of its own and is given ``tell``, which gets what it has
    noted and counted instead.
    """

    def __init__(
        self,
        history: History,
        clusters: Sequence[Cluster],
        tell: Callable[..., object] | None = None,
    ) -> None:
        self.history = history
        self._clusters = clusters
        self._tell = tell
        self._sampling = Sampling()
        self._topologies: dict[str, tuple[Any, ...]] = {}
        self._up: dict[tuple[str, Address], bool] = {}
        self._failing = False
        #: One thread: what is written is written in order.
        self._thread: Final = trio.CapacityLimiter(1)

    # ------------------------------------------------------------------ being told

    def hear(
        self,
        process: int,
        lives: Sequence[Any],
        events: Sequence[Any],
        counted: Mapping[str, Counted],
    ) -> None:
        """A worker has noted these and counted so much."""
        self.history.add(lives, events)
        self._sampling.hear(process, counted)

    def gone(self, process: int, **how: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """A worker has died."""
        self._sampling.gone(process)
        self.happened("worker_died", worker=process, **how)

    def happened(self, event: str, **more: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Something has happened to the program."""
        self.history.own.happened(event, more)

    # ------------------------------------------------------------------ the task

    async def run(self) -> None:
        """Until cancelled."""
        sampled = written = trio.current_time()
        self._sample()
        try:
            while True:
                await trio.sleep(_COLLECT)
                now = trio.current_time()
                if self._tell is None:
                    self._look()
                for lives, events in self._rows():
                    self._keep(lives, events)
                    # Not to be cancelled here: what has been taken is nowhere else.
                    await trio.lowlevel.cancel_shielded_checkpoint()
                if now >= sampled + EVERY:
                    sampled = now
                    self._sample()
                if now >= written + _WRITE:
                    written = now
                    await self._write()
        finally:
            self.collect()
            with trio.CancelScope(shield=True), trio.move_on_after(_LAST_SECONDS):
                await self._write()

    def collect(self) -> None:
        """Have all that was noted where it is found, at once."""
        for lives, events in self._rows():
            self._keep(lives, events)

    def _rows(self) -> Any:  # noqa: ANN401 - an iterator of rows
        return self.history.rows(time.time() - trio.current_time())

    def _keep(self, lives: Sequence[Any], events: Sequence[Any]) -> None:
        if self._tell is None:
            self.history.add(lives, events)
        else:
            self._tell(lives, events, {})

    def _sample(self) -> None:
        counted = counted_by(self._clusters)
        if self._tell is not None:
            self._tell([], [], counted)
            return
        self._sampling.hear(_OWN, counted)
        at = int(time.time() * 1000)
        samples = []
        for one in self._clusters:
            store = one.store
            numbers = len(store), store.open_transactions, store.open_cursors()
            samples.append(self._sampling.take(at, one.name, *numbers, one.counts().started))
        self.history.sample(samples)

    async def _write(self) -> None:
        if self._tell is not None:
            return
        try:
            await trio.to_thread.run_sync(
                self.history.write, time.time(), abandon_on_cancel=True, limiter=self._thread
            )
        except OSError as error:
            if not self._failing:
                logs.logger().error("history not written", problem=str(error))
            self._failing = True
        else:
            self._failing = False

    # ------------------------------------------------------------------ upstream

    def _look(self) -> None:
        """Note what has changed upstream."""
        for cluster in self._clusters:
            flight = cluster.flight
            if flight is None:
                continue
            topology = cluster.topology
            members = [str(one) for one in topology.members()]
            primary = str(topology.primary) if topology.primary else None
            seen = topology.kind, members, primary
            before = self._topologies.get(cluster.name)
            if seen != before and topology.kind != "unknown":
                self._topologies[cluster.name] = seen
                what = {"kind": topology.kind, "members": members, "primary": primary}
                if before is not None:
                    what["primary_before"] = before[2]
                flight.happened("topology", what)
            self._look_at(cluster)

    def _look_at(self, cluster: Cluster) -> None:
        assert cluster.flight is not None
        for address in cluster.watcher.up():
            up, _, problem = cluster.watcher.standing(address)
            if up is None:
                continue
            before = self._up.get((cluster.name, address))
            self._up[cluster.name, address] = up
            if up is not before and not (before is None and up):
                what = {"upstream": str(address), "problem": problem or None}
                cluster.flight.happened("upstream_up" if up else "upstream_down", what)
