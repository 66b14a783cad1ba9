"""What a message costs where there is more of everything: sessions, connections, workers.

    python -m benchmarks.growth [--only sessions|connections|workers|all] [--rounds 5] ...

Own clients send small finds, so many at a time, each on the next connection and in the next
session, and each answered before the next one takes its place. What counts is the processor time
of all the proxy's processes for each message, which stays what it is where others need the machine
too. The proxies of one table run beside each other, and take their rounds in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmarks.contenders import Contender, proxy
from benchmarks.load import connect, exchange
from benchmarks.measure import most_idle
from benchmarks.report import machine
from benchmarks.responder import Responder
from benchmarks.turns import Clients
from benchmarks.workloads import control_of_many

#: Seconds in which the last of a round is told to all workers.
_AFTER: Final = 0.25

#: Ids in one command that makes sessions known.
_AT_ONCE: Final = 10_000

#: Seconds for which nothing is sent, to see what the proxy does of itself.
_REST: Final = 3.0

#: Processes that take less of a processor than this have nothing left to do.
_QUIET: Final = 0.15


@dataclass(frozen=True, slots=True)
class Case:
    """What there is: ``sessions`` are remembered and taken in turn, ``busy`` of the ``connections``
    have a message under way at a time, all of them in turn or always the same ones. ``proxies`` are
    as many that know nothing of each other: what several processes take on as many processors as
    there are, whatever they say to each other."""

    table: str
    sessions: int = 10
    connections: int = 10
    busy: int = 10
    workers: int = 1
    spread: bool = True
    proxies: int = 1

    @property
    def connected(self) -> str:
        """The connections in words."""
        what = "all in turn" if self.spread else f"{self.busy} used"
        return f"{self.connections:,}, {what}"

    @property
    def busy_ones(self) -> int:
        """How many connections are used."""
        return self.connections if self.spread else self.busy

    @property
    def processes(self) -> str:
        """The workers in words."""
        return f"{self.proxies} proxies" if self.proxies > 1 else str(self.workers)


@dataclass(slots=True)
class Measured:
    """Medians: microseconds of processor time for each message, in all processes of the proxy; how
    many messages a second came through, and the share of a processor that is taken at rest."""

    case: Case
    cpu: float
    per_second: float
    at_rest: float


def cases(most: int) -> list[Case]:
    """All there are, with ``most`` connections where there are many."""
    return [
        *(Case("sessions", sessions) for sessions in (10, 100_000, 1_000_000)),
        Case("connections"),
        Case("connections", connections=min(1_000, most)),
        Case("connections", connections=most, spread=False),
        Case("connections", connections=most),
        *(Case("workers", 8 * n, 8 * n, 8 * n, proxies=n) for n in (1, 2, 4, 8)),
        *(Case("workers", 8 * n, 8 * n, 8 * n, n) for n in (2, 4, 8)),
        Case("all", 16, 16, 16),
        Case("all", 1_000_000, most, 16),
        Case("all", 1_000_000, most, 16, workers=2),
    ]


# ---------------------------------------------------------------------- measuring


class Running:
    """The proxy of a case, or the proxies."""

    def __init__(self, case: Case, upstream: int, stack: contextlib.ExitStack) -> None:
        self._proxies: list[Contender] = []
        for _ in range(case.proxies):
            room = case.sessions + _AT_ONCE
            one = proxy(upstream, workers=case.workers, sessions=room, awake=False)
            stack.callback(one.stop)
            self._proxies.append(one)
            remember(one.port, case.sessions)
        self.settled()

    @property
    def ports(self) -> list[int]:
        """Where they listen."""
        return [one.port for one in self._proxies]

    def cpu_seconds(self) -> float:
        """The processor time of all processes."""
        return sum(one.cpu_seconds() for one in self._proxies)

    def settled(self) -> None:
        """Wait until nothing is left to do: what was learnt has come to all workers."""
        before, after = 0.0, math.inf
        while after - before > _QUIET:
            before = self.cpu_seconds()
            time.sleep(1.0)
            after = self.cpu_seconds()


def remember(port: int, sessions: int) -> None:
    """Have a proxy know the sessions that are going to be used."""
    with connect(port) as wire:
        for first in range(0, sessions, _AT_ONCE):
            step = control_of_many("refreshSessions", min(_AT_ONCE, sessions - first), first)
            exchange(wire, step)


def measure(some: Sequence[Case], upstream: int, rounds: int, seconds: float) -> list[Measured]:
    """Run these beside each other, a round of each in turn."""
    done: list[list[tuple[float, float]]] = [[] for _ in some]
    rests: list[float] = []
    with contextlib.ExitStack() as stack:
        clients = stack.enter_context(Clients())
        running = [Running(case, upstream, stack) for case in some]
        for name, (case, contender) in enumerate(zip(some, running, strict=True)):
            clients.open(name, contender.ports, case.connections)
            # Each connection has seen what is going to come.
            sent = 0
            while sent < 3 * case.busy_ones:
                sent += _sent(clients, name, case, seconds)
            contender.settled()
            before = contender.cpu_seconds()
            time.sleep(_REST)
            rests.append((contender.cpu_seconds() - before) / _REST)
        for number in range(rounds):
            for turn in range(len(some)):
                name = (turn + number) % len(some)
                case, contender = some[name], running[name]
                done[name].append(_round(clients, name, case, contender, seconds, rests[name]))
        for name in range(len(some)):
            clients.close(name)
    return [
        Measured(
            case,
            statistics.median(cpu for cpu, _ in figures),
            statistics.median(rate for _, rate in figures),
            rest,
        )
        for case, figures, rest in zip(some, done, rests, strict=True)
    ]


def _sent(clients: Clients, name: int, case: Case, seconds: float) -> int:
    return clients.run(name, case.busy, case.sessions, seconds, spread=case.spread)


def _round(
    clients: Clients,
    name: int,
    case: Case,
    contender: Running,
    seconds: float,
    rest: float,
) -> tuple[float, float]:
    """Microseconds for each message, beyond what it takes at ``rest``, and messages a second."""
    begin = time.perf_counter()
    before = contender.cpu_seconds()
    answered = _sent(clients, name, case, seconds)
    # What was still under way, and what has to be told of it.
    time.sleep(_AFTER)
    used = contender.cpu_seconds() - before - rest * (time.perf_counter() - begin)
    return used / answered * 1e6 if answered else math.nan, answered / seconds


# ---------------------------------------------------------------------- the table


def table(some: Sequence[Measured]) -> str:
    """Lines as Markdown has them; those of one table relative to its first."""
    lines = []
    for name in dict.fromkeys(one.case.table for one in some):
        rows = [one for one in some if one.case.table == name]
        lines += [
            "",
            "| sessions | connections | at a time | workers | CPU µs | ratio | msg/s | at rest |",
            "|--:|---|--:|--:|--:|--:|--:|--:|",
        ]
        lines += [
            f"| {one.case.sessions:,} | {one.case.connected} | {one.case.busy} |"
            f" {one.case.processes} | {one.cpu:.1f} | {one.cpu / rows[0].cpu:.2f} |"
            f" {one.per_second:,.0f} | {one.at_rest:.1%} |"
            for one in rows
        ]
    return "\n".join(lines)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    tables = dict.fromkeys(case.table for case in cases(0))
    parser.add_argument("--only", action="append", choices=tables, help="these tables")
    parser.add_argument("--most", type=int, default=most_idle(), help="connections where many")
    parser.add_argument("--rounds", type=int, default=7, help="of each case (7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of one round (2)")
    parser.add_argument("--json", type=Path, default=Path("build/growth.json"), metavar="FILE")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    arguments = _arguments(given)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    every = [c for c in cases(arguments.most) if c.table in (arguments.only or [c.table])]
    measured: list[Measured] = []
    with Responder() as responder:
        for name in dict.fromkeys(case.table for case in every):
            some = [case for case in every if case.table == name]
            found = measure(some, responder.port, arguments.rounds, arguments.seconds)
            print(table(found), flush=True)
            measured += found
    document = machine(rounds=arguments.rounds, seconds=arguments.seconds)
    document["cases"] = [asdict(one) for one in measured]
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
