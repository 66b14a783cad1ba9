"""What names, types and lengths tell of a command or a reply: where everything stands.

A layout holds no value that varies from message to message, so that one serves for all messages
of its kind; :mod:`proxy.wire.shapes` recognises those. A few values that hardly ever vary count
as part of it, and nobody has to look at them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.errors import WireError
from proxy.wire.fields import (
    BOOL,
    DOCUMENT,
    DOUBLE,
    INT64_TYPE,
    STRING,
    Element,
    Fields,
    decisive_size,
    integer,
    walk,
)

NO_FIELDS: Final = Fields()
NO_FIELDS.duplicates = ()
NO_FIELDS.repeats = ()

#: ``{id: UUID}`` as every driver sends it, up to the UUID and behind it.
PLAIN_LSID: Final = b"\x1e\0\0\0\x05id\0\x10\0\0\0\x04"
PLAIN_LSID_SIZE: Final = 30

_DOUBLE_ONE: Final = b"\0\0\0\0\0\0\xf0\x3f"

#: Where bytes stand that decide: from an offset up to another one.
Span = tuple[int, int]


@dataclass(slots=True)
class Command:
    """A command's fields, and its session fields where they are as drivers write them.

    ``name`` is the first field's, "" where there is no command. ``session_id`` is the offset of
    the UUID in a plain lsid and ``txn_number`` that of an int64; they are 0, and the others None,
    where the field is missing or of another form. ``sessionless`` says that all four are missing,
    ``usual`` that they are a plain lsid, alone or with what a transaction's statement or a
    retryable write has, and that nothing else can be wrong with them but the number.
    """

    fields: Fields
    name: str = ""
    session_id: int = 0
    txn_number: int = 0
    autocommit: bool | None = None
    start_transaction: bool | None = None
    sessionless: bool = True
    usual: bool = False

    def decisive(self) -> list[Span] | None:
        """What has to be the same in another document for this to be its layout too.

        None where that would take more than types, names and lengths.
        """
        spans = _decisive(self.fields)
        lsid = self.fields.get(b"lsid")
        if lsid is not None and lsid.end - lsid.value == PLAIN_LSID_SIZE:
            if not self.session_id:
                return None
            spans += [(lsid.value, self.session_id), (lsid.end - 1, lsid.end)]
        for name in (b"autocommit", b"startTransaction"):
            if name in self.fields:
                spans.append(_whole(self.fields[name]))
        return spans


NO_COMMAND: Final = Command(NO_FIELDS)

#: What makes a command part of a session.
SESSION_FIELDS: Final = frozenset((b"lsid", b"txnNumber", b"autocommit", b"startTransaction"))
_STATEMENTS: Final = frozenset((b"stmtId", b"stmtIds"))


def read_command(data: bytes, start: int, limit: int) -> Command:
    """The layout of the command document at ``start``.

    Raises:
        WireError: it cannot be walked, or has no field.
    """
    fields = walk(data, start, limit)
    for first in fields:
        name = first.decode("utf-8", "replace")
        break
    else:
        raise WireError("the command document is empty")
    command = Command(fields, name)
    there = fields.keys() & SESSION_FIELDS
    if there:
        command.sessionless = False
        lsid, number = fields.get(b"lsid"), fields.get(b"txnNumber")
        if lsid is not None:
            command.session_id = plain_lsid(data, lsid)
        if number is not None and number.type == INT64_TYPE:
            command.txn_number = number.value
        command.autocommit = _bool(data, fields.get(b"autocommit"))
        command.start_transaction = _bool(data, fields.get(b"startTransaction"))
        command.usual = bool(command.session_id) and not fields.duplicates and _fits(command, there)
    return command


def _fits(command: Command, there: set[bytes]) -> bool:
    """Whether the session fields beside the lsid make sense together."""
    if len(there) == 1:
        return True
    if not command.txn_number or not command.fields.keys().isdisjoint(_STATEMENTS):
        return False
    kinds = (command.autocommit, command.start_transaction)
    return (len(there), *kinds) in ((2, None, None), (3, False, None), (4, False, True))


@dataclass(slots=True)
class Answer:
    """A reply's fields, whether its ``ok`` is 1, and the cursor in it.

    ``cursor`` is the offset of the cursor's id, 0 where there is none; ``namespace`` says what it
    reads. ``within`` are the fields of the cursor's document, None where they cannot be read.
    """

    fields: Fields
    ok: bool
    cursor: int = 0
    namespace: Element | None = None
    within: Fields | None = None

    def decisive(self) -> list[Span] | None:
        """As :meth:`Command.decisive`."""
        spans = _decisive(self.fields)
        if b"ok" in self.fields:
            spans.append(_whole(self.fields[b"ok"]))
        cursor = self.fields.get(b"cursor")
        if cursor is not None and cursor.type == DOCUMENT:
            if self.within is None:
                return None
            spans += _decisive(self.within)
            spans.append((cursor.end - 1, cursor.end))
        return spans


NO_ANSWER: Final = Answer(NO_FIELDS, False)


def read_answer(data: bytes, start: int, limit: int) -> Answer:
    """The layout of the reply document at ``start``.

    Raises:
        WireError: it cannot be walked.
    """
    fields = walk(data, start, limit)
    answer = Answer(fields, _is_one(data, fields.get(b"ok")))
    cursor = fields.get(b"cursor")
    if cursor is None or cursor.type != DOCUMENT:
        return answer
    try:
        within = answer.within = walk(data, cursor.value, cursor.end)
    except WireError:
        return answer
    number, namespace = within.get(b"id"), within.get(b"ns")
    if number is not None and number.type == INT64_TYPE:
        answer.cursor = number.value
        if namespace is not None and namespace.type == STRING:
            answer.namespace = namespace
    return answer


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


def _bool(data: bytes, element: Element | None) -> bool | None:
    if element is None or element.type != BOOL:
        return None
    return data[element.value] != 0


def _is_one(data: bytes, element: Element | None) -> bool:
    """Whether a number is 1, of whichever type."""
    if element is None:
        return False
    if element.type == DOUBLE:
        return data[element.value : element.end] == _DOUBLE_ONE
    if element.type == BOOL:
        return data[element.value] == 1
    return integer(data, element) == 1


def _decisive(fields: Fields) -> list[Span]:
    """What decides where the fields stand: types, names, and the lengths of values."""
    return [
        (element.start, element.value + decisive_size(element))
        for element in (*fields.values(), *fields.repeats)
    ]


def _whole(element: Element) -> Span:
    return element.start, element.end
