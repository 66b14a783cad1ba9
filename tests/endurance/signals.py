"""Signals under a driver's load: 100 times SIGHUP, and 100 times SIGTERM with a start behind it.

    .venv/bin/python -m tests.endurance.signals --times 100

The application must see no error: draining lets what is in flight finish, and has the driver leave
before its connections are closed. What no driver runs again (getMore, what an application sends by
hand) is counted apart, and none of it is cut either.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.endurance.load import Load
from tests.endurance.program import Program, upstream

#: Operations between two signals.
BETWEEN = 20
#: However busy the machine is, the driver has time to leave.
PATIENT = "[limits]\ndrain_seconds = 110.0\ndrain_idle_seconds = 100.0\n"


def shake(
    times: int, folder: Path, how: Callable[[Program], None], workers: int = 1
) -> tuple[Load, list[str]]:
    """Do it to a program so many times under load; the load, and lines of the log that are bugs."""
    with upstream() as behind:
        program = Program(behind, folder, f"workers = {workers}\n{PATIENT}")
        with Load(program.port) as load:
            for _ in range(times):
                load.wait(BETWEEN)
                how(program)
            load.wait(BETWEEN)
        program.stop()
        return load, program.bugs()


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(words)
    wrong = 0
    for name, how in (("SIGHUP", Program.reload), ("SIGTERM", Program.restart)):
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            load, bugs = shake(given.times, Path(folder), how, given.workers)
        wrong += len(load.errors) + len(bugs) + load.cut
        print(
            f"{given.times} x {name}: {load.done.total()} operations, {load.cut} cut,"
            f" {len(load.errors)} errors in the application,"
            f" {len(bugs)} bugs, {time.monotonic() - begun:.0f} s",
            flush=True,
        )
        for line in (*load.errors[:10], *bugs[:10]):
            print("   ", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
