"""Whether to wait awake for the next message, by what comes of it: for us, and for others."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final


class Odds:
    """Whether it pays to wait awake for the next message, judged by the last times."""

    #: The share of waits that have to end with a message, counted over about so many: clients
    #: that send one request after another reach it, messages that come at random only where there
    #: are thousands a second.
    _ENOUGH: Final = 0.85
    _MEMORY: Final = 32

    #: What :meth:`give_chance` makes of it: two waits in vain end that.
    _CHANCE: Final = 0.9

    #: Tried again all the same, once in so many times.
    _TRY_AGAIN: Final = 16

    __slots__ = ("_asked", "_share")

    def __init__(self) -> None:
        self._share = 0.0
        self._asked = 0

    def good(self) -> bool:
        """Whether to wait awake now."""
        self._asked += 1
        return self._share > self._ENOUGH or self._asked % self._TRY_AGAIN == 0

    def give_chance(self) -> None:
        """Wait from now on as long as waits end with a message, however the last ones ended."""
        self._share = max(self._share, self._CHANCE)

    def waited(self, came: bool) -> None:
        """Note how a wait ended."""
        self._share += (came - self._share) / self._MEMORY


class Others:
    """Whether others do without a processor where one waits awake.

    A wait that a message ends may pay for us and cost others more: with as many that work as
    there are processors, the load gets a tenth less done, and its slowest hundredth takes half
    as long again. So it is tried for a moment now and then, and kept up while nobody starves.

    ``starved`` gives the seconds for which somebody had to wait for a processor, counted from any
    point on. ``begin`` is called when a trial begins: it sees to it that there are waits to judge,
    as those who sleep make each other wait too, and more than one that does not.
    """

    #: The share of time in which somebody waits for a processor, from which on it is too much.
    #: One client after another makes a fifth of it, two at once on two processors nearly all.
    _TOO_MUCH: Final = 0.5

    #: Seconds: of a trial, which is 2 % of the time where it is in vain; between two judgements
    #: while it is kept up; between two trials.
    _TRIAL: Final = 0.02
    _TERM: Final = 0.1
    _PAUSE: Final = 1.0

    __slots__ = ("_awake", "_before", "_began", "_begin", "_starved", "_until")

    def __init__(self, starved: Callable[[], float], begin: Callable[[], None]) -> None:
        self._starved = starved
        self._begin = begin
        self._awake = False
        self._began = self._before = 0.0
        self._until = 0.0

    def allow(self, now: float) -> bool:
        """Whether to wait awake now, in seconds of any clock; asked before each wait."""
        if now >= self._until:
            self._judge(now)
        return self._awake

    def _judge(self, now: float) -> None:
        starved = self._starved()
        term = self._TRIAL
        # What was long ago, with a pause since, says nothing.
        if self._awake and now < self._until + self._TERM:
            self._awake = starved - self._before < self._TOO_MUCH * (now - self._began)
            term = self._TERM if self._awake else self._PAUSE
        else:
            self._awake = True
            self._begin()
        self._began, self._before, self._until = now, starved, now + term


class Starved:
    """How long somebody had to wait for a processor, by the kernel's account; of this thread alone
    where the kernel does not keep that of all."""

    #: Pressure stall information; and how long this thread worked and waited, in nanoseconds.
    _OF_ALL: Final = "/proc/pressure/cpu"
    _OF_THREAD: Final = "/proc/thread-self/schedstat"

    __slots__ = ("_fd", "_read")

    def __init__(self) -> None:
        self._fd = -1
        self._read: Callable[[bytes], float] = _nothing
        for path, read in ((self._OF_ALL, _of_all), (self._OF_THREAD, _of_thread)):
            # Neither is everywhere, and what is there may not be readable.
            with contextlib.suppress(OSError, ValueError, IndexError):
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                read(os.pread(self._fd, 512, 0))
                self._read = read
                return
            self.close()

    def seconds(self) -> float:
        """So far, from any point on; always 0 where nobody can tell."""
        try:
            return self._read(os.pread(self._fd, 512, 0)) if self._fd >= 0 else 0.0
        except (OSError, ValueError, IndexError):
            return 0.0

    def close(self) -> None:
        """May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _of_all(text: bytes) -> float:
    some = text.split(b"\n", 1)[0]
    return int(some.rpartition(b"total=")[2]) / 1e6


def _of_thread(text: bytes) -> float:
    return int(text.split()[1]) / 1e9


def _nothing(_: bytes) -> float:
    return 0.0
