"""Mixed load for some minutes: memory, descriptors and series stay flat.

.venv/bin/python -m tests.endurance.mixed --minutes 10
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.endurance.load import Load
from tests.endurance.program import Program, upstream

#: What may come and go at any time: connections of the load that come and go.
SPARE_DESCRIPTORS = 12
#: What the last third may take more than the middle one: pages, not leaks.
SPARE_BYTES = 4 << 20
#: What a session takes that was used and has ended (docs/operation.md).
_SESSION = 500
#: Some series begin with their first event, such as an error's code.
SPARE_SERIES = 5


@dataclass
class Sample:
    """What the process took at one moment."""

    memory: int
    descriptors: int
    series: int
    #: Those that are remembered: each for half an hour after its last use, so that they grow for as
    #: long as this runs.
    sessions: int = 0

    @property
    def rest(self) -> int:
        """Bytes beside what sessions are known to take."""
        return self.memory - _SESSION * self.sessions

    @classmethod
    def of(cls, program: Program) -> Sample:
        series = program.series()
        known = int(series["mongo_session_proxy_sessions"])
        return cls(program.memory(), program.descriptors(), len(series), known)


def flat(samples: list[Sample]) -> list[str]:
    """What grew from the middle third to the last one; nothing if all is well."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    found = []
    for name, spare in (
        ("rest", SPARE_BYTES),
        ("descriptors", SPARE_DESCRIPTORS),
        ("series", SPARE_SERIES),
    ):
        before = median(getattr(one, name) for one in middle)
        after = median(getattr(one, name) for one in last)
        if after > before + spare:
            found.append(f"{name} grew from {before:.0f} to {after:.0f}")
    return found


def soak(more: Callable[[Load, int], bool], folder: Path) -> tuple[Load, list[Sample], list[str]]:
    """Samples for as long as ``more`` says so, which is asked with how many there are and works
    on meanwhile; and what is wrong."""
    samples: list[Sample] = []
    with upstream() as behind:
        program = Program(behind, folder)
        with Load(program.port) as load:
            while more(load, len(samples)):
                samples.append(Sample.of(program))
        program.stop()
    wrong = [*load.errors, *program.bugs(), *flat(samples)]
    if load.cut:
        wrong.append(f"{load.cut} connections ended")
    return load, samples, wrong


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    given = parser.parse_args(words)
    end = time.monotonic() + given.minutes * 60

    def more(load: Load, _: int) -> bool:
        load.wait(200)
        time.sleep(0.5)
        return time.monotonic() < end

    with tempfile.TemporaryDirectory() as folder:
        load, samples, wrong = soak(more, Path(folder))
    first, last = samples[len(samples) // 3], samples[-1]
    print(
        f"{given.minutes:g} minutes, {load.done.total()} operations, {len(load.errors)} errors:"
        f" {first.sessions} to {last.sessions} sessions, memory {first.memory >> 10} to"
        f" {last.memory >> 10} KiB, descriptors"
        f" {first.descriptors} to {last.descriptors}, series {first.series} to {last.series}"
    )
    for line in wrong[:20]:
        print("   ", line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
