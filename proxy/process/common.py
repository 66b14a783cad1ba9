"""What the clusters of one process have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    remembered, ``traces`` where nobody gets spans.
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
    serving: trio.Nursery | None = None
