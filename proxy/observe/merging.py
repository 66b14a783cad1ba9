"""The metrics of several processes as those of one.

What each has counted adds up, and goes on adding up when one of them is gone: a counter never
falls. What is true of all of them alike (limits, versions) is told once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.metrics_core import Metric

from proxy.counting import OTHER

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from proxy.observe.families import Page

#: A family's name, type and text, and its series: each one's name, labels and value.
Sample = tuple[str, tuple[tuple[str, str], ...], float]
Family = tuple[str, str, str, list[Sample]]

_PREFIX: Final = "mongo_session_proxy_"

#: Gauges that do not add up, and what of several values is shown.
_CHOSEN: Final[dict[str, Callable[[float, float], float]]] = {
    **{
        _PREFIX + name: max
        for name in (
            *("build_info", "rule_info", "draining", "connections_limit", "buffered_bytes_limit"),
            *("config_last_reload_success_timestamp_seconds",),
        )
    },
    _PREFIX + "config_last_reload_successful": min,
    "process_start_time_seconds": min,
    "process_max_fds": max,
    "python_info": max,
}


class _Key(NamedTuple):
    name: str
    labels: tuple[tuple[str, str], ...]


def plain(page: Iterable[Metric]) -> list[Family]:
    """The families of a page as plain data."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [(one.name, tuple(sorted(one.labels.items())), one.value) for one in family.samples],
        )
        for family in page
    ]


def labelled(families: Iterable[Family], label: str, value: str) -> list[Family]:
    """The same with one more label on each series."""
    return [
        (
            family,
            kind,
            text,
            [
                (name, tuple(sorted((*labels, (label, value)))), number)
                for name, labels, number in series
            ],
        )
        for family, kind, text, series in families
    ]


def counted_as(name: str, families: Iterable[Family]) -> list[Sample]:
    """The series of one family."""
    return [one for family in families if family[0] == _PREFIX + name for one in family[3]]


class Merged:
    """Pages that are put together one by one."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str]] = {}
        self._series: dict[str, dict[_Key, float]] = {}

    def add(self, page: Iterable[Family], *, lasting: bool = False) -> None:
        """Add one process's page; only what it counts where it is gone and that is ``lasting``."""
        for name, kind, documentation, samples in page:
            if lasting and kind not in ("counter", "histogram"):
                continue
            self._families.setdefault(name, (kind, documentation))
            series = self._series.setdefault(name, {})
            choose = _CHOSEN.get(name)
            for sample, labels, value in samples:
                key = _Key(sample, labels)
                known = series.get(key)
                if known is None:
                    series[key] = value
                else:
                    series[key] = known + value if choose is None else choose(known, value)

    def keep(self, label: str, values: Collection[str], cluster: str) -> None:
        """Of series with this label keep the ``values`` apart, and add up the rest as ``other``."""
        for series in self._series.values():
            for key in list(series):
                labels = dict(key.labels)
                value = labels.get(label, OTHER)
                mine = labels.get("cluster", "") == cluster
                if mine and value != OTHER and value not in values:
                    rest = tuple(sorted({**labels, label: OTHER}.items()))
                    other = _Key(key.name, rest)
                    series[other] = series.get(other, 0) + series.pop(key)

    def families(self) -> list[Family]:
        """All of it, as one page's."""
        return [
            (name, kind, text, [(key.name, key.labels, value) for key, value in series.items()])
            for name, (kind, text) in self._families.items()
            for series in (self._series[name],)
        ]

    def onto(self, page: Page) -> None:
        """Append all of it to a page."""
        for name, kind, documentation, samples in self.families():
            family = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                family.add_sample(sample, dict(labels), value)
            page.append(family)
