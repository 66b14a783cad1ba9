"""What takes long, in steps: others have their turn wherever it yields."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

T = TypeVar("T")

#: Entries of a list that are parsed and judged in one step: some 0.3 ms.
STEP: Final = 32

#: Keys that are only put somewhere in one step.
MANY: Final = 1_000

#: What finds something in steps, each well below a millisecond.
Steps = Generator[None, None, T]


def in_one_go(steps: Steps[T]) -> T:
    """What is found, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
