"""Workers are killed under load: only what is under way there is lost, and the numbers agree.

    .venv/bin/python -m tests.endurance.killed --seconds 60

SIGKILL to one worker after the other, so that their connections are lost, with all that is asked on
them. What a driver runs again by itself (reads, writes of one document, transactions) is no error
in the application; what it does not (getMore, writes of many documents, commands sent by hand; all
of it with Node's) is one, and is counted. In the end nothing is under way by the numbers, and they
show no session that upstream has not: drivers give up sessions that lost a connection, and end none
of them. Nor a transaction, as what a worker may have ended in its last moments is shown as one of
unknown outcome; nor a cursor, but for those that a lost request has ended, of which nobody has said
so.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo

from tests.endurance.load import Load
from tests.endurance.others import Other, others
from tests.endurance.program import Program, upstream
from tests.patience import PATIENCE, wait_until

#: Seconds from one death to the next.
PAUSE = 3.0

#: Seconds in which workers have told what they learnt last: much more than they need, and less than
#: a transaction lives that nobody ends.
HEARD = 15.0

#: What is under way, and over when nobody is connected any more.
UNDER_WAY = ("connections", "operations")


@dataclass
class Outcome:
    """What was counted, and what is ``left`` behind: pairs of what the program shows in the end
    and what upstream says."""

    load: Load
    others: list[Other]
    deaths: int = 0
    left: dict[str, tuple[int, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Commands that no driver runs again and that were under way in a worker that died."""
        return self.load.cut + sum(len(expected(other)) for other in self.others)


def expected(other: Other) -> list[str]:
    """The errors of an application that it has to expect: what was under way was lost, and its
    driver does not run that again."""
    return [error for error in other.errors if re.match(rf"kind [{other.once}]:", error)]


def kill(
    more: Callable[[Load, int], bool],
    folder: Path,
    workers: int = 2,
    beside: Callable[[int], list[Other]] = others,
) -> Outcome:
    """Kill a worker as long as ``more`` says so, which is asked with how many died already and
    works on meanwhile."""
    with upstream() as behind, Program(behind, folder, f"workers = {workers}\n") as program:
        found = Outcome(Load(program.port), beside(program.port))
        with ExitStack() as working:
            working.enter_context(found.load)
            for other in found.others:
                working.enter_context(other)
            while more(found.load, found.deaths):
                pids = sorted(program.workers())
                os.kill(pids[found.deaths % len(pids)], signal.SIGKILL)
                found.deaths += 1
                wait_until(lambda: _all_ready(program, workers), "the worker in its place")
        wait_until(lambda: not any(_shown(program)[what] for what in UNDER_WAY), "rest")
        excess = _settle(found, program, behind)
        found.wrong += found.load.errors
        for other in found.others:
            foreseen = expected(other)
            found.wrong += [f"{other.name}: {e}" for e in other.errors if e not in foreseen]
        found.wrong += excess
        # A worker that is killed has no time to say that a connection failed.
        found.wrong += program.bugs()
        return found


def _settle(found: Outcome, program: Program, behind: int) -> list[str]:
    """Note what is left behind once the last word of each worker is heard; what of it upstream has
    not."""
    end = time.monotonic() + HEARD
    while True:
        found.left = _left(program, behind)
        excess = [
            f"{what}: shown {shown}, upstream has {there}"
            for what, (shown, there) in found.left.items()
            if shown > there + (found.lost if what == "cursors" else 0)
        ]
        if not excess or time.monotonic() > end:
            return excess
        time.sleep(0.1)


def _shown(program: Program) -> dict[str, Any]:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{program.admin}/summary", timeout=PATIENCE
    ) as page:
        shown: dict[str, Any] = json.load(page)
        return shown


def _all_ready(program: Program, workers: int) -> bool:
    return bool(program.series()["mongo_session_proxy_workers"] == workers)


def _left(program: Program, behind: int) -> dict[str, tuple[int, int]]:
    shown = _shown(program)
    with pymongo.MongoClient("127.0.0.1", behind, directConnection=True) as direct:
        status = direct.admin.command("serverStatus")
    return {
        "sessions": (shown["sessions"], status["logicalSessionRecordCache"]["activeSessionsCount"]),
        "transactions": (shown["transactions"], status["transactions"]["currentOpen"]),
        "cursors": (shown["cursors"], status["metrics"]["cursor"]["open"]["total"]),
    }


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(words)
    end = time.monotonic() + given.seconds

    def more(load: Load, _: int) -> bool:
        time.sleep(PAUSE)
        load.wait(20)
        return time.monotonic() < end

    with tempfile.TemporaryDirectory() as folder:
        found = kill(more, Path(folder), given.workers)
    print(
        f"{found.deaths} workers killed: {found.load.done.total()} operations of PyMongo,"
        f"{''.join(f' {one.done} of {one.name},' for one in found.others)}"
        f" {found.lost} lost that no driver runs again, {len(found.wrong)} errors beside that;"
        f" shown and upstream in the end: {found.left}"
    )
    for line in found.wrong[:20]:
        print("   ", line)
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
