"""A dict over session ids that never rehashes more than a slice of itself at once.

Growing one dict of a million entries holds the loop for 25 ms; growing 256 small ones, for
less than 1 ms each.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final, Generic, TypeVar

T = TypeVar("T")

#: Entries from which on a single dict is split, which takes 3 ms once.
SPLIT_AT: Final = 32_768
PARTS: Final = 256

#: Nothing depends on what it says but estimates.
_random: Final = Random(4)


class Sharded(Generic[T]):
    """Values by 16-byte id. The last byte, random in UUIDs of version 4, chooses the part."""

    __slots__ = ("_mask", "_parts", "count")

    def __init__(self) -> None:
        self._parts: list[dict[bytes, T]] = [{}]
        self._mask = 0
        self.count = 0

    def get(self, key: bytes) -> T | None:
        return self._parts[key[15] & self._mask].get(key)

    def put(self, key: bytes, value: T) -> None:
        """Set ``key``, new or not."""
        part = self._parts[key[15] & self._mask]
        before = len(part)
        part[key] = value
        if len(part) != before:
            self.count += 1
            if self.count == SPLIT_AT and not self._mask:
                self._split()

    def remove(self, key: bytes) -> None:
        """Remove ``key``, which must be there."""
        del self._parts[key[15] & self._mask][key]
        self.count -= 1

    def part(self, number: int) -> list[T]:
        """A copy of the values of part ``number`` (below :meth:`parts`)."""
        return list(self._parts[number].values())

    def parts(self) -> int:
        """How many parts there are: 1, later ``PARTS``. Stays what it has become."""
        return len(self._parts)

    def sample(self, size: int) -> list[T]:
        """All values, or ``size`` of them at random if there are more."""
        values: list[T] = []
        for number in range(len(self._parts)):
            values += self.part(number)
            if len(values) >= size:
                break
        # Every n-th would see one of n clients that take turns.
        return values if len(values) <= size else _random.sample(values, size)

    def __iter__(self) -> Iterator[T]:
        for part in self._parts:
            yield from part.values()

    def _split(self) -> None:
        (old,) = self._parts
        self._mask = PARTS - 1
        self._parts = [{} for _ in range(PARTS)]
        for key, value in old.items():
            self._parts[key[15] & self._mask][key] = value
