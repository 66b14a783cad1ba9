"""Tables for people, JSON for programs, and the targets with what was measured for them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Crowd, Figures, LongList

_KIB = 1024

_TLS: Final = {"": "", "both": " TLS", "client": " client TLS", "upstream": " upstream TLS"}


@dataclass(slots=True)
class Results:
    """Everything that one run measured."""

    machine: dict[str, Any]
    cells: list[list[Figures]] = field(default_factory=list)
    idle_bytes: dict[str, float] = field(default_factory=dict)
    session_bytes: float | None = None
    crowd: Crowd | None = None
    lists: list[LongList] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def machine(**settings: Any) -> dict[str, Any]:
    """Where and how something was measured."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        **settings,
    }


@dataclass(slots=True)
class Target:
    """What was hoped for, what came of it."""

    what: str
    bound: str
    measured: float
    met: bool


def write_json(results: Results, path: Path) -> None:
    """Everything that was measured, and the targets."""
    document = dataclasses.asdict(results)
    document["targets"] = [dataclasses.asdict(target) for target in targets(results)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


# ---------------------------------------------------------------------- tables


def cell_table(cell: Sequence[Figures]) -> str:
    """One workload at one number of connections: a line a contender."""
    first = cell[0]
    direct = next((f for f in cell if f.contender == "direct"), None)
    lag = any(f.lag is not None for f in cell)
    head = f"{_name(first)}, {first.connections} connection{'s' * (first.connections > 1)}"
    of_direct = f"{'direct':>8}" if direct else ""
    added = f"{'added µs':>10}" if direct else ""
    late = f"{'lag µs':>10}" if lag else ""
    lines = [
        "",
        f"{head:<32}{'msg/s':>10}{of_direct}{'p50 µs':>10}{added}{'p95 µs':>10}{'p99 µs':>10}"
        f"{'CPU µs':>9}{late}",
    ]
    for f in cell:
        of_direct = f"{f.per_second / direct.per_second:8.2f}" if direct else ""
        added = f"{f.p50 - direct.p50:10.0f}" if direct else ""
        waits = f"{f.p50:10.0f}{added}{f.p95:10.0f}{f.p99:10.0f}"
        cpu = f"{f.cpu:9.1f}" if f.cpu is not None else f"{'':9}"
        late = f"{f.lag:10.0f}" if f.lag is not None else ""
        lines.append(
            f"  {f.contender:<30}{f.per_second:10.0f}{of_direct}{waits}{cpu}{late}".rstrip()
        )
    return "\n".join(lines)


def _name(figures: Figures) -> str:
    return figures.workload + _TLS[figures.tls]


def other_tables(results: Results) -> str:
    """Memory, idle connections, long lists and targets."""
    lines = []
    if results.idle_bytes:
        lines += ["", "memory of one idle connection pair"]
        lines += [f"  {n:<30}{size / _KIB:10.1f} KiB" for n, size in results.idle_bytes.items()]
    if results.session_bytes is not None:
        lines += ["", f"memory of one session{'':11}{results.session_bytes:10.0f} bytes"]
    if results.crowd is not None:
        crowd = results.crowd
        lines += [
            "",
            "64 busy connections",
            f"  {'p99 alone':<30}{crowd.p99_alone:10.0f} µs",
            f"  {f'p99 beside {crowd.idle} idle ones':<30}{crowd.p99_among:10.0f} µs",
        ]
    if results.lists:
        ids = results.lists[0].ids
        lines += ["", f"{f'{ids} ids in one command':<52}{'took ms':>10}{'others waited ms':>18}"]
        lines += [
            f"  {f.contender:<30}{f.command:<20}{f.milliseconds:10.1f}{f.longest_wait:18.1f}"
            for f in results.lists
        ]
    if results.skipped:
        lines += ["", *(f"left out: {name}: {why}" for name, why in results.skipped.items())]
    lines += ["", f"{'targets':<66}{'bound':>10}{'measured':>10}"]
    lines += [
        f"  {t.what:<64}{t.bound:>10}{t.measured:10.2f}  {'met' if t.met else 'MISSED'}"
        for t in targets(results)
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------- targets


#: Small requests, with the numbers of connections at which they are judged.
_JUDGED: Final = {
    "find-300B": (1, 16, 64),
    "find": (1, 16, 64),
    "find-varied": (1, 16, 64),
}

#: What more than passing bytes should come to at 16 connections, beside two pumps that look at
#: nothing.
_BESIDE_STREAMS: Final = {
    "find-varied": 1.5,
    "unacknowledged": 1.0,
    "session-control": 0.6,
    "transaction": 1.3,
}


def targets(results: Results) -> list[Target]:
    """Those that the measurements of this run can say something about."""
    found = [
        target
        for cell in results.cells
        for build in _BUILDS
        for target in (
            _secure_ratios(cell, results.cells, build)
            if cell[0].tls
            else chain(_ratios(cell, build), _worker_ratios(cell, build))
        )
    ]
    if "proxy" in results.idle_bytes:
        found.append(_at_most("KiB of an idle pair", 40, results.idle_bytes["proxy"] / _KIB))
    if results.crowd is not None:
        ratio = results.crowd.p99_among / results.crowd.p99_alone
        found.append(_at_most(f"p99 beside {results.crowd.idle} idle / alone", 1.5, ratio))
    for long in results.lists:
        if long.contender == "proxy":
            found.append(_at_most(f"ms of {long.command} of {long.ids}", 50, long.milliseconds))
            found.append(_at_most("  ms that others waited meanwhile", 10, long.longest_wait))
    if results.session_bytes is not None:
        found.append(_at_most("GiB of a million sessions", 1, results.session_bytes * 1e6 / 2**30))
    return found


#: Both builds are judged.
_BUILDS: Final = ("", " compiled")


def _ratios(cell: Sequence[Figures], build: str) -> Iterable[Target]:
    by_name = {figures.contender: figures for figures in cell}
    proxy = by_name.get("proxy" + build)
    if proxy is None:
        return
    where = f"{proxy.workload} at {proxy.connections}{build}"
    direct, streams = by_name.get("direct"), by_name.get("trio streams")
    if proxy.connections in _JUDGED.get(proxy.workload, ()):
        if streams is not None:
            ratio = proxy.per_second / streams.per_second
            yield _at_least(f"{where}: msg/s / trio streams", 1, ratio)
            if direct is not None:
                added = (proxy.p50 - direct.p50) / (streams.p50 - direct.p50)
                yield _at_most(f"{where}: added p50 / trio streams", 1, added)
        # trio's own sockets: what a raw-socket trio relay is. `trio bare` goes beside trio.
        sockets = by_name.get("trio sockets")
        if sockets is not None and sockets.cpu is not None and proxy.cpu is not None:
            yield _at_most(f"{where}: CPU / trio sockets", 1.35, proxy.cpu / sockets.cpu)
        if "mongobetween" in by_name:
            ratio = proxy.per_second / by_name["mongobetween"].per_second
            yield _at_least(f"{where}: msg/s / mongobetween (the aim)", 1, ratio)
        if proxy.connections == 64 and "mongoproxy" in by_name:
            ratio = proxy.p99 / by_name["mongoproxy"].p99
            yield _at_most(f"{where}: p99 / mongoproxy", 1, ratio)
    if streams is not None and proxy.connections == 16 and proxy.workload in _BESIDE_STREAMS:
        ratio = proxy.per_second / streams.per_second
        bound = _BESIDE_STREAMS[proxy.workload]
        yield _at_least(f"{where}: msg/s / trio streams", bound, ratio)
    if proxy.workload == "find-1MB" and "haproxy" in by_name:
        ratio = proxy.per_second / by_name["haproxy"].per_second
        yield _at_least(f"{where}: msg/s / haproxy", 0.8, ratio)


#: The share of haproxy's throughput, with as many threads, that two workers aim at.
_WORKERS: Final = {"find-300B": 0.8, "find-1MB": 0.9}


def _worker_ratios(cell: Sequence[Figures], build: str) -> Iterable[Target]:
    """Two workers beside those that use two processors too."""
    by_name = {figures.contender: figures for figures in cell}
    proxy = by_name.get(f"proxy{build} 2 workers")
    if proxy is None or proxy.workload not in _WORKERS or proxy.connections not in (16, 64):
        return
    where = f"{proxy.workload} at {proxy.connections}{build}, 2 workers"
    bounds = {"haproxy": _WORKERS[proxy.workload], "mongobetween": 1, "mongoproxy": 1}
    for name, bound in bounds.items():
        if name in by_name:
            ratio = proxy.per_second / by_name[name].per_second
            yield _at_least(f"{where}: msg/s / {name}", bound, ratio)


#: The share of haproxy's throughput, with one thread, that is aimed at with TLS on both legs,
#: and the numbers of connections at which it is judged.
_SECURE: Final = {
    "find-300B": (0.6, (16, 64)),
    "find-100KB": (0.8, (16,)),
    "find-1MB": (0.8, (16,)),
}


def _secure_ratios(
    cell: Sequence[Figures], cells: Sequence[Sequence[Figures]], build: str
) -> Iterable[Target]:
    by_name = {figures.contender: figures for figures in cell}
    proxy, other = by_name.get("proxy" + build), by_name.get("haproxy 1 thread")
    if proxy is None or proxy.tls != "both":
        return
    where = f"{_name(proxy)} at {proxy.connections}{build}"
    bound, numbers = _SECURE.get(proxy.workload, (0.0, ()))
    if other is not None and proxy.connections in numbers:
        ratio = proxy.per_second / other.per_second
        yield _at_least(f"{where}: msg/s / haproxy 1 thread", bound, ratio)
    if proxy.connections == 1:
        for plain in cells:
            first = plain[0]
            if (first.workload, first.connections, first.tls) == (proxy.workload, 1, ""):
                ratio = _added(cell, build) / _added(plain, build)
                yield _at_most(f"{where}: added p50 / without TLS", 1.5, ratio)


def _added(cell: Sequence[Figures], build: str) -> float:
    """The median latency that the proxy adds; NaN where there is nothing to compare with."""
    by_name = {figures.contender: figures for figures in cell}
    name = "proxy" + build
    if name not in by_name or "direct" not in by_name:
        return math.nan
    return by_name[name].p50 - by_name["direct"].p50


def _at_least(what: str, bound: float, measured: float) -> Target:
    return Target(what, f">= {bound}", measured, measured >= bound)


def _at_most(what: str, bound: float, measured: float) -> Target:
    return Target(what, f"<= {bound}", measured, measured <= bound)
