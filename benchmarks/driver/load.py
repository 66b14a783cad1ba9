"""The Go program of this folder as a load: built where Go is, told what to do on a pipe.

It can be given to :func:`benchmarks.measure.cell` in place of :class:`benchmarks.load.Load`.
"""

from __future__ import annotations

import contextlib
import json
import select
import shutil
import subprocess
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from benchmarks.contenders import MissingError
from benchmarks.load import LoadError, Round

WORKLOADS: Final = ("find", "find-varied", "insert", "transaction", "getMore")

_SOURCE: Final = Path(__file__).resolve().parent
PROGRAM: Final = _SOURCE.parent.parent / "build" / "driverload"

#: The longest that the program may take for one order beyond what it was told, in seconds.
_PATIENCE: Final = 60.0


def build() -> Path:
    """The program, built anew where its source has changed.

    Raises:
        MissingError: no Go here, or it cannot build this.
    """
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise MissingError("go is not installed")
    built = subprocess.run(
        [go, "build", "-o", str(PROGRAM), "."], cwd=_SOURCE, capture_output=True, text=True
    )
    if built.returncode:
        raise MissingError(f"the driver's load cannot be built: {built.stderr.strip()}")
    return PROGRAM


class DriverLoad:
    """The running program; use as a context manager. ``uri`` says how to reach a port."""

    def __init__(self, program: Path, uri: Callable[[int], str]) -> None:
        self._uri = uri
        self._process = subprocess.Popen(
            [str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> DriverLoad:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def seed(self, port: int, *, clear: bool = False) -> None:
        """Make the collections anew that the workloads read; or drop all that was made."""
        self._order("clear" if clear else "seed", uri=self._uri(port))
        self._answer(_PATIENCE)

    def open(self, name: str, port: int, workload: str, connections: int) -> None:
        """As :meth:`benchmarks.load.Load.open`, for a workload of the driver's."""
        uri = self._uri(port)
        self._order("open", name=name, uri=uri, workload=workload, connections=connections)
        self._answer(_PATIENCE)

    def close(self, name: str) -> None:
        """Close what was opened under ``name``."""
        self._order("close", name=name)
        self._answer(_PATIENCE)

    def start(self, name: str, begin: float, end: float) -> None:
        """As :meth:`benchmarks.load.Load.start`."""
        warm = begin - time.perf_counter()
        self._order("run", name=name, warm=warm, seconds=end - begin)

    def result(self, seconds: float) -> Round:
        """Wait for what :meth:`start` began."""
        latencies = self._answer(seconds + _PATIENCE)
        return Round(len(latencies), seconds, latencies)

    def _order(self, order: str, **more: Any) -> None:
        assert self._process.stdin is not None
        # A program that has ended has no answer either, which says so.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"order": order, **more}).encode() + b"\n")
            self._process.stdin.flush()

    def _answer(self, patience: float) -> array[float]:
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], patience)[0]:
            raise LoadError("no answer: a connection hangs")
        answer = json.loads(out.readline() or b'{"error": "the driver\'s load has ended"}')
        if "error" in answer:
            raise LoadError(answer["error"])
        latencies: array[float] = array("d")
        latencies.frombytes(out.read(answer["latencies"] * latencies.itemsize))
        return latencies
