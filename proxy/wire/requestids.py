"""Request ids of the proxy's own messages."""

from __future__ import annotations

import itertools
from typing import Final

_LAST: Final = 0x7FFFFFFF


class RequestIds:
    """Positive int32 numbers from ``first`` on, over and over.

    ``itertools.cycle`` over a range would be the same, and keep each number that it has given.
    """

    __slots__ = ("_count", "_first", "_many")

    def __init__(self, first: int) -> None:
        self._first = first
        self._many = _LAST - first
        self._count = itertools.count()

    def next(self) -> int:
        """A number that was not given for long."""
        return self._first + next(self._count) % self._many
