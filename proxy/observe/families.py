"""Counts as the families of series that a page of metrics is made of."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from proxy.counting import Distribution, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

PREFIX: Final = "mongo_session_proxy_"


def counter(
    name: str, documentation: str, labels: tuple[str, ...], tally: Mapping[Any, float]
) -> CounterMetricFamily:
    """A counter with the values of a tally, under the program's prefix."""
    family = CounterMetricFamily(PREFIX + name, documentation, labels=labels)
    for values, count in tally.items():
        family.add_metric(values, count)
    return family


def histogram(
    name: str, documentation: str, label: str, distributions: Mapping[str, Distribution]
) -> HistogramMetricFamily:
    """A histogram with distributions by the value of ``label``; "" is for one without a label."""
    labels = (label,) if label else ()
    family = HistogramMetricFamily(PREFIX + name, documentation, labels=labels)
    for value, one in distributions.items():
        bounds = [*map(str, one.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(one.counts), strict=True))
        family.add_metric((value,) if label else (), buckets, one.sum)
    return family


def gauge(
    name: str, documentation: str, labels: tuple[str, ...], values: Mapping[Any, float]
) -> GaugeMetricFamily:
    """A gauge with these values, under the program's prefix."""
    family = GaugeMetricFamily(PREFIX + name, documentation, labels=labels)
    for one, value in values.items():
        family.add_metric(one, value)
    return family


class Declared:
    """Counters and histograms with their names, to be filled by whoever declared them."""

    def __init__(self) -> None:
        self._counters: list[tuple[str, str, tuple[str, ...], Tally[tuple[str, ...]]]] = []
        self._histograms: list[tuple[str, str, str, dict[str, Distribution]]] = []

    def counter(
        self,
        name: str,
        documentation: str,
        *labels: str,
        start: Iterable[tuple[str, ...]] = (),
    ) -> Tally[tuple[str, ...]]:
        """What is counted by label values. Those that are known to be possible ``start`` at 0,
        so that their first increase can be seen."""
        tally = Tally(dict.fromkeys(start, 0))
        self._counters.append((name, documentation, labels, tally))
        return tally

    def histogram(self, name: str, documentation: str, bounds: tuple[float, ...]) -> Distribution:
        """A distribution without labels."""
        return self.histograms(name, documentation, bounds, "", ("",))[""]

    def histograms(
        self,
        name: str,
        documentation: str,
        bounds: tuple[float, ...],
        label: str,
        values: tuple[str, ...],
    ) -> dict[str, Distribution]:
        """A distribution for each value of a label."""
        made = {value: Distribution(bounds) for value in values}
        self._histograms.append((name, documentation, label, made))
        return made

    def families(self) -> Iterator[Metric]:
        """What all of them hold now, as copies."""
        yield from (counter(*one) for one in self._counters)
        yield from (histogram(*one) for one in self._histograms)


class Page(list[Metric]):
    """The families of one page while it is made. ``process`` says that what the system has to say
    of this process is part of it."""

    process = True

    def number(self, name: str, documentation: str, value: float) -> None:
        """Add a gauge without labels."""
        self.append(gauge(name, documentation, (), {(): value}))

    def gauge(
        self,
        name: str,
        documentation: str,
        labels: tuple[str, ...],
        values: Mapping[Any, float],
    ) -> None:
        """Add a gauge with a value for each tuple of label values."""
        self.append(gauge(name, documentation, labels, values))

    def total(self, name: str, documentation: str, value: float) -> None:
        """Add a counter without labels."""
        self.append(counter(name, documentation, (), {(): value}))

    def collect(self) -> Iterator[Metric]:
        """What the encoders ask for: these, and what the system says of the process."""
        yield from self
        if self.process:
            yield from _PROCESS.collect()

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """The page as (content type, body), in the format that ``accept`` asks for.

        May run in a thread; takes some 10 ms for 1,000 series.
        """
        encode, content_type = choose_encoder(accept)
        make: Callable[[Any], bytes] = encode
        return content_type, make(self)


_PROCESS: Final = ProcessCollector(registry=None)
