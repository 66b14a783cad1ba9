"""Until when the certificates are good that are in use: warned of and kept for the metrics."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from proxy.net import certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from structlog.typing import FilteringBoundLogger

    from proxy.net.certificates import Certificates
    from proxy.settings.config import Config

_READ: Final[dict[str, Callable[[Config], Certificates]]] = {
    "listener": certificates.of_clients,
    "upstream": certificates.of_upstream,
}

#: Series of the metric: an operator may map any number of certificates. Those that end first.
MOST_SHOWN: Final = 100


class Expiry:
    """What the certificates said when they were read last."""

    def __init__(self, config: Config, log: FilteringBoundLogger) -> None:
        self._config = config
        self._log = log
        self._found: dict[str, Certificates] = {}

    def look(self, sides: Collection[str] = certificates.SIDES) -> None:
        """Read those of these sides, which were just loaded, and warn of what is wrong."""
        for side in sides:
            found = self._found[side] = _READ[side](self._config)
            for problem in found.warnings(time.time()):
                self._log.warning("certificate", problem=problem)

    def ends(self) -> dict[tuple[str, str, str], float]:
        """By side, role and file, when the first of them expires, in seconds since 1970."""
        first: dict[tuple[str, str, str], float] = {}
        for found in self._found.values():
            for one in found.all:
                at = one.side, one.role, str(one.file)
                first[at] = min(one.ends, first.get(at, one.ends))
        soonest = sorted(first.items(), key=lambda pair: pair[1])
        return dict(soonest[:MOST_SHOWN])
