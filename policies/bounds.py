"""Bounds of their own for some users and applications: which of them are whose.

A rule's setting ``bounds`` is a list of entries, each with patterns of users and of applications.
The first entry that matches both decides; a list without a pattern matches everybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Generic, Protocol, TypeVar

from proxy.texts import matcher

#: Users with their applications whose entry is remembered. What they are called takes 2 KB at most.
_REMEMBERED: Final = 4_096

#: What a list without a pattern stands for.
_ANY: Final = ("*",)


class Entry(Protocol):
    """What an entry says of whom it is for."""

    @property
    def users(self) -> tuple[str, ...]:
        """Patterns of ``user@db``; none for everybody."""

    @property
    def applications(self) -> tuple[str, ...]:
        """Patterns of ``application.name``; none for all."""


E = TypeVar("E", bound=Entry)


class Bounds(Generic[E]):
    """The entries of one rule, in order."""

    def __init__(self, entries: Sequence[E]) -> None:
        self._entries = [
            (entry, list(map(matcher, entry.users)), list(map(matcher, entry.applications)))
            for entry in entries
        ]
        self._find = lru_cache(_REMEMBERED)(self._look_for)

    def find(self, user: str, application: str) -> tuple[int, E] | None:
        """The number of the entry for this user (``user@db``) and application, and the entry."""
        return self._find(user, application) if self._entries else None

    def _look_for(self, user: str, application: str) -> tuple[int, E] | None:
        for number, (entry, users, applications) in enumerate(self._entries):
            if (not users or any(one(user) for one in users)) and (
                not applications or any(one(application) for one in applications)
            ):
                return number, entry
        return None


def never_reached(entries: Sequence[Entry]) -> Iterator[tuple[str, int]]:
    """What of ``entries`` can match nobody, since earlier entries take all of it: a path in the
    list such as ``[1]`` or ``[1].users[0]``, and the number of an entry that takes it."""
    for number, entry in enumerate(entries):
        earlier = entries[:number]
        users, applications = entry.users or _ANY, entry.applications or _ANY
        taken = {
            (user, application): _taker(earlier, user, application)
            for user in users
            for application in applications
        }
        if all(one is not None for one in taken.values()):
            yield f"[{number}]", max(one for one in taken.values() if one is not None)
            continue
        for name, patterns, of in (("users", users, 0), ("applications", applications, 1)):
            for at, pattern in enumerate(patterns):
                takers = [taker for key, taker in taken.items() if key[of] == pattern]
                found = [one for one in takers if one is not None]
                if len(found) == len(takers):
                    yield f"[{number}].{name}[{at}]", max(found)


def _taker(entries: Sequence[Entry], user: str, application: str) -> int | None:
    """The first entry that matches all that both patterns match, as far as one alone does."""
    for number, entry in enumerate(entries):
        if any(_covers(one, user) for one in entry.users or _ANY) and any(
            _covers(one, application) for one in entry.applications or _ANY
        ):
            return number
    return None


def _covers(pattern: str, other: str) -> bool:
    # Nothing but a star of the one can match a star of the other.
    return matcher(pattern)(other)
