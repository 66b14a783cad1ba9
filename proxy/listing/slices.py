"""Long lists some at a time, so that the loop is never held for long."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

T = TypeVar("T")

#: Items that can be looked at in one go: some 2 ms.
SLICE: Final = 1_000


def in_batches(items: Iterable[T], size: int = SLICE) -> Iterator[list[T]]:
    """As :func:`in_slices`, of what does not change and is made one by one."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def drained(items: list[T], size: int = SLICE) -> Iterator[list[T]]:
    """As :func:`in_slices`, from the last to the first. What nobody keeps is gone at once: to let
    go of 100,000 in one go takes 30 ms."""
    while items:
        some = items[-size:]
        del items[-size:]
        yield some


def in_slices(items: Iterable[T], size: int = SLICE) -> Iterator[list[T]]:
    """The items, ``size`` at a time.

    They are taken at once, as they may change between two slices.
    """
    return in_batches(items if isinstance(items, list) else list(items), size)
