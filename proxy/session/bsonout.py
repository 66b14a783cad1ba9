"""Commands for upstream, put together from raw elements so that nothing is re-encoded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar, overload

from proxy.session.ids import OwnedKeys
from proxy.wire.layouts import PLAIN_LSID_SIZE
from proxy.wire.opcodes import INT32, INT64, OP_MSG

if TYPE_CHECKING:
    from proxy.session.ids import LogicalSessionId
    from proxy.wire.messages import Request

#: Entries per command: to make one, and to note what it did, takes a few milliseconds.
BATCH: Final = 1_000

E = TypeVar("E")

E_co = TypeVar("E_co", covariant=True)

#: Turns entries of a list into their documents.
Forms = Callable[[Collection[E]], list[bytes]]

#: What stands in front of an array's first documents.
_PLACES: Final = [b"\x03%d\0" % place for place in range(BATCH)]

#: Fields of a session command that mean nothing to another command or in another place.
_OWN: Final = frozenset(
    (b"lsid", b"txnNumber", b"autocommit", b"startTransaction", b"stmtId", b"stmtIds", b"$db")
)
#: Fields that every command of every version takes.
_GENERIC: Final = frozenset((b"maxTimeMS", b"readConcern", b"$clusterTime", b"$readPreference"))

#: What never goes along, whatever :func:`carried` is told.
_LEFT_OUT: Final = _OWN - {b"lsid", b"$db"}

#: Entries of a list whose places have one digit, and what each takes: type, place, lsid.
_FEW: Final = 10
_ENTRY: Final = 3 + PLAIN_LSID_SIZE

_UUID_HEAD: Final = b"\x05id\0\x10\0\0\0\x04"
_PLAIN_HEAD: Final = b"\x1e\0\0\0" + _UUID_HEAD
_UID_HEAD: Final = b"\x05uid\0\x20\0\0\0\0"


def document(*elements: bytes) -> bytes:
    """A document of raw elements (type, name, value)."""
    size = 5 + sum(map(len, elements))
    return b"".join((INT32.pack(size), *elements, b"\0"))


def text(name: str, value: str) -> bytes:
    """A string element."""
    raw = value.encode("utf-8", "surrogateescape")
    return b"\x02%b\0%b%b\0" % (name.encode(), INT32.pack(len(raw) + 1), raw)


def number(name: str, value: int) -> bytes:
    """An int32 element."""
    return b"\x10%b\0%b" % (name.encode(), INT32.pack(value))


def true(name: str) -> bytes:
    """A bool element that is true."""
    return b"\x08%b\0\1" % name.encode()


def nested(name: str, value: bytes) -> bytes:
    """An element that holds a document."""
    return b"\x03%b\0%b" % (name.encode(), value)


def array(name: str, documents: Sequence[bytes]) -> bytes:
    """An element that holds an array of documents, :data:`BATCH` of them at the most."""
    parts = [b""] * (2 * len(documents))
    parts[::2] = _PLACES[: len(documents)]
    parts[1::2] = documents
    return b"\x04%b\0%b" % (name.encode(), document(*parts))


def longs(name: str, values: Iterable[int]) -> bytes:
    """An element that holds an array of int64."""
    parts = [b"\x12%d\0%b" % (at, INT64.pack(value)) for at, value in enumerate(values)]
    return b"\x04%b\0%b" % (name.encode(), document(*parts))


def session(key: LogicalSessionId, own: bytes | None, child: bytes = b"") -> bytes:
    """``{id}``, with ``uid`` where the owner is another than ``own``; ``child`` are more fields."""
    if key.uid == own and not child:
        return b"%b%b\0" % (_PLAIN_HEAD, key.id)
    return document(_UUID_HEAD + key.id, _UID_HEAD + key.uid, child)


def sessions(keys: Iterable[LogicalSessionId], own: bytes | None) -> list[bytes]:
    """Each as :func:`session` puts it."""
    if isinstance(keys, OwnedKeys) and keys.uid == own:
        return [b"%b%b\0" % (_PLAIN_HEAD, one) for one in keys.ids]
    return [session(key, own) for key in keys]


def exact(key: LogicalSessionId) -> bytes:
    """``{lsid: {id, uid}}``."""
    return document(nested("lsid", document(_UUID_HEAD + key.id, _UID_HEAD + key.uid)))


def of_owner(uid: bytes) -> bytes:
    """``{uid}``."""
    return document(_UID_HEAD + uid)


def users(entries: Iterable[tuple[str, str]]) -> list[bytes]:
    """``{user, db}``, as killAllSessions takes them."""
    return [document(text("user", user), text("db", database)) for user, database in entries]


def patterns(entries: Iterable[bytes | LogicalSessionId]) -> list[bytes]:
    """Uids and sessions as killAllSessionsByPattern takes them."""
    return [of_owner(one) if isinstance(one, bytes) else exact(one) for one in entries]


def carried(request: Request, *, same_command: bool, with_lsid: bool) -> list[bytes]:
    """The request's other fields for the command that is sent in its place, and last ``$db``.

    ``same_command`` keeps what the client added, which upstream may ignore or refuse as it
    does; otherwise only what every command takes goes along.
    """
    kept = []
    for position, (name, element) in enumerate(request.fields.items()):
        if not position or (name in _OWN and not (with_lsid and name == b"lsid")):
            continue
        if same_command or name in _GENERIC or name == b"lsid":
            kept.append(request.message[element.start : element.end])
    kept.append(text("$db", "admin" if request.database is None else request.database))
    return kept


def as_it_came(
    request: Request, keys: Collection[LogicalSessionId], *, with_lsid: bool
) -> bytes | None:
    """The request's own command, where :func:`carried` and :func:`sessions` would make the same of
    it; None where it may not be.

    ``keys`` is what its argument was read as, a list of plain lsids of the caller's own.
    """
    fields = request.fields
    argument = next(iter(fields.values()))
    if (
        request.opcode != OP_MSG
        or len(keys) > _FEW
        # As many entries as keys, or some are named twice.
        or argument.end - argument.value != 5 + len(keys) * _ENTRY
        or not fields.keys().isdisjoint(_LEFT_OUT)
        or (not with_lsid and b"lsid" in fields)
    ):
        return None
    return request.body_bytes()


class Entries(Protocol[E_co]):
    """A list that can be cut."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> Collection[E_co]: ...


class Batches(Sequence[bytes], Generic[E]):
    """``{name: [entries], …rest}``, as several commands where the entries are too many.

    Each command is made when it is asked for, so that a long list does not hold the loop at once.
    """

    def __init__(
        self, name: str, entries: Entries[E], forms: Forms[E], rest: Iterable[bytes]
    ) -> None:
        self._name = name
        self._entries = entries
        self._forms = forms
        self._rest = list(rest)
        self._size = max(1, -(-len(entries) // BATCH))

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < self._size:
            raise IndexError(index)
        return document(array(self._name, self._forms(self.entries(index))), *self._rest)

    def entries(self, index: int) -> Collection[E]:
        """What the command number ``index`` is about."""
        if self._size == 1:
            return self._entries[:]
        return self._entries[index * BATCH : (index + 1) * BATCH]
