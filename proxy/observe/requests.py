"""What is counted of requests: by command, by how long they took, and by namespace."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate, pairwise, product
from math import inf
from typing import TYPE_CHECKING, Final

from prometheus_client.core import HistogramMetricFamily

from proxy.conversation.hello import HELLO_COMMANDS
from proxy.counting import OTHER, Cells, Distribution, Usage
from proxy.observe.by_command import by_command
from proxy.observe.families import PREFIX, counter, histogram
from proxy.observe.labels import COMMANDS
from proxy.observe.namespaces import Namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from proxy.observe.families import Declared

#: Seconds, from 25 µs: a relayed request takes a few hundred microseconds on a fast network.
BUCKETS: Final[tuple[float, ...]] = (
    0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip

#: Those of them that each namespace has. With steps of two or two and a half, a percentile that is
#: reckoned from them is at most twice what it really is, and mostly within a fifth.
FEW_BUCKETS: Final[tuple[float, ...]] = tuple(one for one in BUCKETS if 0.0005 <= one <= 10.0)
_FEW: Final = tuple(map(BUCKETS.index, FEW_BUCKETS))


class Requests:
    """The part of :class:`~proxy.observe.telemetry.Telemetry` that every request passes."""

    def __init__(self, declared: Declared) -> None:
        #: Requests, replies that say ok, and those that do not.
        self._commands = Cells(COMMANDS, 3)
        #: Of what is counted by no namespace.
        self._duration = Distribution(BUCKETS)
        self._slow = declared.counter(
            "slow_requests_total",
            "Requests that took log.slow_seconds or more, by what became of their lines.",
            "line",
            start=product(("written", "left out")),
        )
        #: From so many seconds on a request is slow; and from so many on its end is told.
        self.slow_seconds = self.tells_from = inf
        #: What is counted by namespace, if anything.
        self.namespaces: Namespaces | None = None

    def name_namespaces(self, most: int) -> None:
        """Count by namespace, so many by name; 0 for not."""
        self.namespaces = Namespaces(most, BUCKETS) if most else None

    def request(self, command: str, count: int = 1) -> None:
        """Clients' requests; an unknown or unreadable command counts as ``other``."""
        self._commands[command][0] += count

    def replied(
        self, command: str, seconds: float, ok: bool, usage: Usage | None = None, sent: int = 0
    ) -> bool:
        """A request has its whole answer of so many bytes, ``seconds`` after it came; whether that
        is to be told. ``usage`` is that of its namespace."""
        # What a namespace's usage has counted is counted nowhere else. And what its observe would
        # do is done here, without the call.
        if usage is not None:
            usage.counts[bisect_left(BUCKETS, seconds)] += 1
            usage.sum += seconds
            usage.sent += sent
            if not ok:
                usage.errors += 1
        else:
            self._commands[command][1 if ok else 2] += 1
            # Drivers watch a server by asking for what takes as long as nothing happens there, and
            # by one hello that is answered for hours.
            if command in HELLO_COMMANDS:
                return seconds >= self.tells_from
            duration = self._duration
            duration.counts[bisect_left(BUCKETS, seconds)] += 1
            duration.sum += seconds
        return seconds >= self.tells_from

    def replied_again(
        self, command: str, seconds: float, ok: bool, usage: Usage | None, sent: int
    ) -> bool:
        """One more reply to a request comes when upstream has something to say: it is a reply, but
        none that anybody has waited for."""
        if usage is not None:
            usage.sent += sent
            usage.errors += not ok
        # A usage's errors are taken from the replies that say ok, and added to the others.
        self._commands[command][1 if ok or usage is not None else 2] += 1
        return seconds >= self.tells_from

    def was_slow(self, line: str) -> None:
        """A request was slow, and its line for the log was ``written`` or ``left out``."""
        self._slow[(line,)] += 1

    def count_of_requests(self) -> int:
        """How many there were in all."""
        elsewhere = 0 if self.namespaces is None else self.namespaces.count_of_requests()
        return sum(cells[0] for cells in self._commands.values()) + elsewhere

    def of_namespaces(self) -> Iterator[Metric]:
        """What is counted by namespace, as families."""
        if self.namespaces is not None:
            yield from _by_namespace(self.namespaces.counted())

    def of_requests(self) -> Iterator[Metric]:
        """All of it as families."""
        whole = Distribution(BUCKETS)
        whole.add(self._duration)
        commands = {name: list(counts) for name, counts in self._commands.items()}
        if self.namespaces is not None:
            for command, usage in self.namespaces.by_command().items():
                whole.add(usage)
                counts = commands.get(command) or commands[OTHER]
                counts[0] += usage.requests
                counts[1] += sum(usage.counts) - usage.errors
                counts[2] += usage.errors
            yield from self.of_namespaces()
        yield from by_command(commands)
        yield histogram(
            "request_duration_seconds",
            "From a request received to its reply handed on, but for hello.",
            "",
            {"": whole},
        )


def _by_namespace(counted: dict[tuple[str, str], Usage]) -> Iterator[Metric]:
    labels = ("namespace", "kind")
    durations = HistogramMetricFamily(
        f"{PREFIX}namespace_request_duration_seconds",
        "From a request received to its reply handed on, by namespace.",
        labels=labels,
    )
    came: dict[tuple[str, ...], int] = {}
    errors: dict[tuple[str, ...], int] = {}
    received: dict[tuple[str, ...], int] = {}
    sent: dict[tuple[str, ...], int] = {}
    bounds = [*map(str, FEW_BUCKETS), "+Inf"]
    edges = (-1, *_FEW, len(BUCKETS))
    for key, usage in counted.items():
        counts = [sum(usage.counts[a + 1 : b + 1]) for a, b in pairwise(edges)]
        durations.add_metric(key, list(zip(bounds, accumulate(counts), strict=True)), usage.sum)
        came[key], errors[key] = usage.requests, usage.errors
        received[key], sent[key] = usage.received, usage.sent
    yield durations
    yield counter("namespace_requests_total", "Requests, by namespace.", labels, came)
    yield counter("namespace_errors_total", "Error replies, by namespace.", labels, errors)
    yield counter(
        "namespace_received_bytes_total", "Bytes of requests, by namespace.", labels, received
    )
    yield counter("namespace_sent_bytes_total", "Bytes of replies, by namespace.", labels, sent)
