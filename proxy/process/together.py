"""The metrics of several processes, put together: what each worker answers for its part."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

import trio

from proxy.observe.merging import Merged, counted_as
from proxy.observe.scraping import Scraping, whole_page
from proxy.process.worker_cluster import SUMMED
from proxy.session.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from proxy.observe.merging import Sample
    from proxy.observe.telemetry import Telemetry
    from proxy.process.whole_cluster import WholeCluster
    from proxy.process.worker import Part
    from proxy.session.counts import Told


class Answering(Protocol):
    """A worker that answers."""

    @property
    def slot(self) -> int:
        """Its place among the workers."""


class Together(Scraping):
    """The page of several processes. ``whole`` are the clusters as the supervisor has them."""

    def __init__(
        self,
        process: Telemetry,
        clusters: Mapping[str, Telemetry],
        whole: Sequence[WholeCluster],
        ask_each: Callable[[str], Awaitable[Iterable[tuple[Answering, Any]]]],
    ) -> None:
        super().__init__(process, clusters)
        self._ask_each = ask_each
        self._whole = whole
        #: What those have counted that are gone, and what those that live said last.
        self._gone = Merged()
        self._gone_counts = {one.name: Counts() for one in whole}
        self._gone_numbers = {one.name: dict.fromkeys(SUMMED, 0) for one in whole}
        self._last: dict[int, Part] = {}
        #: By slot: how many of them are gone.
        self._deaths: Counter[int] = Counter()

    def keep(self, slot: int, *part: Any) -> None:  # noqa: ANN401 - a Part
        """A worker says this, perhaps last of all."""
        self._last[slot] = part

    def lost(self, slot: int) -> None:
        """A worker is gone: what it had counted stays counted, as far as it has said so."""
        self._deaths[slot] += 1
        if slot in self._last:
            families, counted = self._last.pop(slot)
            self._gone.add(families, lasting=True)
            for cluster, (counts, numbers) in counted.items():
                self._gone_counts[cluster].add(counts)
                for name, number in numbers.items():
                    self._gone_numbers[cluster][name] += number
            self.named()

    def named(self) -> None:
        """Of those that are gone, too, only so many namespaces have names."""
        for one in self._whole:
            self._gone.keep("namespace", one.naming.top.names, one.name)

    def counts(self, cluster: str) -> list[Told]:
        """What all of them have counted of a cluster's sessions, for themselves."""
        counted = (counted[cluster] for _, counted in self._last.values())
        return [self._gone_counts[cluster].told(), *(counts for counts, _ in counted)]

    async def _hear(self) -> None:
        before = self._deaths.copy()
        for link, part in await self._ask_each("metrics"):
            # What one had counted that has died meanwhile, while another one was waited for, is
            # with those that are gone.
            if self._deaths[link.slot] == before[link.slot]:
                self.keep(link.slot, *part)

    async def metrics(self, accept: str = "") -> tuple[str, bytes]:
        async with trio.open_nursery() as nursery:
            # At once: where one does not answer this must not take longer than a scraper waits.
            nursery.start_soon(self._hear)
            nursery.start_soon(self.gather)
        for one in self._whole:
            counted = (counted[one.name][1] for _, counted in self._last.values())
            one.add_up([self._gone_numbers[one.name], *counted])
        merged = Merged()
        merged.add(await self.own_part())
        for families, _ in self._last.values():
            merged.add(families)
        merged.add(self._gone.families())
        return await whole_page(merged, accept)

    async def decisions(self) -> dict[str, dict[tuple[str, str], int]]:
        await self._hear()
        found = await super().decisions()
        for families in (self._gone.families(), *(part for part, _ in self._last.values())):
            for sample, labels, value in counted_as("rule_decisions", families):
                if sample.endswith("_total"):
                    named = dict(labels)
                    of_rules = found.setdefault(named.get("cluster", ""), {})
                    key = named["rule"], named["decision"]
                    of_rules[key] = of_rules.get(key, 0) + int(value)
        return found

    async def namespaces(self) -> dict[str, list[Sample]]:
        await self._hear()
        merged = Merged()
        for families in (self._gone.families(), *(part for part, _ in self._last.values())):
            merged.add(families)
        found: dict[str, list[Sample]] = {}
        for family in merged.families():
            for name, labels, value in family[3]:
                named = dict(labels)
                if "namespace" in named:
                    found.setdefault(named.get("cluster", ""), []).append((name, labels, value))
        return found

    async def gather(self) -> None:
        async with trio.open_nursery() as nursery:
            for one in self._whole:
                nursery.start_soon(one.gather_incidents)
