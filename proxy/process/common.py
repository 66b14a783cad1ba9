"""What the clusters of one process have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from proxy.process.found import Found

if TYPE_CHECKING:
    import trio

    from proxy.net.inherited import Inherited
    from proxy.net.limits import BufferBudget, Places
    from proxy.observe.audit import AuditLog
    from proxy.observe.history import History
    from proxy.observe.telemetry import Telemetry
    from proxy.observe.traces import Traces


@dataclass(slots=True)
class Common:
    """What the clusters of a process have in common.

    ``serving`` runs the connections; before it is there, nobody is taken. ``reserved`` are the
    ports of listeners that have a place, ``mark`` is the proxy's (:mod:`proxy.upstream.ways`).
    ``about`` and ``draining`` are as :mod:`proxy.admin` asks; ``history`` is None where nothing is
    remembered, ``traces`` where nobody gets spans. ``found`` are drivers that have found a new
    process.
    """

    telemetry: Telemetry
    audit: AuditLog
    budget: BufferBudget
    places: Places
    numbers: Iterator[int]
    inherited: Inherited
    reserved: Collection[int]
    mark: str
    about: Callable[[], dict[str, Any]]
    draining: Callable[[], bool]
    history: History | None = None
    traces: Traces | None = None
    found: Found = field(default_factory=Found)
    serving: trio.Nursery | None = None


def together(answers: Iterable[tuple[str, tuple[bool, str]]]) -> tuple[bool, str]:
    """Whether all clusters can be served, and if not, which are away and why."""
    away = [f"cluster {name}: {why}" if name else why for name, (yes, why) in answers if not yes]
    return not away, "; ".join(away)
