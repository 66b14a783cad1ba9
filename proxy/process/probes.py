"""Connections that ask for nothing: of those that only look whether somebody is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.observe.telemetry import Telemetry

#: Seconds between two lines about them.
INTERVAL: Final = 60.0

#: Addresses that are told apart in a minute, and that a line names.
_MOST_KEPT: Final = 1_000
_MOST_TOLD: Final = 10

#: Addresses beyond those.
_OTHERS: Final = "others"


class Probes:
    """Counts them for the metric, and tells of them once a minute."""

    def __init__(self, telemetry: Telemetry, log: FilteringBoundLogger) -> None:
        self._telemetry = telemetry
        self._log = log
        self._by_host: dict[str, int] = {}

    def seen(self, peer: str) -> None:
        """A client of this address came, said hello at the most, and went."""
        self._telemetry.probed()
        host = peer.rpartition(":")[0] or peer
        if host not in self._by_host and len(self._by_host) >= _MOST_KEPT:
            host = _OTHERS
        self._by_host[host] = self._by_host.get(host, 0) + 1

    def tell(self) -> None:
        """Log how many came since the last call, those of whom most came by their addresses."""
        found, self._by_host = self._by_host, {}
        if found:
            most = sorted(found.items(), key=lambda pair: -pair[1])[:_MOST_TOLD]
            self._log.info("probes", connections=sum(found.values()), by_address=dict(most))

    async def run(self) -> None:
        """Tell of them every :data:`INTERVAL`, and of the rest in the end."""
        try:
            while True:
                await trio.sleep(INTERVAL)
                self.tell()
        finally:
            self.tell()
