"""Child sessions: what routers and shards put into an lsid for transactions of their own (6.0).

A child belongs to the session with its (id, uid), its parent: for listings, ownership, budgets and
kills it is that session. Only its transaction is its own, as its txnNumbers count from 0. What
tells children of one parent apart is kept as the raw elements behind ``uid`` in their lsids
(``proxy/session/ids.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.session.records import Child

#: Children with something open that are known of one parent, and in all: a router has one for each
#: command that needs it, for as long as that takes.
MOST_OF_ONE: Final = 32
MOST: Final = 10_000


class Children:
    """All that are known, the longest known first. Only the store changes it."""

    __slots__ = ("_known", "most", "most_of_one")

    def __init__(self) -> None:
        self.most = MOST
        self.most_of_one = MOST_OF_ONE
        self._known: dict[Child, None] = {}

    def __len__(self) -> int:
        return len(self._known)

    def surplus(self, siblings: dict[bytes, Child]) -> Child | None:
        """The one that has to be forgotten before another one comes beside ``siblings``."""
        if len(siblings) >= self.most_of_one:
            return next(iter(siblings.values()))
        return next(iter(self._known)) if len(self._known) >= self.most else None

    def add(self, child: Child) -> None:
        self._known[child] = None

    def discard(self, child: Child) -> None:
        self._known.pop(child, None)
