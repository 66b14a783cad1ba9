"""The key of a logical session, and the facts about it that never change."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Set
from functools import partial
from itertools import islice, repeat
from typing import Final, NamedTuple
from uuid import UUID


class LogicalSessionId(NamedTuple):
    """A session's key: ``id`` is the UUID's 16 bytes, ``uid`` the owner's 32-byte digest.

    The pair is the identity: two users may use the same UUID without meeting.
    """

    id: bytes
    uid: bytes

    def __str__(self) -> str:
        """The form that the server's error texts use: ``<uuid> - <base64 of uid>``."""
        return f"{UUID(bytes=self.id)} - {b64encode(self.uid).decode()}"


#: A key of a tuple. Written in Python, a namedtuple's own constructor takes twice as long.
make_key: Final = partial(tuple.__new__, LogicalSessionId)


class OwnedKeys(Set[LogicalSessionId]):
    """Many sessions of one owner, each once and in order; a slice is one again.

    A key is made when it is looked at: 10,000 at once take 2 ms and as much of the garbage
    collector's time.
    """

    __slots__ = ("ids", "uid")

    def __init__(self, ids: Iterable[bytes], uid: bytes) -> None:
        self.ids = ids if isinstance(ids, dict) else dict.fromkeys(ids)
        self.uid = uid

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[LogicalSessionId]:
        return map(make_key, zip(self.ids, repeat(self.uid)))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and key[1] == self.uid and key[0] in self.ids

    def __getitem__(self, part: slice) -> OwnedKeys:
        return OwnedKeys(islice(self.ids, part.start, part.stop), self.uid)


class Origin(NamedTuple):
    """Where a session's first request came from; empty strings for what is not known."""

    client: str = ""
    application: str = ""
    driver: str = ""
    driver_version: str = ""


UNKNOWN_ORIGIN = Origin()
