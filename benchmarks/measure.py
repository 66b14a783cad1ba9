"""The measurements: what is run against whom, and the figures that come of it."""

from __future__ import annotations

import contextlib
import math
import random
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.contenders import Contender, proxy
from benchmarks.load import Load, Round, connect, exchange
from benchmarks.workloads import WORKLOADS, control_of_many, new_lsid

#: How long each round runs before it is counted, in seconds.
_WARM_UP: Final = 0.15

#: Descriptors that a process needs beside its connections.
_SPARE_DESCRIPTORS: Final = 200

#: How often the probe asks, in seconds.
_PROBE_INTERVAL: Final = 0.005


@dataclass(slots=True)
class Figures:
    """One contender in one cell, medians over its rounds; times in microseconds.

    ``lag`` is the 99th percentile of what a lone small request waits beside the load, of which
    nearly all is the wait for the event loop; None where it was not asked.
    """

    contender: str
    workload: str
    connections: int
    per_second: float
    p50: float
    p95: float
    p99: float
    cpu: float | None
    lag: float | None = None
    #: Which legs have TLS, see :data:`benchmarks.secure.LEGS`.
    tls: str = ""


def cell(
    load: Load,
    contenders: Sequence[Contender],
    workload: str,
    connections: int,
    *,
    rounds: int,
    seconds: float,
    probed: bool = False,
    tls: str = "",
) -> list[Figures]:
    """Let all contenders carry one workload in turn, ``rounds`` times."""
    done: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        secured = (contender.authority,) if contender.authority else ()
        load.open(contender.name, contender.port, workload, connections, *secured)
    try:
        for number in range(rounds):
            # Nobody always runs behind the same neighbour.
            for contender in _shuffled(contenders, number):
                figures = _round(load, contender, workload, connections, seconds, probed)
                done[contender.name].append(figures)
    finally:
        for contender in contenders:
            load.close(contender.name)
    return [_median(figures, tls) for figures in done.values()]


def _shuffled(contenders: Sequence[Contender], number: int) -> Sequence[Contender]:
    """In an order that the round's number gives: what ran before leaves its traces in the next."""
    return random.Random(number).sample(contenders, len(contenders))


def _round(
    load: Load,
    contender: Contender,
    workload: str,
    connections: int,
    seconds: float,
    probed: bool,
) -> Figures:
    begin = time.perf_counter() + _WARM_UP
    end = begin + seconds
    load.start(contender.name, begin, end)
    time.sleep(max(0.0, begin - time.perf_counter()))
    before = contender.cpu_seconds()
    lag = _probe(contender, end) if probed else None
    time.sleep(max(0.0, end - time.perf_counter()))
    used = contender.cpu_seconds() - before
    round_ = load.result(seconds)
    p50, p95, p99 = percentiles(round_)
    cpu = used / max(1, round_.requests) * 1e6 if contender.pid is not None else None
    name = contender.name
    rate = round_.requests / seconds
    return Figures(name, workload, connections, rate, p50, p95, p99, cpu, lag)


def percentiles(round_: Round) -> tuple[float, float, float]:
    """The 50th, 95th and 99th percentile of a round's latencies in microseconds."""
    # On a machine with much else to do there may be none.
    ordered = sorted(round_.latencies) or [math.nan]
    p50, p95, p99 = (ordered[int(len(ordered) * p)] * 1e6 for p in (0.5, 0.95, 0.99))
    return p50, p95, p99


def _probe(contender: Contender, end: float) -> float:
    """The 99th percentile in microseconds of what a paced small request waits until ``end``."""
    step = WORKLOADS["find-300B"](new_lsid(), 0).steps[0]
    waits = []
    with connect(contender.port, contender.authority) as sock:
        while time.perf_counter() < end:
            sent = time.perf_counter()
            exchange(sock, step)
            waits.append(time.perf_counter() - sent)
            time.sleep(_PROBE_INTERVAL)
    return sorted(waits)[int(len(waits) * 0.99)] * 1e6


