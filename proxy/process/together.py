"""What operators see of several processes: their answers, put together.

Sessions are all known here (:mod:`proxy.session.hub`); what else is asked, each worker answers for
its part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from proxy.admin import Process
from proxy.observe.merging import Merged
from proxy.observe.scraping import own_part, whole_page
from proxy.observe.telemetry import Incident
from proxy.process.worker_cluster import SUMMED
from proxy.session.counts import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from proxy.listing import Row
    from proxy.observe.telemetry import Telemetry
    from proxy.process.whole_cluster import WholeCluster
    from proxy.process.worker import Part
    from proxy.session.counts import Told


class Answering(Protocol):
    """A worker that answers."""

    @property
    def slot(self) -> int:
        """Its place among the workers."""


class Together(Process):
    """The overview of several processes."""

    def __init__(
        self,
        clusters: Sequence[WholeCluster],
        telemetry: Telemetry,
        ask_each: Callable[[str], Awaitable[Iterable[tuple[Answering, Any]]]],
    ) -> None:
        [cluster] = clusters
        super().__init__(cluster, telemetry, executes=False)
        self._ask_each = ask_each
        self._clusters = clusters
        #: What those have counted that are gone, and what those that live said last.
        self._gone = Merged()
        self._gone_counts = {cluster.name: Counts() for cluster in clusters}
        self._gone_numbers = {cluster.name: dict.fromkeys(SUMMED, 0) for cluster in clusters}
        self._last: dict[int, Part] = {}

    def keep(self, slot: int, *part: Any) -> None:  # noqa: ANN401 - a Part
        """A worker says this, perhaps last of all."""
        self._last[slot] = part

    def lost(self, slot: int) -> None:
        """A worker is gone: what it had counted stays counted, as far as it has said so."""
        if slot in self._last:
            families, counted = self._last.pop(slot)
            self._gone.add(families, lasting=True)
            for cluster, (counts, numbers) in counted.items():
                self._gone_counts[cluster].add(counts)
                for name, number in numbers.items():
                    self._gone_numbers[cluster][name] += number

    def counts(self, cluster: str) -> list[Told]:
        """What all of them have counted of a cluster's sessions, for themselves."""
        counted = (counted[cluster] for _, counted in self._last.values())
        return [self._gone_counts[cluster].told(), *(counts for counts, _ in counted)]

    def _add_up(self, cluster: WholeCluster) -> None:
        for name in SUMMED:
            numbers = (counted[cluster.name][1][name] for _, counted in self._last.values())
            setattr(cluster.hub, name, self._gone_numbers[cluster.name][name] + sum(numbers))

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        for link, part in await self._ask_each("metrics"):
            self.keep(link.slot, *part)
        for cluster in self._clusters:
            self._add_up(cluster)
        await self._gather_incidents()
        merged = Merged()
        merged.add(await own_part(self._telemetry))
        for families, _ in self._last.values():
            merged.add(families)
        merged.add(self._gone.families())
        return await whole_page(merged, accept)

    async def incidents(self) -> list[Row]:
        await self._gather_incidents()
        return await super().incidents()

    async def _gather_incidents(self) -> None:
        own = self._telemetry.session_incidents, self._telemetry.rule_incidents
        found: list[tuple[float, int, tuple[str, ...]]] = []
        for _, answer in await self._ask_each("incidents"):
            for number, recent in enumerate(answer):
                found += [(when, number, who) for who, when in recent]
        for when, number, who in sorted(found):
            own[number].note(Incident(*who), when)
