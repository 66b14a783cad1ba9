"""``python -m benchmarks``: run everything, print tables as they come, write JSON."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import contenders as contending
from benchmarks import measure
from benchmarks.contenders import Contender, Tls
from benchmarks.load import Load
from benchmarks.messages import COMPRESSORS
from benchmarks.report import Results, cell_table, machine, other_tables, write_json
from benchmarks.responder import Responder
from benchmarks.secure import LEGS, certificates
from benchmarks.workloads import WORKLOADS

#: Cells of the usual run: workload, connections, whether the loop's lag is probed. All
#: numbers of connections with the one workload whose messages cost nothing themselves.
_CELLS: Final = (
    *(("find-300B", connections, connections == 64) for connections in (1, 16, 64, 256, 1000)),
    ("find-varied", 16, False),
    ("insert", 16, False),
    ("find-100KB", 16, False),
    ("find-1MB", 1, False),
    ("find-1MB", 16, True),
    ("transaction", 16, False),
    ("unacknowledged", 16, False),
    ("getMore", 16, False),
    ("session-control", 16, False),
    ("find-uid", 16, False),
    *((f"find{size}-{name}", 16, False) for size in ("", "-100KB") for name in COMPRESSORS),
)

#: The same with TLS, by the legs that have it.
_TLS_CELLS: Final = {
    "both": (
        *(("find-300B", connections) for connections in (1, 16, 64)),
        ("find-100KB", 16),
        ("find-1MB", 16),
    ),
    "client": (("find-300B", 16), ("find-100KB", 16)),
    "upstream": (("find-300B", 16), ("find-100KB", 16)),
}
_CONNECTIONS: Final = (1, 16, 64, 256, 1000)

#: Who runs in cells of small finds alone, where it is compared with, to save time.
_SMALL_FINDS: Final = ("mongobetween", "mongoproxy", "trio bare")

_SESSIONS: Final = 100_000
_IDLE: Final = 2000


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="per contender and cell (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one round (0.5)")
    parser.add_argument("--clients", type=int, default=2, help="client processes (2)")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks.json"), metavar="FILE")
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="these workloads")
    parser.add_argument("--connections", action="append", type=int, help="these numbers")
    parser.add_argument("--against", action="append", choices=contending.ALL, help="these")
    parser.add_argument(
        "--tls", action="append", choices=("none", *LEGS), help="with TLS on these legs"
    )
    parser.add_argument("--full", action="store_true", help="every workload at every number")
    parser.add_argument("--no-memory", action="store_true", help="the cells alone")
    return parser.parse_args(given)


def _cells(arguments: argparse.Namespace, legs: str) -> list[tuple[str, int, bool]]:
    """Those to run with TLS on these legs; "" for none."""
    if (legs or "none") not in (arguments.tls or ("none", *LEGS)):
        return []
    cells = tuple((*cell, False) for cell in _TLS_CELLS[legs]) if legs else _CELLS
    if arguments.full or arguments.connections:
        numbers = arguments.connections or _CONNECTIONS
        names = WORKLOADS if not legs or arguments.only else {name for name, *_ in cells}
        cells = tuple(
            (name, number, number == 64 and not legs) for name in names for number in numbers
        )
    return [cell for cell in cells if arguments.only is None or cell[0] in arguments.only]


def main(given: Sequence[str] | None = None) -> None:
    arguments = _arguments(given)
    results = Results(machine(rounds=arguments.rounds, seconds=arguments.seconds))
    names = contending.chosen(arguments.against)
    with (
        certificates() as files,
        Responder(files) as responder,
        Load(arguments.clients) as load,
    ):
        plain = names if _cells(arguments, "") or not arguments.no_memory else []
        with contending.running(plain, responder.port, results.skipped) as running:
            _run(results, load, running, arguments)
            if not arguments.no_memory:
                judged = [c for c in running if c.name in ("direct", "proxy")]
                results.lists = measure.long_lists(load, judged, ids=10_000, rounds=3)
        for legs in LEGS:
            if _cells(arguments, legs):
                tls = Tls(legs, files, responder.secure_port)
                secured = contending.chosen(arguments.against, tls)
                with contending.running(secured, responder.port, results.skipped, tls) as running:
                    _run(results, load, running, arguments, legs)
        if not arguments.no_memory:
            _memory(results, load, responder.port, arguments, names)
    print(other_tables(results))
    write_json(results, arguments.json)
    print(f"\nwritten to {arguments.json}")


def _run(
    results: Results,
    load: Load,
    running: Sequence[Contender],
    arguments: argparse.Namespace,
    legs: str = "",
) -> None:
    for workload, connections, probed in _cells(arguments, legs):
        cell = measure.cell(
            load,
            [c for c in running if _takes_part(c, workload, arguments)],
            workload,
            connections,
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            probed=probed,
            tls=legs,
        )
        results.cells.append(cell)
        print(cell_table(cell), flush=True)


def _takes_part(contender: Contender, workload: str, arguments: argparse.Namespace) -> bool:
    return (
        arguments.against is not None
        or contender.name not in _SMALL_FINDS
        or workload in ("find-300B", "find-varied")
    )


def _memory(
    results: Results,
    load: Load,
    upstream: int,
    arguments: argparse.Namespace,
    names: Sequence[str],
) -> None:
    for name in names:
        if name == "direct" or name in results.skipped:
            continue
        contender = contending.ALL[name](upstream)
        try:
            results.idle_bytes[name] = measure.idle_memory(load, contender, _IDLE)
        finally:
            contender.stop()
    results.session_bytes = measure.session_memory(upstream, _SESSIONS)
    results.crowd = measure.crowd(
        load, upstream, rounds=arguments.rounds, seconds=arguments.seconds
    )


if __name__ == "__main__":
    main()