def _median(rounds: list[Figures], tls: str) -> Figures:
    def median(values: Iterator[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    first = rounds[0]
    return Figures(
        first.contender,
        first.workload,
        first.connections,
        statistics.median(r.per_second for r in rounds),
        statistics.median(r.p50 for r in rounds),
        statistics.median(r.p95 for r in rounds),
        statistics.median(r.p99 for r in rounds),
        median(r.cpu for r in rounds),
        median(r.lag for r in rounds),
        tls,
    )


# ---------------------------------------------------------------------- many idle ones


def idle_memory(load: Load, contender: Contender, connections: int) -> float:
    """Bytes that one idle connection pair adds to a contender that was just started."""
    load.open("warm", contender.port, None, 20)
    load.close("warm")
    time.sleep(0.3)
    before = contender.memory()
    load.open("idle", contender.port, None, connections)
    time.sleep(0.5)
    added = contender.memory() - before
    load.close("idle")
    return added / connections


def most_idle() -> int:
    """How many idle pairs fit the descriptors that one process may have here, up to 10,000."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return 10_000
    return min(10_000, (hard - _SPARE_DESCRIPTORS) // 2)


@dataclass(slots=True)
class Crowd:
    """64 busy connections with and without ``idle`` others; p99 in microseconds."""

    idle: int
    p99_alone: float
    p99_among: float


def crowd(load: Load, upstream: int, *, rounds: int, seconds: float) -> Crowd:
    """Run 64 busy connections in turn on two fresh proxies, one of which has idle ones too."""
    idle = most_idle()
    p99: dict[str, list[float]] = {"alone": [], "among": []}
    with contextlib.ExitStack() as stack:
        proxies = {}
        for name in p99:
            proxies[name] = contender = proxy(upstream)
            stack.callback(contender.stop)
            load.open(name, contender.port, "find-300B", 64)
        load.open("idle", proxies["among"].port, None, idle)
        for number in range(rounds):
            for name in _either(number):
                figures = _busy(load, name, seconds)
                p99[name].append(figures)
        for name in (*p99, "idle"):
            load.close(name)
    return Crowd(idle, statistics.median(p99["alone"]), statistics.median(p99["among"]))


def _either(number: int) -> tuple[str, str]:
    return ("alone", "among") if number % 2 else ("among", "alone")


def _busy(load: Load, name: str, seconds: float) -> float:
    begin = time.perf_counter() + _WARM_UP
    load.start(name, begin, begin + seconds)
    return percentiles(load.result(seconds))[2]


# ---------------------------------------------------------------------- many sessions


@dataclass(slots=True)
class LongList:
    """One command with many ids, medians in milliseconds.

    ``longest_wait`` is the longest that another connection's small request waited meanwhile.
    """

    contender: str
    command: str
    ids: int
    milliseconds: float
    longest_wait: float


def long_lists(
    load: Load, contenders: Sequence[Contender], *, ids: int, rounds: int
) -> list[LongList]:
    """Refresh, kill and end ``ids`` sessions at once beside a connection that is busy."""
    took: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for contender in contenders:
        load.open(contender.name, contender.port, "find-300B", 1)
    for number in range(rounds):
        for contender in _shuffled(contenders, number):
            with connect(contender.port) as sock:
                for command in ("refreshSessions", "killSessions", "endSessions"):
                    step = control_of_many(command, ids, number * ids)
                    begin = time.perf_counter() + _WARM_UP
                    load.start(contender.name, begin, begin + 0.5)
                    time.sleep(_WARM_UP + 0.1)
                    sent = time.perf_counter()
                    exchange(sock, step)
                    seconds = time.perf_counter() - sent
                    waits = load.result(0.5).latencies
                    took.setdefault((contender.name, command), []).append((seconds, max(waits)))
    for contender in contenders:
        load.close(contender.name)
    return [
        LongList(
            name,
            command,
            ids,
            statistics.median(seconds for seconds, _ in runs) * 1e3,
            statistics.median(wait for _, wait in runs) * 1e3,
        )
        for (name, command), runs in took.items()
    ]


def session_memory(upstream: int, sessions: int) -> float:
    """Bytes that one session adds to a proxy that was just started."""
    contender = proxy(upstream)
    try:
        with connect(contender.port) as sock:
            exchange(sock, control_of_many("refreshSessions", 10_000))
            before = contender.memory()
            for first in range(10_000, 10_000 + sessions, 10_000):
                exchange(sock, control_of_many("refreshSessions", 10_000, first))
            return (contender.memory() - before) / sessions
    finally:
        contender.stop()
