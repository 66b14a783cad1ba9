"""``python -m benchmarks.driver``: the official Go driver's load, all contenders in one run.

Upstream is the canned responder or, with ``--upstream mongodb://127.0.0.1:27017``, a real server
on this machine: a mongod of a replica set or a mongos, 4.2 or later. What the load makes there is
in a database of its own, ``mongo_session_proxy_benchmark``, which is dropped before and after.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from benchmarks import contenders as contending
from benchmarks import measure
from benchmarks.contenders import MissingError
from benchmarks.driver.load import WORKLOADS, DriverLoad, build
from benchmarks.report import Results, cell_table, machine, other_tables, write_json
from benchmarks.responder import Responder

_CELLS: Final = (
    *(("find", connections) for connections in (1, 16, 64)),
    *((workload, 16) for workload in WORKLOADS[1:]),
)
_CONNECTIONS: Final = (1, 16, 64)


def _upstream(text: str) -> SplitResult:
    uri = urlsplit(text)
    if uri.scheme != "mongodb" or uri.hostname not in ("127.0.0.1", "localhost") or not uri.port:
        raise argparse.ArgumentTypeError("mongodb://127.0.0.1:PORT is wanted")
    return uri


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver", description=__doc__)
    parser.add_argument("--upstream", type=_upstream, metavar="URI", help="a real server")
    parser.add_argument("--rounds", type=int, default=5, help="per contender and cell (5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one round (0.5)")
    parser.add_argument("--json", type=Path, default=Path("build/driver.json"), metavar="FILE")
    parser.add_argument("--only", action="append", choices=WORKLOADS, help="these workloads")
    parser.add_argument("--connections", action="append", type=int, help="these numbers")
    parser.add_argument("--against", action="append", choices=contending.ALL, help="these")
    return parser.parse_args(given)


def _cells(arguments: argparse.Namespace) -> list[tuple[str, int]]:
    if arguments.only is None and arguments.connections is None:
        return list(_CELLS)
    numbers = arguments.connections or _CONNECTIONS
    return [(workload, number) for workload in arguments.only or WORKLOADS for number in numbers]


def main(given: Sequence[str] | None = None) -> None:
    arguments = _arguments(given)
    try:
        program = build()
    except MissingError as error:
        raise SystemExit(f"benchmarks.driver: {error}") from None
    real: SplitResult | None = arguments.upstream
    results = Results(
        machine(
            rounds=arguments.rounds,
            seconds=arguments.seconds,
            upstream="canned replies" if real is None else f"a server on port {real.port}",
        )
    )

    def uri(port: int) -> str:
        user = "" if real is None or "@" not in real.netloc else real.netloc.rpartition("@")[0]
        options = "" if real is None else real.query
        return (
            f"mongodb://{user}{'@' * bool(user)}127.0.0.1:{port}/"
            f"?{options}{'&' * bool(options)}directConnection=true"
        )

    with contextlib.ExitStack() as stack:
        upstream = real.port if real is not None else stack.enter_context(Responder()).port
        assert upstream is not None
        load = stack.enter_context(DriverLoad(program, uri))
        load.seed(upstream)
        names = contending.chosen(arguments.against)
        running = stack.enter_context(contending.running(names, upstream, results.skipped))
        for workload, connections in _cells(arguments):
            cell = measure.cell(
                load,
                running,
                workload,
                connections,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
            results.cells.append(cell)
            print(cell_table(cell), flush=True)
        load.seed(upstream, clear=True)
    print(other_tables(results))
    write_json(results, arguments.json)
    print(f"\nwritten to {arguments.json}")


if __name__ == "__main__":
    main()
