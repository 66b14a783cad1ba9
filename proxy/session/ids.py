"""The key of a logical session, and the facts about it that never change."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import repeat
from typing import Final, NamedTuple
from uuid import UUID


class LogicalSessionId(NamedTuple):
    """A session's key: ``id`` is the UUID's 16 bytes, ``uid`` the owner's 32-byte digest.

    The pair is the identity: two users may use the same UUID without meeting
    (design section 3).
    """

    id: bytes
    uid: bytes

    def __str__(self) -> str:
        """The form that the server's error texts use: ``<uuid> - <base64 of uid>``."""
        return f"{UUID(bytes=self.id)} - {b64encode(self.uid).decode()}"


#: A key of a tuple. Written in Python, a namedtuple's own constructor takes twice as long.
make_key: Final = partial(tuple.__new__, LogicalSessionId)


def keys_of(ids: Iterable[bytes], uid: bytes) -> Iterator[LogicalSessionId]:
    """The keys of many sessions of one owner."""
    return map(make_key, zip(ids, repeat(uid)))


class Origin(NamedTuple):
    """Where a session's first request came from; empty strings for what is not known."""

    client: str = ""
    application: str = ""
    driver: str = ""
    driver_version: str = ""


UNKNOWN_ORIGIN = Origin()
