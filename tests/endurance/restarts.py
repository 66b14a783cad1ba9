"""The program is replaced under load, 100 times: no error in the application, nobody refused.

    .venv/bin/python -m tests.endurance.restarts --times 100

PyMongo works in threads all the time, and so do the Node and the Go driver where make clients has
brought them. Beside them a crowd of clients dials, over and over. A command that no driver runs
again may not be cut either.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.endurance.load import Load
from tests.endurance.others import Other, others
from tests.endurance.program import Program, upstream
from tests.endurance.storm import Storm

#: Operations between two replacements.
BETWEEN = 100
#: However busy the machine is, the driver has time to leave.
PATIENT = "[limits]\ndrain_seconds = 110.0\ndrain_idle_seconds = 100.0\n"


@dataclass
class Outcome:
    """What ``load``, ``storm`` and the ``others`` counted, and what was ``wrong``."""

    load: Load
    storm: Storm
    others: list[Other]
    wrong: list[str]


def replace(times: int, folder: Path, workers: int = 1) -> Outcome:
    """Replace a program so many times while drivers work and a crowd dials."""
    settings = f"workers = {workers}\n{PATIENT}"
    with upstream() as behind, Program(behind, folder, settings) as program:
        uri = f"mongodb://127.0.0.1:{program.port}/?replicaSet=rs"
        beside = others(uri)
        with ExitStack() as working:
            storm = working.enter_context(Storm(program.port))
            load = working.enter_context(Load(program.port))
            for other in beside:
                working.enter_context(other)
            for _ in range(times):
                load.wait(BETWEEN)
                program.replace()
            load.wait(BETWEEN)
        wrong = [f"cut: {load.cut}"] if load.cut else []
        wrong += [f"{other.name}: {error}" for other in beside for error in other.errors]
        if storm.wrong:
            wrong.append(f"of all clients: {program.farewells()}")
        return Outcome(load, storm, beside, [*load.errors, *wrong, *storm.wrong, *program.bugs()])


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(words)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = replace(given.times, Path(folder), given.workers)
    print(
        f"{given.times} x SIGUSR2: {found.load.done.total()} operations of PyMongo,"
        f"{''.join(f' {one.done} of {one.name},' for one in found.others)}"
        f" {found.storm.seen['answered']} clients that dialled, {len(found.wrong)} kinds of errors,"
        f" {time.monotonic() - begun:.0f} s"
    )
    for line in found.wrong[:20]:
        print("   ", line)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
