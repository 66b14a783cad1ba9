"""The terminal itself: taken, drawn on, read from, and given back in order whatever happens."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final

from proxy.terminal.keys import Keys

# The other screen, no cursor, and no line that goes on in the next one.
_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
#: What is between these is shown at once, by terminals that know them.
_BEGIN: Final = "\x1b[?2026h"
_END: Final = "\x1b[?2026l"

#: Seconds after which an Escape is the key and not the beginning of what another one sends.
_ESCAPE_PATIENCE: Final = 0.05

#: Exit status of what a signal ends, less the signal's number.
_BY_SIGNAL: Final = 128


class Device:
    """The keyboard and the screen, and answers that other threads wait for."""

    def __init__(self) -> None:
        self._keyboard = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._keyboard)
        self._keys = Keys()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._answers: SimpleQueue[Callable[[], None]] = SimpleQueue()

    # ------------------------------------------------------------------ taking and giving back

    def take(self) -> None:
        """Keys as they come, and the screen to be drawn on."""
        tty.setcbreak(self._keyboard)
        self._write(_ENTER)

    def give_back(self) -> None:
        """As it was before. A terminal that is gone needs nothing."""
        with suppress(OSError):
            self._write(_LEAVE)
        with suppress(OSError, termios.error):
            termios.tcsetattr(self._keyboard, termios.TCSADRAIN, self._before)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def stop(self, *_: object) -> None:
        """Give it back and stop, as Ctrl-Z wants; take it again when one goes on."""
        self.give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Here one goes on, or has not stopped, where nobody could have said so.
        self.resume()

    def resume(self, *_: object) -> None:
        """Take it again: whoever had it meanwhile may have changed anything."""
        signal.signal(signal.SIGTSTP, self.stop)
        self.take()
        self.wake()

    def wake(self, *_: object) -> None:
        """Have :meth:`wait` return."""
        with suppress(OSError):
            os.write(self._wake, b"x")

    # ------------------------------------------------------------------ drawing and reading

    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        try:
            columns, lines = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            columns = lines = 0
        return columns or 80, lines or 24

    def draw(self, lines: list[str]) -> None:
        """Draw over what is there, each line cleared first: one that is full has its end on it."""
        text = "\r\n".join(f"{_CLEAR_LINE}{line}" for line in lines)
        self._write(f"{_BEGIN}{_HOME}{text}{_END}")

    def forget_keys(self) -> None:
        """Keys that were pressed before what is now on the screen are not meant for it."""
        with suppress(termios.error):
            termios.tcflush(self._keyboard, termios.TCIFLUSH)

    def wait(self, seconds: float | None) -> list[str]:
        """The keys that come within a time: none if something else does, or nothing."""
        ready, _, _ = select.select([self._keyboard, self._woken], [], [], seconds)
        if self._woken in ready:
            os.read(self._woken, 4_096)
        while not self._answers.empty():
            self._answers.get()()
        if self._keyboard not in ready:
            return []
        keys = self._keys.feed(self._read())
        while self._keys.begun:
            more, _, _ = select.select([self._keyboard], [], [], _ESCAPE_PATIENCE)
            keys += self._keys.feed(self._read() if more else b"", last=not more)
        return keys

    def _read(self) -> bytes:
        try:
            # Without a terminal there is no end to wait for.
            return os.read(self._keyboard, 1_024) or b"\x04"
        except OSError:
            return b"\x04"

    def start(self, ask: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Have something done that takes its time; ``then`` gets what it returns or raises, in
        :meth:`wait`."""

        def run() -> None:
            try:
                answer: Any = ask()
            except Exception as error:
                answer = error
            self._answers.put(lambda: then(answer))
            self.wake()

        # Not waited for at the end: a proxy that hangs must not hold who wants to leave.
        Thread(target=run, daemon=True).start()


@contextmanager
def device() -> Iterator[Device]:
    """The terminal, which is given back in the end."""
    taken = Device()
    handlers: dict[int, Callable[..., object]] = {
        signal.SIGWINCH: taken.wake,
        signal.SIGTSTP: taken.stop,
        signal.SIGCONT: taken.resume,
        signal.SIGTERM: _end,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        taken.take()
        yield taken
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        taken.give_back()


def _end(number: int, _frame: object) -> None:
    raise SystemExit(_BY_SIGNAL + number)
