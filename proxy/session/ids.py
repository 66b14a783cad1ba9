"""What names a logical session and a transaction of it, and the facts that never change."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Set
from functools import partial
from itertools import islice, repeat
from typing import Final, NamedTuple
from uuid import UUID

from proxy.wire.layouts import CHILD, PARENT_NUMBER
from proxy.wire.opcodes import INT64


class LogicalSessionId(NamedTuple):
    """A session's key: ``id`` is the UUID's 16 bytes, ``uid`` the owner's 32-byte digest.

    The pair is the identity: two users may use the same UUID without meeting.
    """

    id: bytes
    uid: bytes

    def __str__(self) -> str:
        """The form that the server's error texts use: ``<uuid> - <base64 of uid>``."""
        return f"{UUID(bytes=self.id)} - {b64encode(self.uid).decode()}"


class OpenTransaction(NamedTuple):
    """A transaction that may be open, as its abort has to name it.

    ``api`` are the API parameters that it repeats, ``child`` the fields of a child session's lsid;
    both are raw elements, empty where none.
    """

    key: LogicalSessionId
    number: int
    api: bytes = b""
    child: bytes = b""


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


def child_fields(txn_number: int | None, txn_uuid: bytes) -> bytes:
    """The fields of a child's lsid behind ``uid``, as servers write them."""
    number = b"" if txn_number is None else PARENT_NUMBER + INT64.pack(txn_number)
    return number + CHILD + txn_uuid


def child_text(fields: bytes) -> str:
    """``<txnNumber> - <txnUUID>``, as the server's error texts show them behind the session."""
    number = ""
    if fields.startswith(PARENT_NUMBER):
        number = str(INT64.unpack_from(fields, len(PARENT_NUMBER))[0])
    return f"{number} - {UUID(bytes=fields[-16:])}"


class Origin(NamedTuple):
    """Where a session's first request came from; empty strings for what is not known.

    ``platform`` is what the driver says of system, processor and language.
    """

    client: str = ""
    application: str = ""
    driver: str = ""
    driver_version: str = ""
    platform: str = ""


UNKNOWN_ORIGIN = Origin()
