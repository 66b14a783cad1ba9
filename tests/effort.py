"""How much processor time something takes, told so that no machine's speed or load decides.

A millisecond here is what a fixed piece of work takes, measured in the same process just before
and behind: about one on the machine that the bounds in the tests were chosen on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import thread_time

import trio

#: How many times the fixed piece of work is done in a millisecond.
_ROUNDS = 190
_WORDS = re.compile(r"(\w+)=(\d+)")


def _work() -> int:
    """Some of what the product does most: slices, dictionaries, calls, a pattern."""
    data, found = b"0123456789" * 4, {}
    for number in range(20):
        found[data[number : number + 4]] = (number, data.index(b"7", number))
    return len(found) + len(_WORDS.findall("a=1 bb=22 ccc=333")) + sum(n for n, _ in found.values())


def a_millisecond() -> float:
    began = thread_time()
    for _ in range(_ROUNDS):
        _work()
    return thread_time() - began


def milliseconds(call: Callable[[], object], tries: int = 5) -> float:
    """The processor time of ``call``, the least of so many times."""
    best = float("inf")
    for _ in range(tries):
        unit = a_millisecond()
        began = thread_time()
        call()
        took = thread_time() - began
        best = min(best, took / max(unit, a_millisecond()))
    return best


class Turns(trio.abc.Instrument):
    """The longest step of any of the product's tasks in a trio run, in processor time.

    Those are known by the names of their functions, which begin with ``names``.
    """

    def __init__(self, *names: str) -> None:
        self._names = names or ("proxy.",)
        self._began = 0.0
        self._unit = max(a_millisecond() for _ in range(5))
        #: Those that took more than a millisecond.
        self.steps: list[tuple[float, str]] = []

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began = thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        took = (thread_time() - self._began) / self._unit
        if took > 1 and task.name.startswith(self._names) and "embedded" not in task.name:
            self.steps.append((took, task.name))

    def longest(self) -> float:
        """In milliseconds, as :func:`milliseconds` has them."""
        return max((took for took, _ in self.steps), default=0.0)
