"""The metrics page for somebody who asks over the network, and how late the loop is."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import trio

from proxy.observe.families import Page
from proxy.observe.merging import Merged, labelled, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from proxy.observe.merging import Family, Sample
    from proxy.observe.telemetry import Telemetry

#: Seconds between two looks at how late the loop is.
_PROBE: Final = 0.1

#: Threads for the text of pages. Slow name look-ups may have all of those that trio lends.
_THREADS: Final = trio.CapacityLimiter(4)

#: For one cluster without a name.
ONLY: Final[Mapping[str, Telemetry]] = MappingProxyType({})


async def metrics_page(telemetry: Telemetry, accept: str = "") -> tuple[str, bytes]:
    """The page as (content type, body).

    What is read is read in slices, and the text is made in a thread: clients wait for none of
    it. What is read last may be some milliseconds younger than what is read first.
    """
    page = await _read(telemetry.collect)
    return await trio.to_thread.run_sync(page.render, accept, limiter=_THREADS)


class Scraping:
    """The page of one process, and its part of the page of several.

    ``clusters`` are what is counted by their names; that of a single one without a name is
    ``process`` itself.
    """

    def __init__(self, process: Telemetry, clusters: Mapping[str, Telemetry] = ONLY) -> None:
        self._process = process
        self._clusters = clusters

    async def metrics(self, accept: str = "") -> tuple[str, bytes]:
        """As :func:`metrics_page`, of all clusters."""
        if not self._clusters:
            return await metrics_page(self._process, accept)
        merged = Merged()
        merged.add(await self.own_part())
        return await whole_page(merged, accept)

    async def gather(self) -> None:
        """Have the incidents of all processes where they are looked for."""

    async def decisions(self) -> dict[str, dict[tuple[str, str], int]]:
        """How often each (rule, decision) came, by the names of the clusters."""
        clusters = self._clusters or {"": self._process}
        return {
            name: {(rule, decision): count for (rule, decision), count in one.decided().items()}
            for name, one in clusters.items()
        }

    async def namespaces(self) -> dict[str, list[Sample]]:
        """The series of what is counted by namespace, by the names of the clusters."""
        clusters = self._clusters or {"": self._process}
        return {
            name: [one for family in plain(telemetry.of_namespaces()) for one in family[3]]
            for name, telemetry in clusters.items()
        }

    async def own_part(self) -> list[Family]:
        """This process's part as plain data, what belongs to a cluster labelled with its name."""
        if not self._clusters:
            page = await _read(self._process.collect)
            return await trio.to_thread.run_sync(lambda: plain(page.collect()))
        own = await _read(self._process.of_process)
        parts = [(name, await _read(one.of_cluster)) for name, one in self._clusters.items()]

        def together() -> list[Family]:
            merged = Merged()
            merged.add(plain(own.collect()))
            for name, part in parts:
                merged.add(labelled(plain(part), "cluster", name))
            return merged.families()

        return await trio.to_thread.run_sync(together)


async def _read(collect: Callable[[Page], Iterator[None]]) -> Page:
    page = Page()
    for _ in collect(page):
        await trio.lowlevel.checkpoint()
    return page


async def whole_page(merged: Merged, accept: str = "") -> tuple[str, bytes]:
    """What was put together as (content type, body)."""
    page = Page()
    page.process = False
    merged.onto(page)
    return await trio.to_thread.run_sync(page.render, accept, limiter=_THREADS)


async def watch_the_loop(telemetry: Telemetry) -> None:
    """Count how late the loop comes to a task that is due, until cancelled."""
    while True:
        due = trio.current_time() + _PROBE
        await trio.sleep_until(due)
        telemetry.late(trio.current_time() - due)
