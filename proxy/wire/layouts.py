"""What names and types tell of a command or a reply: which fields there are, and where.

A layout holds no value that varies from message to message, so that one serves for all messages
of its kind; :mod:`proxy.wire.shapes` recognises those. A few values that hardly ever vary count
as part of it, and nobody has to look at them again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Generic, TypeVar

from proxy.errors import WireError
from proxy.texts import decoded
from proxy.wire.fields import (
    ARRAY,
    BOOL,
    DOCUMENT,
    DOUBLE,
    INT64_TYPE,
    STRING,
    Element,
    Fields,
    integer,
    walk,
)

#: Commands whose own value is the name of a collection.
OF_COLLECTIONS: Final = frozenset((
    "aggregate", "analyze", "cleanupOrphaned", "cleanupStructuredEncryptionData",
    "cloneCollectionAsCapped", "collMod", "collStats", "compact",
    "compactStructuredEncryptionData", "convertToCapped", "count", "create", "createIndexes",
    "createSearchIndexes", "delete", "distinct", "drop", "dropIndexes", "dropSearchIndex", "find",
    "findAndModify", "findandmodify", "geoNear", "geoSearch", "insert", "killCursors",
    "listIndexes", "mapReduce", "mapreduce", "parallelCollectionScan", "planCacheClear",
    "planCacheClearFilters", "planCacheListFilters", "planCacheSetFilter", "reIndex", "update",
    "updateSearchIndex", "validate",
))  # fmt: skip

#: Where a cursor is read on, a field of its own, ``collection``, says of which.
READS_ON: Final = "getMore"

#: ``{id: UUID}`` as every driver sends it, up to the UUID and behind it.
PLAIN_LSID: Final = b"\x1e\0\0\0\x05id\0\x10\0\0\0\x04"
PLAIN_LSID_SIZE: Final = 30

#: What servers put behind that UUID, up to the digest; and what follows in a child session's,
#: up to the number and to the second UUID.
_UID: Final = b"\x05uid\0\x20\0\0\0\0"
PARENT_NUMBER: Final = b"\x12txnNumber\0"
CHILD: Final = b"\x05txnUUID\0\x10\0\0\0\x04"
#: From the UUID to the digest of 32 bytes, and to where a child's own fields begin.
TO_UID: Final = 16 + len(_UID)
TO_CHILD: Final = TO_UID + 32

_DOUBLE_ONE: Final = b"\0\0\0\0\0\0\xf0\x3f"

#: Where bytes stand: from an offset up to another one.
Span = tuple[int, int]

L = TypeVar("L")


class Reading(Generic[L]):
    """What was found by reading a document.

    ``whole`` are the spans that decide beside types, names and lengths, None where one has to
    look deeper each time. ``inner`` are the fields of the element ``container``, which count too.
    """

    __slots__ = ("container", "fields", "inner", "layout", "whole")

    def __init__(
        self,
        layout: L,
        fields: Fields,
        whole: list[Span] | None,
        container: Element | None = None,
        inner: Fields | None = None,
    ) -> None:
        self.layout = layout
        self.fields = fields
        self.whole = whole
        self.container = container
        self.inner = inner


def _form(*fixed: tuple[bytes, int]) -> tuple[int, tuple[tuple[int, bytes], ...]]:
    """An lsid's size, and what is the same in all of its form, each part with its offset.

    ``fixed`` is that in order, each part with how many bytes follow that vary.
    """
    parts, at = [], 4
    for part, varying in fixed:
        parts.append((at, part))
        at += len(part) + varying
    return at + 1, ((0, (at + 1).to_bytes(4, "little")), *parts, (at, b"\0"))


#: The forms of an lsid that servers send to each other, by size.
_OWNED_FORMS: Final = dict(
    (
        _form((PLAIN_LSID[4:], 16), (_UID, 32)),
        _form((PLAIN_LSID[4:], 16), (_UID, 32), (CHILD, 16)),
        _form((PLAIN_LSID[4:], 16), (_UID, 32), (PARENT_NUMBER, 8), (CHILD, 16)),
    )
)


@dataclass(slots=True)
class Command:
    """A command's name, and its session fields where they are as drivers write them.

    ``name`` is the first field's, cut where it is too long for any command, "" where there is
    none. ``session_id`` is the offset of
    the UUID in a plain lsid and ``txn_number`` that of an int64; they are 0, and the others None,
    where the field is missing or of another form. ``sessionless`` says that all four are missing,
    ``usual`` that they are a plain lsid, alone or with what a transaction's statement or a
    retryable write has, and that nothing else can be wrong with them but the number.

    ``owned_id`` is the offset of the UUID in an lsid with a uid, as servers write it for each
    other: the digest stands :data:`TO_UID` behind it, and at :data:`TO_CHILD` a child session's
    own fields, of ``child`` bytes. ``orderly`` says of such a one what ``usual`` says of a plain
    one; but somebody has to look at whose it is.

    ``collection`` is where the name of the collection stands that it is for, counted from where the
    document begins; 0 where there is none. ``database`` is the offset of ``$db``, which stands
    :meth:`aside`; 0 where there is none, or the collection's name may be anywhere. ``commented``
    says that there is a comment that could hold a text.
    """

    name: str = ""
    session_id: int = 0
    txn_number: int = 0
    autocommit: bool | None = None
    start_transaction: bool | None = None
    sessionless: bool = True
    usual: bool = False
    owned_id: int = 0
    child: int = 0
    orderly: bool = False
    collection: int = 0
    database: int = 0
    commented: bool = False

    def kind(self) -> tuple[object, ...]:
        """What does not follow from names and types, but for offsets."""
        return (
            self.session_id != 0,
            self.owned_id != 0,
            self.child,
            self.autocommit,
            self.start_transaction,
        )

    def offsets(self) -> list[int]:
        """Those there are."""
        found = (self.session_id, self.txn_number, self.owned_id)
        return [offset for offset in found if offset]

    def aside(self) -> int:
        """The one that may be counted from another place than the others; 0 for none."""
        return self.database

    def moved(self, by: int, aside: int) -> Command:
        """The same with offsets from a place so many bytes further on, and that one likewise."""
        return replace(
            self,
            session_id=self.session_id and self.session_id - by,
            txn_number=self.txn_number and self.txn_number - by,
            owned_id=self.owned_id and self.owned_id - by,
            database=self.database and self.database - aside,
        )


NO_COMMAND: Final = Command()

#: What makes a command part of a session.
SESSION_FIELDS: Final = frozenset((b"lsid", b"txnNumber", b"autocommit", b"startTransaction"))
_STATEMENTS: Final = frozenset((b"stmtId", b"stmtIds"))
#: What stands beside session fields and makes them mean more.
_UNUSUAL: Final = _STATEMENTS | {b"startOrContinueTransaction", b"txnRetryCounter"}
#: What decides here, and so must not stand where only some servers look for it.
DECISIVE_FIELDS: Final = (
    SESSION_FIELDS
    | _STATEMENTS
    | {b"$db", b"$queryOptions", b"help", b"mechanism", b"speculativeAuthenticate"}
)


def read_command(data: bytes, start: int, limit: int) -> Reading[Command]:
    """The layout of the command document at ``start``, with offsets from there.

    Raises:
        WireError: it cannot be walked, or has no field.
    """
    fields = walk(data, start, limit)
    for first in fields:
        command = Command(decoded(first))
        break
    else:
        raise WireError("the command document is empty")
    _note_namespace(command, fields, start)
    there = fields.keys() & SESSION_FIELDS
    if not there:
        return Reading(command, fields, [])
    command.sessionless = False
    lsid, number = fields.get(b"lsid"), fields.get(b"txnNumber")
    whole = [
        (fields[name].start, fields[name].end)
        for name in (b"autocommit", b"startTransaction")
        if name in there
    ]
    uuid = 0 if lsid is None else plain_lsid(data, lsid)
    if lsid is not None and uuid:
        command.session_id = uuid - start
        whole += [(lsid.value, uuid), (lsid.end - 1, lsid.end)]
    if number is not None and number.type == INT64_TYPE:
        command.txn_number = number.value - start
    command.autocommit = _bool(data, fields.get(b"autocommit"))
    command.start_transaction = _bool(data, fields.get(b"startTransaction"))
    owned: list[Span] = []
    if lsid is not None and not uuid and (owned := _owned_lsid(data, lsid)):
        whole += owned
        command.owned_id = owned[1][1] - start
        command.child = lsid.end - 1 - start - command.owned_id - TO_CHILD
    fits = not fields.duplicates and _fits(command, there, fields)
    command.usual = command.session_id != 0 and fits
    command.orderly = command.owned_id != 0 and fits
    # An lsid of another form could be plain next time.
    return Reading(command, fields, whole if uuid or owned or lsid is None else None)


def _note_namespace(command: Command, fields: Fields, start: int) -> None:
    """Where it says what it is for, and whether it has a comment."""
    first, *others = islice(fields.values(), 2)
    named = fields.get(b"collection") if command.name == READS_ON else None
    if first.type == STRING:
        if command.name in OF_COLLECTIONS:
            command.collection = first.value - start
    elif first.type == INT64_TYPE and named is not None and named in others:
        # Behind anything else its place could vary.
        command.collection = named.value - start if named.type == STRING else 0
        named = None
    database, comment = fields.get(b"$db"), fields.get(b"comment")
    if database is not None and database.type == STRING and named is None:
        command.database = database.value - start
    command.commented = comment is not None and comment.type in (STRING, DOCUMENT)


def _fits(command: Command, there: set[bytes], fields: Fields) -> bool:
    """Whether the session fields beside the lsid make sense together."""
    if not fields.keys().isdisjoint(_UNUSUAL):
        return False
    if len(there) == 1:
        return True
    if not command.txn_number:
        return False
    kinds = (command.autocommit, command.start_transaction)
    return (len(there), *kinds) in ((2, None, None), (3, False, None), (4, False, True))


@dataclass(slots=True)
class Answer:
    """Whether a reply's ``ok`` is 1, and the cursor in it.

    ``cursor`` is the offset of the cursor's id and ``namespace`` that of the string that says
    what it reads; 0 where there is none. ``several`` says that there is a list of cursors instead.
    """

    ok: bool = False
    cursor: int = 0
    namespace: int = 0
    several: bool = False

    def kind(self) -> tuple[object, ...]:
        """As :meth:`Command.kind`."""
        return self.ok, self.several

    def offsets(self) -> list[int]:
        """As :meth:`Command.offsets`."""
        return [offset for offset in (self.cursor, self.namespace) if offset]

    def aside(self) -> int:
        """There is none."""
        return 0

    def moved(self, by: int, aside: int) -> Answer:
        """As :meth:`Command.moved`."""
        return Answer(
            self.ok,
            self.cursor and self.cursor - by,
            self.namespace and self.namespace - by,
            self.several,
        )


NO_ANSWER: Final = Answer()


def read_answer(data: bytes, start: int, limit: int) -> Reading[Answer]:
    """The layout of the reply document at ``start``, with offsets from there.

    Raises:
        WireError: it cannot be walked.
    """
    fields = walk(data, start, limit)
    ok, cursor = fields.get(b"ok"), fields.get(b"cursor")
    answer = Answer(is_one(data, ok))
    whole = [] if ok is None else [(ok.start, ok.end)]
    if cursor is None or cursor.type != DOCUMENT:
        listed = fields.get(b"cursors")
        answer.several = cursor is None and listed is not None and listed.type == ARRAY
        return Reading(answer, fields, whole)
    try:
        inner = walk(data, cursor.value, cursor.end)
    except WireError:
        return Reading(answer, fields, None)
    number, namespace = inner.get(b"id"), inner.get(b"ns")
    if number is not None and number.type == INT64_TYPE:
        answer.cursor = number.value - start
        if namespace is not None and namespace.type == STRING:
            answer.namespace = namespace.value - start
    return Reading(answer, fields, whole, cursor, inner)


def plain_lsid(data: bytes, element: Element) -> int:
    """The offset of the UUID in an lsid of the form that every driver sends; 0 for other forms."""
    uuid = element.value + len(PLAIN_LSID)
    if (
        element.type == DOCUMENT
        and element.end - element.value == PLAIN_LSID_SIZE
        and data[element.value : uuid] == PLAIN_LSID
        and data[element.end - 1] == 0
    ):
        return uuid
    return 0


def _owned_lsid(data: bytes, element: Element) -> list[Span]:
    """What makes an lsid one of those forms, the second of these up to the UUID; none if not."""
    at = element.value
    parts = _OWNED_FORMS.get(element.end - at) if element.type == DOCUMENT else None
    if parts is None or any(not data.startswith(part, at + where) for where, part in parts):
        return []
    return [(at + where, at + where + len(part)) for where, part in parts]


def _bool(data: bytes, element: Element | None) -> bool | None:
    if element is None or element.type != BOOL:
        return None
    return data[element.value] != 0


def is_one(data: bytes, element: Element | None) -> bool:
    """Whether a number is 1, of whichever type."""
    if element is None:
        return False
    if element.type == DOUBLE:
        return data[element.value : element.end] == _DOUBLE_ONE
    if element.type == BOOL:
        return data[element.value] == 1
    return integer(data, element) == 1
