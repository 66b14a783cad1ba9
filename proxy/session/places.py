"""Places: what budgets count. A session has one from its first use until it is over.

It is over when it was ended or killed, has not been used since, and nothing of it is open any
more: no operation, no cursor, no transaction. Then its place is free for another session, though
it stays known, and upstream may remember it as long. Its next use takes a place again.
"""

from __future__ import annotations

from typing import Final

#: Why a session has a place; 0 for one that has none. It was used and is not over.
HELD: Final = 1
#: It was used by a request that nobody answers, so that nobody can tell when that is over.
UNANSWERED: Final = 2
#: Another process has something in flight under it.
ELSEWHERE: Final = 4


class Places:
    """How many places are taken, in all and for each application; of owners they know it
    themselves."""

    __slots__ = ("_applications", "total")

    def __init__(self) -> None:
        self.total = 0
        self._applications: dict[str, int] = {}

    def change(self, application: str, by: int) -> None:
        """Count so many more (fewer, below 0) for an application."""
        self.total += by
        left = self._applications.get(application, 0) + by
        if left:
            self._applications[application] = left
        else:
            self._applications.pop(application, None)

    def of_application(self, application: str) -> int:
        """How many an application has."""
        return self._applications.get(application, 0)
