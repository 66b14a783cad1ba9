"""The cursors that sessions have open, as many as may be known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.session.records import CursorId, Owner, Session

#: Cursors that are known of one session: the one opened first is forgotten for another one.
# Not Final, as tests set it.
MOST_OF_SESSION = 1_000

#: And of all sessions together; each takes some 700 bytes.
DEFAULT_MAX_CURSORS: Final = 200_000


class OpenCursors:
    """Which session has opened a cursor, when, and on which connection; in the order in which they
    were opened.

    Where there are too many, whoever has the most loses their oldest: nobody can have another
    owner's cursors forgotten, and with that what is refused to those who do not own them, but by
    having fewer than that one.
    """

    __slots__ = (
        "_by_count",
        "_connections",
        "_numbers",
        "_of_owner",
        "_opened",
        "_sessions",
        "_top",
        "most",
    )

    def __init__(self, most: int = DEFAULT_MAX_CURSORS) -> None:
        self.most = most
        self._sessions: dict[CursorId, Session] = {}
        self._opened: dict[CursorId, float] = {}
        self._connections: dict[CursorId, int] = {}
        #: Of those that were opened in a transaction.
        self._numbers: dict[CursorId, int] = {}
        self._of_owner: dict[Owner, dict[CursorId, None]] = {}
        #: Owners by how many they have, and the most that any has.
        self._by_count: dict[int, dict[Owner, None]] = {}
        self._top = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def session(self, cursor: CursorId) -> Session | None:
        """Whose it is; None for one that is not known."""
        return self._sessions.get(cursor)

    def opened_at(self, cursor: CursorId) -> float | None:
        """When it was opened; None for one that is not known."""
        return self._opened.get(cursor)

    def connection(self, cursor: CursorId) -> int:
        """The number of the client connection that it was opened on; 0 where that is not known."""
        return self._connections.get(cursor, 0)

    def number(self, cursor: CursorId) -> int:
        """The txnNumber of the transaction that it was opened in; -1 for none."""
        return self._numbers.get(cursor, -1)

    def oldest(self) -> float | None:
        """When the one that is open for longest was opened."""
        return next(iter(self._opened.values()), None)

    def owners(self) -> list[tuple[Owner, int]]:
        """Who has how many."""
        return [(owner, len(own)) for owner, own in self._of_owner.items()]

    def surplus(self, session: Session) -> CursorId | None:
        """What has to be forgotten before ``session`` can have another one; None for nothing."""
        activity = session.activity
        if activity is not None and len(activity.cursors) >= MOST_OF_SESSION:
            return next(iter(activity.cursors))
        if len(self._sessions) < self.most:
            return None
        return next(iter(self._of_owner[next(iter(self._by_count[self._top]))]))

    def add(
        self,
        cursor: CursorId,
        session: Session,
        now: float,
        connection: int = 0,
        number: int = -1,
    ) -> None:
        """Note one that is not known."""
        if number >= 0:
            self._numbers[cursor] = number
        self._sessions[cursor] = session
        self._opened[cursor] = now
        self._connections[cursor] = connection
        owner = session.owner
        own = self._of_owner.get(owner)
        if own is None:
            own = self._of_owner[owner] = {}
        own[cursor] = None
        self._moved(owner, len(own) - 1, len(own))

    def discard(self, cursor: CursorId) -> Session | None:
        """Forget one; the session that had it, None where it is not known."""
        session = self._sessions.pop(cursor, None)
        if session is None:
            return None
        del self._opened[cursor]
        del self._connections[cursor]
        self._numbers.pop(cursor, None)
        owner = session.owner
        own = self._of_owner[owner]
        del own[cursor]
        if not own:
            del self._of_owner[owner]
        self._moved(owner, len(own) + 1, len(own))
        return session

    def _moved(self, owner: Owner, before: int, now: int) -> None:
        """An owner has one more or one less than before."""
        counts = self._by_count
        if before:
            same = counts[before]
            del same[owner]
            if not same:
                del counts[before]
                if before == self._top:
                    self._top = now
        if now:
            counts.setdefault(now, {})[owner] = None
            self._top = max(self._top, now)
