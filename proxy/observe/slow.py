"""The log's lines about requests that took long, so many and no more."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from proxy.logs import SELDOM_SECONDS
from proxy.observe.labels import code_name

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from proxy.conversation.desk import Desk
    from proxy.conversation.finished import Finished
    from proxy.observe.flight import FlightLog
    from proxy.observe.telemetry import Telemetry

#: Lines in :data:`~proxy.logs.SELDOM_SECONDS`, and how many of them may be about one command on one
#: namespace: others are to be seen beside it.
MOST_LINES: Final = 20
MOST_ALIKE: Final = 5

#: Of a line, what the history has beside whose it was.
_REMEMBERED: Final = (
    *("command", "namespace", "seconds", "upstream_seconds", "proxy_seconds", "result"),
    *("upstream", "comment"),
)


class SlowLog:
    """Writes them for a cluster, and into its history. What was left out is counted, and said when
    the time is over."""

    def __init__(
        self, telemetry: Telemetry, log: FilteringBoundLogger, flight: FlightLog | None = None
    ) -> None:
        self._telemetry = telemetry
        self._log = log
        self._flight = flight
        self._until = 0.0
        #: Lines by what they are about, since then.
        self._written: Counter[tuple[str, str]] = Counter()
        self._left_out = 0

    def tell(self, request: Finished, desk: Desk, now: float) -> None:
        """A request was slow."""
        self.look(now)
        about = request.command, request.namespace
        written = self._written.total() < MOST_LINES and self._written[about] < MOST_ALIKE
        self._telemetry.was_slow("written" if written else "left out")
        if not written:
            self._left_out += 1
            return
        if not self._written:
            self._until = now + SELDOM_SECONDS
        self._written[about] += 1
        line = _line(request, desk)
        self._log.warning("slow request", conn=desk.connection, **line)
        if self._flight is not None:
            session = "" if request.session is None else request.session[0].hex()
            more = {name: line.get(name) for name in _REMEMBERED}
            more |= {"conn": desk.connection, "session": session}
            self._flight.happened("slow", more, desk.identity.name, desk.origin)

    def look(self, now: float) -> None:
        """If the time is over, say what was left out in it, and begin anew."""
        if not self._written or now < self._until:
            return
        if self._left_out:
            self._log.warning("slow requests left out", left_out=self._left_out)
        self._written.clear()
        self._left_out = 0


def _line(request: Finished, desk: Desk) -> dict[str, Any]:
    origin = desk.origin
    inside = max(0.0, request.seconds - request.upstream_seconds)
    line = {
        "command": request.command,
        "namespace": request.namespace or None,
        "seconds": round(request.seconds, 6),
        "upstream_seconds": round(request.upstream_seconds, 6),
        "proxy_seconds": round(inside, 6),
        "result": _result(request),
        "user": desk.identity.name,
        "application": origin.application,
        "driver": f"{origin.driver} {origin.driver_version}".rstrip(),
        "client": origin.client,
        "upstream": desk.upstream,
        "session": None if request.session is None else str(request.session),
        "comment": request.comment,
    }
    return {name: value for name, value in line.items() if value is not None}


def _result(request: Finished) -> str:
    if request.ok is None:
        return "no answer"
    return "ok" if request.ok else code_name(request.code)
