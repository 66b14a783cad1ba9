"""The statement ids that a write gives, as a server reads them and as the manual wants them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import TYPE_CHECKING, Final

from proxy.errors import CommandError, WireError
from proxy.session import idl, refusals
from proxy.session.plainlists import plain_ints
from proxy.wire.fields import (
    ARRAY,
    DOCUMENT,
    DOUBLE,
    INT32_TYPE,
    Element,
    every,
    in_order,
    integer,
    walk,
)
from proxy.wire.opcodes import INT32

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: The fields that give them.
STATEMENTS: Final = frozenset((b"stmtId", b"stmtIds"))

#: A statement with this id is carried out and not remembered: what servers give to those of a
#: child session that nobody would retry.
_FORGOTTEN: Final = -1

#: Bytes of the statement ids that are read one by one, as no driver and no server sends them; and
#: of all that are read, which are 100,000: no batch has more statements.
_FEW: Final = 16_384
_MANY: Final = 1_100_000

_double = Struct("<d").unpack_from


def read_statements(request: Request) -> tuple[int | None, tuple[int, ...] | None]:
    """``stmtId`` and ``stmtIds`` (reference 1.5), None where not given.

    A list as a document and nulls in it count as the server counts them, or a forbidden list
    could hide in another form.

    Raises:
        CommandError: as the server does: 14, 72, or 40413.
    """
    stmt_id: int | None = None
    stmt_ids: tuple[int, ...] | None = None
    data, fields, command = request.message, request.fields, request.command
    base = fields.get(b"stmtId")
    if not idl.is_absent(base) and base is not None:
        stmt_id = _int(data, base, f"{command}.stmtId")
    listed = fields.get(b"stmtIds")
    if listed is not None and not idl.is_absent(listed):
        path = f"{command}.stmtIds"
        plain: Iterable[int] | None = plain_ints(data, listed)
        if plain is None and listed.end - listed.value > _FEW and listed.type in (ARRAY, DOCUMENT):
            plain = ()  # for upstream to judge, which has nothing to do with sessions
        elif plain is None:
            plain = (
                _int(data, entry, f"{path}.{position}")
                for position, entry in idl.entries(data, listed, "stmtIds", path)
                if not idl.is_absent(entry)
            )
        stmt_ids = tuple(plain)
        if stmt_id is not None:
            raise refusals.BOTH_STMT_ID_FORMS.again()
    for name in fields.duplicates:
        if name in STATEMENTS:
            raise refusals.duplicate_field(f"{command}.{name.decode()}")
    return stmt_id, stmt_ids


def against_the_manual(request: Request, *, in_child: bool = False) -> CommandError | None:
    """What the manual has against ids, be they of another type or given twice.

    ``in_child`` allows the one that servers give to what is not to be remembered.
    """
    data = request.message
    for base in every(request.fields, b"stmtId"):
        first = _number(data, base) or 0
        if first < 0 and not (in_child and first == _FORGOTTEN):
            return refusals.bad_value("stmtId cannot be negative")
    plainly = oddly = 0
    for listed in every(request.fields, b"stmtIds"):
        if listed.type not in (ARRAY, DOCUMENT):
            continue
        plain = plain_ints(data, listed)
        if plain is None:
            oddly += listed.end - listed.value
        else:
            plainly += listed.end - listed.value
        if oddly > _FEW or plainly > _MANY:
            return refusals.bad_value("stmtIds are too many to be judged")
        previous = -1.0
        try:
            for number in _numbers(data, listed) if plain is None else plain:
                if in_child and number == _FORGOTTEN:
                    continue
                if number < 0:
                    return refusals.bad_value("stmtIds cannot be negative")
                if number <= previous:
                    return refusals.bad_value("stmtIds must be strictly increasing")
                previous = number
        except WireError as error:
            return refusals.bad_value(f"stmtIds cannot be read: {error}")
    return None


def _numbers(data: bytes, listed: Element) -> Iterator[float]:
    """The numbers of a list, in whatever form."""
    for entry in in_order(walk(data, listed.value, listed.end, idl.MAX_ENTRIES)):
        if (number := _number(data, entry)) is not None:
            yield number


def _number(data: bytes, element: Element) -> float | None:
    """The value of a number, but for decimals."""
    if element.type == DOUBLE:
        return float(_double(data, element.value)[0])
    return integer(data, element)


def _int(data: bytes, element: Element, path: str) -> int:
    if element.type != INT32_TYPE:
        raise refusals.wrong_type(path, idl.type_name(element.type), "int")
    return int(INT32.unpack_from(data, element.value)[0])
