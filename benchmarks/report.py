"""Tables for people, JSON for programs, and the targets with what was measured for them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measure import Crowd, Figures, LongList

_KIB = 1024


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
    head = f"{first.workload}, {first.connections} connection{'s' * (first.connections > 1)}"
    lines = [
        "",
        f"{head:<32}{'msg/s':>10}{'direct':>8}{'p50 µs':>10}{'p95 µs':>10}{'p99 µs':>10}"
        f"{'CPU µs':>9}{'lag µs':>10}"[: None if lag else -10],
    ]
    for f in cell:
        share = f"{f.per_second / direct.per_second:8.2f}" if direct else ""
        cpu = f"{f.cpu:9.1f}" if f.cpu is not None else f"{'':9}"
        waits = f"{f.p50:10.0f}{f.p95:10.0f}{f.p99:10.0f}"
        late = f"{f.lag:10.0f}" if f.lag is not None else ""
        lines.append(f"  {f.contender:<30}{f.per_second:10.0f}{share:>8}{waits}{cpu}{late}")
    return "\n".join(lines)


def other_tables(results: Results) -> str:
    """Memory, idle connections, long lists and targets."""
    lines = ["", "memory of one idle connection pair"]
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
    lines += [f"skipped: {name}: {why}" for name, why in results.skipped.items()]
    lines += ["", f"{'targets':<66}{'bound':>10}{'measured':>10}"]
    lines += [
        f"  {t.what:<64}{t.bound:>10}{t.measured:10.2f}  {'met' if t.met else 'MISSED'}"
        for t in targets(results)
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------- targets


def targets(results: Results) -> list[Target]:
    """Those that the measurements of this run can say something about."""
    found = list(_ratios(results))
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


def _ratios(results: Results) -> Iterable[Target]:
    for cell in results.cells:
        by_name = {figures.contender: figures for figures in cell}
        proxy = by_name.get("proxy")
        if proxy is None:
            continue
        where = f"{proxy.workload} at {proxy.connections}"
        direct, streams = by_name.get("direct"), by_name.get("trio streams")
        if proxy.workload == "find-300B" and proxy.connections in (1, 16, 64):
            if streams is not None:
                ratio = proxy.per_second / streams.per_second
                yield _at_least(f"{where}: msg/s / trio streams", 1, ratio)
                if direct is not None:
                    added = (proxy.p50 - direct.p50) / (streams.p50 - direct.p50)
                    yield _at_most(f"{where}: added p50 / trio streams", 1, added)
            for other in ("trio sockets", "trio bare"):
                cpu = by_name[other].cpu if other in by_name else None
                if proxy.cpu is not None and cpu is not None:
                    yield _at_most(f"{where}: CPU / {other}", 1.35, proxy.cpu / cpu)
        if proxy.workload == "find-1MB":
            for other in ("haproxy", "haproxy 1 thread"):
                if other in by_name:
                    ratio = proxy.per_second / by_name[other].per_second
                    yield _at_least(f"{where}: msg/s / {other}", 0.8, ratio)


def _at_least(what: str, bound: float, measured: float) -> Target:
    return Target(what, f">= {bound}", measured, measured >= bound)


def _at_most(what: str, bound: float, measured: float) -> Target:
    return Target(what, f"<= {bound}", measured, measured <= bound)
