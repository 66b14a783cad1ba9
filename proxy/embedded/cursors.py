"""Open cursors: what a query found and the client has not fetched yet."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import bson
from bson import Int64

from proxy.embedded.failures import failure

if TYPE_CHECKING:
    from proxy.embedded.engine import Document, Namespace
    from proxy.embedded.sessions import SessionKey

#: A batch stops growing at this many bytes of BSON, as the server's does.
BATCH_BYTES: Final = 16_777_216
FIRST_BATCH: Final = 101
#: ``cursorTimeoutMillis``: idle cursors live ten minutes.
TIMEOUT: Final = 600.0


@dataclass(slots=True)
class Cursor:
    """What was found and how far the client has come: ``rest[position:]`` is still to fetch."""

    id: int
    ns: Namespace
    rest: list[Document]
    position: int
    session: SessionKey | None
    txn_number: int | None
    users: tuple[tuple[str, str], ...]
    last_use: float
    #: For a tailable cursor: what came after the position given; None for all others.
    tail: Callable[[], list[Document]] | None = None
    await_data: bool = False

    def take(self, size: int | None) -> list[Document]:
        """The next batch: at most ``size`` documents and 16 MiB, but at least one if any."""
        batch: list[Document] = []
        room = BATCH_BYTES
        while self.position < len(self.rest) and (size is None or len(batch) < size):
            document = self.rest[self.position]
            room -= len(bson.encode(document))
            if batch and room < 0:
                break
            batch.append(document)
            self.position += 1
        return batch

    @property
    def exhausted(self) -> bool:
        """Whether everything found was fetched."""
        return self.position >= len(self.rest)


class CursorStore:
    """The server's open cursors by id."""

    def __init__(self) -> None:
        self._cursors: dict[int, Cursor] = {}
        #: How many of them are tailable.
        self.tailing = 0

    def open(
        self,
        ns: Namespace,
        documents: list[Document],
        *,
        session: SessionKey | None,
        txn_number: int | None,
        users: tuple[tuple[str, str], ...],
        now: float,
    ) -> Cursor:
        """A cursor over ``documents``; it has an id only once it is kept."""
        return Cursor(0, ns, documents, 0, session, txn_number, users, now)

    def keep(self, cursor: Cursor) -> Int64:
        """Give the cursor an id, a random positive int64 as the server's."""
        cursor.id = random.getrandbits(62) + 1
        self._cursors[cursor.id] = cursor
        self.tailing += cursor.tail is not None
        return Int64(cursor.id)

    def get(self, cursor_id: int, now: float) -> Cursor:
        """The open cursor.

        Raises:
            CommandError: 43.
        """
        self.expire(now)
        cursor = self._cursors.get(cursor_id)
        if cursor is None:
            raise failure(43, f"cursor id {cursor_id} not found")
        cursor.last_use = now
        return cursor

    def find(self, cursor_id: int) -> Cursor | None:
        """The cursor, without counting as use; None where it is not open."""
        return self._cursors.get(cursor_id)

    def close(self, cursor_id: int) -> bool:
        """Close a cursor; False where there was none."""
        cursor = self._cursors.pop(cursor_id, None)
        if cursor is None:
            return False
        self.tailing -= cursor.tail is not None
        return True

    def close_where(self, wanted: Callable[[Cursor], bool]) -> int:
        """Close all that ``wanted`` picks; how many."""
        doomed = [cursor.id for cursor in self._cursors.values() if wanted(cursor)]
        for cursor_id in doomed:
            self.close(cursor_id)
        return len(doomed)

    def expire(self, now: float) -> None:
        """Close what nobody asked for in ten minutes, unless a session keeps it alive."""
        self.close_where(lambda c: c.session is None and now - c.last_use > TIMEOUT)

    def __len__(self) -> int:
        return len(self._cursors)
