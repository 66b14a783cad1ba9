"""Connections on which another protocol is spoken than was expected: counted and logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy import logs

if TYPE_CHECKING:
    from proxy.observe.telemetry import Telemetry


class Strangers:
    """Tells of connections on which another protocol is spoken than was expected."""

    def __init__(self, telemetry: Telemetry, cluster: str = "") -> None:
        self._telemetry = telemetry
        log = logs.of_cluster(cluster)
        # One for each side: a client that goes on trying does not hide that upstream is wrong.
        self._lines = {side: logs.Seldom(log, "wrong protocol") for side in ("client", "upstream")}

    def met(self, now: float, side: str, protocol: str, problem: str, **where: str) -> None:
        """Count it, and log it if that was not done just now; ``where`` are the two addresses."""
        self._telemetry.foreign(side, protocol)
        self._lines[side].warn(now, side=side, protocol=protocol, problem=problem, **where)
