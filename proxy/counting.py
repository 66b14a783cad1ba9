"""Counts that cost next to nothing while requests pass; a page of metrics is made of them later.

Everything is counted on one loop, so nothing here has a lock: an increment takes some 50 ns
where a counter of a metrics library takes 500.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final, Generic, TypeVar

K = TypeVar("K")

#: The value of a label for all that has no value of its own.
OTHER: Final = "other"


class Tally(dict[K, int]):
    """Counts by label values: ``tally[key] += 1``. Keys have to come from a bounded set."""

    def __missing__(self, key: K) -> int:
        return 0


class Names(dict[str, str]):
    """Label values by what was given: the ``known`` names themselves, :data:`OTHER` for the rest.

    Without ``known`` the first ``most`` names that come are known from then on.
    """

    def __init__(self, known: frozenset[str] | None = None, most: int = 0) -> None:
        super().__init__((name, name) for name in known or ())
        self._most = most if known is None else 0

    def __missing__(self, name: str) -> str:
        if len(self) >= self._most:
            return OTHER
        self[name] = name
        return name


class Cells(dict[str, list[int]]):
    """Several counts for each known name, and for :data:`OTHER`, which stands for the rest.

    ``cells[name][place] += 1`` is the cheapest there is: one look-up, and no key to be made.
    """

    def __init__(self, known: frozenset[str], places: int) -> None:
        super().__init__((name, [0] * places) for name in known)
        self._other = self[OTHER] = [0] * places

    def __missing__(self, name: str) -> list[int]:
        return self._other


class Distribution:
    """How often values were at most each of ``bounds`` (ascending), and their sum.

    ``counts`` has one more place than ``bounds``, for what is larger than all of them.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def add(self, other: Distribution) -> None:
        """Add what ``other`` has counted, within the same bounds."""
        self.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


class Usage(Distribution):
    """How many requests came, how long it took to answer them, how many of these answers were
    errors, and bytes of requests and of replies."""

    __slots__ = ("errors", "received", "requests", "sent")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self.requests = 0
        self.errors = 0
        self.received = 0
        self.sent = 0

    def count_in(self, other: Usage) -> None:
        """Add all that ``other`` has counted."""
        self.add(other)
        self.requests += other.requests
        self.errors += other.errors
        self.received += other.received
        self.sent += other.sent

    def take_over(self, other: Usage) -> None:
        """Add what ``other`` has counted, and have that begin anew."""
        self.count_in(other)
        other.counts = [0] * len(other.counts)
        other.sum = 0.0
        other.requests = other.errors = other.received = other.sent = 0


class Recent(Generic[K]):
    """When each of the ``most`` keys that came last came last; older keys are forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: dict[K, float] = {}

    def note(self, key: K, now: float) -> None:
        """This key came now."""
        self._times.pop(key, None)
        self._times[key] = now
        if len(self._times) > self._most:
            del self._times[next(iter(self._times))]

    def items(self) -> list[tuple[K, float]]:
        """Keys with their times, the latest last."""
        return list(self._times.items())
