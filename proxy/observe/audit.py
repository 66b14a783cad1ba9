"""The audit log: one JSON line for every decision about sessions, written behind the loop's back.

A line is made when the decision falls and written by a thread, in order. A full disk or a slow
one must not hold up clients: what cannot be queued or written is lost, and counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import trio

from proxy import logs
from proxy.texts import MOST_SHOWN, shown

#: Lines that may wait for the disk; at 500 bytes each, 5 MB. No text in one is longer than that.
# Not Final, as tests set them.
MAX_WAITING = 10_000
#: And characters in all of them, however strange the names in them are.
MAX_CHARACTERS = 16_000_000

#: Seconds from one write to the next: to wake the thread takes as long as thirty lines.
_PAUSE: Final = 0.02

#: Bytes that reach a pipe in one piece (POSIX asks for 512, Linux has 4,096).
_PIECE: Final = 4096

_STDOUT: Final = Path("-")

#: Seconds in which what is left at the end has to be written.
_LAST_SECONDS: Final = 5.0


#: As json.dumps, which makes an encoder each time.
_encode: Final = json.JSONEncoder(ensure_ascii=False, default=str).encode


class Audit(Protocol):
    """Where lines are written."""

    def record(self, **what: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Queue one line."""

    def append(self, said: str) -> None:
        """:meth:`record`, of what :func:`fields` has made."""


class AuditLog:
    """Appends to ``path``, of which "-" is stdout; without one, decisions are only counted.

    ``written`` and ``lost`` are called with numbers of lines.
    """

    def __init__(
        self,
        path: Path | None,
        written: Callable[[int], object] = lambda _: None,
        lost: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._path = path
        self._written = written
        self._lost = lost
        self._waiting: deque[str] = deque()
        self._characters = 0
        self._filled = trio.Event()
        self._failing = False
        self._ending = trio.Event()
        #: The one thread that writes. Slow name look-ups may have all of those that trio lends.
        self._writer: Final = trio.CapacityLimiter(1)

    def record(self, **what: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Queue one line. Never waits and never raises for the disk's sake."""
        if self._path is not None:
            self.append(fields(**what))

    def append(self, said: str) -> None:
        """:meth:`record`, of what :func:`fields` has made."""
        if self._path is None:
            return
        if len(self._waiting) >= MAX_WAITING or self._characters >= MAX_CHARACTERS:
            self._lost(1)
            return
        line = f'{{"time": "{_now()}", {said}}}\n'
        self._waiting.append(line)
        self._characters += len(line)
        self._filled.set()

    def of_cluster(self, name: str) -> Audit:
        """The same log for a cluster whose name, if it has one, is part of its lines."""
        return _OfCluster(self, name) if name else self

    async def run(self) -> None:
        """Write what is queued until cancelled, then what is left.

        A disk that hangs keeps nobody from ending: what it has not taken in time is lost.
        """
        writing = trio.CancelScope(shield=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write_all, writing)
                try:
                    await trio.sleep_forever()
                finally:
                    self._ending.set()
                    self._filled.set()
                    writing.deadline = trio.current_time() + _LAST_SECONDS
        finally:
            self._lost(len(self._waiting))
            self._waiting.clear()
            self._characters = 0

    async def _write_all(self, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                await self._filled.wait()
                self._filled = trio.Event()
                await self._write()
                if self._ending.is_set() and not self._waiting:
                    return
                with trio.move_on_after(_PAUSE):
                    await self._ending.wait()

    async def _write(self) -> None:
        lines = len(self._waiting)
        if not lines or self._path is None:
            return
        text = "".join(self._waiting)
        try:
            await trio.to_thread.run_sync(
                _append,
                self._path,
                text,
                self._failing,
                abandon_on_cancel=True,
                limiter=self._writer,
            )
        except OSError as error:
            self._lost(lines)
            if not self._failing:
                logs.logger().error("audit log not written", problem=str(error))
            self._failing = True
        else:
            self._written(lines)
            self._failing = False
        # Not before: cancelling may come in front of the thread.
        for _ in range(lines):
            self._characters -= len(self._waiting.popleft())


class _OfCluster:
    def __init__(self, log: Audit, cluster: str) -> None:
        self._log = log
        self._said = fields(cluster=cluster)

    def record(self, **what: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        self.append(fields(**what))

    def append(self, said: str) -> None:
        self._log.append(f"{self._said}, {said}")


def fields(**what: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    """Part of a line: these fields as JSON, without the braces.

    Clients choose most texts. A line stays a few hundred bytes, and steers no terminal.
    """
    parts = []
    for name, value in what.items():
        odd = isinstance(value, str) and not (len(value) <= MOST_SHOWN and value.isprintable())
        parts.append(f'"{name}": {_encode(shown(value) if odd else value)}')
    return ", ".join(parts)


def _now() -> str:
    """As datetime's isoformat, in UTC and to the millisecond."""
    now = time.time()
    return f"{_second(int(now))}.{int(now % 1 * 1000):03d}+00:00"


@lru_cache(1)
def _second(number: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(number))


def _append(path: Path, text: str, failed: bool) -> None:
    if path == _STDOUT:
        _print(text)
        return
    try:
        # What a full disk has cut is to spoil no line but its own.
        cut = failed and _ends_in_a_line(path)
        # Opened each time, so that the file may be moved away and a new one begins.
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n" + text if cut else text)
    except OSError as error:
        # The system says which file only where it could not be opened.
        raise OSError(error.errno, error.strerror, str(path)) from error


def _ends_in_a_line(path: Path) -> bool:
    """Whether the last line of a file has no end."""
    # Not of a pipe, nor where it may be written alone.
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
                return file.read(1) not in (b"", b"\n")
    return False


def _print(text: str) -> None:
    # Whole lines, in pieces that a pipe takes at once: several processes may write to it.
    if sys.stdout is None:
        raise OSError("there is no stdout")
    number = sys.stdout.fileno()
    piece = b""
    for line in text.encode("utf-8", "backslashreplace").splitlines(keepends=True):
        if piece and len(piece) + len(line) > _PIECE:
            _write_all(number, piece)
            piece = b""
        piece += line
    _write_all(number, piece)


def _write_all(number: int, data: bytes) -> None:
    while data:
        written = os.write(number, data)
        data = data[written:]
