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
from tests.endurance.secure import Secured
from tests.endurance.storm import Storm

#: Operations between two replacements.
BETWEEN = 100
#: However busy the machine is, the driver has time to leave.
PATIENT = "[limits]\ndrain_seconds = 110.0\ndrain_idle_seconds = 100.0\n"
#: And upstream, which is a small one, has time for a crowd's handshakes.
UPSTREAM_HAS_TIME = {"MSP_UPSTREAM__CONNECT_SECONDS": "110"}


@dataclass
class Outcome:
    """What ``load``, ``storm`` and the ``others`` counted, and what was ``wrong``."""

    load: Load
    storm: Storm
    others: list[Other]
    wrong: list[str]
    #: New processes that the machine was too busy for, which changed nothing.
    late: int


def replace(
    times: int,
    folder: Path,
    workers: int = 1,
    *,
    tls: bool = False,
    compressed: bool = False,
    java: bool = False,
) -> Outcome:
    """Replace a program so many times while drivers work and a crowd dials; with TLS on both legs,
    if wanted, and drivers that compress, each in another way."""
    secured = Secured.made(folder) if tls else None
    settings = f"workers = {workers}\n{PATIENT}{secured.tables if secured else ''}"
    with (
        upstream(secured) as behind,
        Program(behind, folder, settings, environ=UPSTREAM_HAS_TIME) as program,
    ):
        beside = others(program.port, secured, compressed=compressed, java=java)
        zstd = "zstd" if compressed else ""
        with ExitStack() as working:
            storm = working.enter_context(Storm(program.port, secured))
            load = working.enter_context(Load(program.port, secured=secured, compressor=zstd))
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
        wrong += [*load.errors, *storm.wrong, *program.bugs()]
        return Outcome(load, storm, beside, wrong, program.late)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tls", action="store_true", help="on both legs")
    parser.add_argument("--compressed", action="store_true", help="by zstd, zlib and snappy")
    parser.add_argument("--java", action="store_true", help="with the Java driver")
    given = parser.parse_args(words)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        how = {"tls": given.tls, "compressed": given.compressed, "java": given.java}
        found = replace(given.times, Path(folder), given.workers, **how)
    print(
        f"{given.times} x SIGUSR2: {found.load.done.total()} operations of PyMongo,"
        f"{''.join(f' {one.done} of {one.name},' for one in found.others)}"
        f" {found.storm.seen['answered']} clients that dialled, {len(found.wrong)} kinds of errors,"
        f" {found.late} new processes too late, {time.monotonic() - begun:.0f} s"
    )
    for line in found.wrong[:20]:
        print("   ", line)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
