"""A process on a terminal of its own (a pty)."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager

from tests.patience import PATIENCE


class Terminal:
    """The process, what it wrote and keys for it."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.output = ""
        self._decoder = getincrementaldecoder("utf-8")()

    def read_until(self, *texts: str) -> None:
        """Read until the output since the last call has held all of ``texts`` in turn."""
        deadline = time.monotonic() + PATIENCE
        for text in texts:
            while text not in self.output:
                assert time.monotonic() < deadline, f"no {text!r} in {self.output!r}"
                self.read_more()
            self.output = self.output.partition(text)[2]

    def read_more(self) -> None:
        """Read what comes next."""
        ready, _, _ = select.select([self._descriptor], [], [], PATIENCE)
        assert ready, f"nothing came after {self.output!r}"
        self.output += self._decoder.decode(os.read(self._descriptor, 65_536))

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Make it larger or smaller, and say so, as a terminal does."""
        _resize(self._descriptor, columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def as_it_was(self) -> bool:
        """Whether what is typed is shown and comes by lines, as in a shell."""
        modes = termios.tcgetattr(self._descriptor)[3]
        return bool(modes & termios.ECHO and modes & termios.ICANON)


def _resize(descriptor: int, columns: int, lines: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def on_terminal(*arguments: str, columns: int = 100, lines: int = 30) -> Iterator[Terminal]:
    """``mongo-session-proxy`` with ``arguments`` on a terminal."""
    ours, theirs = pty.openpty()
    _resize(theirs, columns, lines)
    command = [sys.executable, "-m", "proxy", *arguments]
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    # In a group of its own, as a shell starts it: else nothing could stop it and have it go on.
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, process_group=0
    ) as process:
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            os.close(ours)
