"""Strict structs and arrays over raw BSON, judged as the server's generated parsers judge them.

Every function works on offsets into ``data`` and raises :class:`CommandError` with the
server's own code and text. A struct's fields are judged in document order; then duplicates;
then what is missing. ``null`` and ``undefined`` stand for an absent field.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from proxy.errors import CommandError, WireError
from proxy.session import refusals
from proxy.session.ids import child_fields
from proxy.texts import decoded
from proxy.wire.fields import (
    ARRAY,
    BINARY,
    BOOL,
    DOCUMENT,
    INT64_TYPE,
    NULL,
    STRING,
    UNDEFINED,
    Element,
    Fields,
    elements,
    walk,
)
from proxy.wire.layouts import plain_lsid
from proxy.wire.opcodes import INT32, INT64

GENERAL: Final = 0
UUID_SUBTYPE: Final = 4

#: Entries that one list may have. The server has no limit but the message size; this one keeps
#: a single command from taking long. Drivers send 10,000 at a time.
MAX_ENTRIES: Final = 100_000

#: Bytes of a name of a user, a role or a database. Sessions belong to shorter ones only.
MAX_STRING: Final = 16_384

#: The fields of an lsid, and those that servers from 6.0 on know.
_OF_SESSIONS: Final = (b"id", b"uid")
_OF_CHILDREN: Final = (*_OF_SESSIONS, b"txnNumber", b"txnUUID")

_TYPE_NAMES: Final = {
    0x01: "double",
    0x02: "string",
    0x03: "object",
    0x04: "array",
    0x05: "binData",
    0x06: "undefined",
    0x07: "objectId",
    0x08: "bool",
    0x09: "date",
    0x0A: "null",
    0x0B: "regex",
    0x0C: "dbPointer",
    0x0D: "javascript",
    0x0E: "symbol",
    0x0F: "javascriptWithScope",
    0x10: "int",
    0x11: "timestamp",
    0x12: "long",
    0x13: "decimal",
    0x7F: "maxKey",
    0xFF: "minKey",
}
_SUBTYPE_NAMES: Final = {
    0: "general",
    1: "function",
    2: "byte(deprecated)",
    3: "UUID(deprecated)",
    4: "UUID",
    5: "MD5",
    128: "Custom",
}

_int32 = INT32.unpack_from
_int64 = INT64.unpack_from


def type_name(kind: int) -> str:
    """A BSON type's name in the server's error texts."""
    return _TYPE_NAMES.get(kind, "invalid")


def is_absent(element: Element | None) -> bool:
    """Whether the server takes the field for not given."""
    return element is None or element.type in (NULL, UNDEFINED)


def _fields(data: bytes, element: Element, max_elements: int) -> Fields:
    try:
        return walk(data, element.value, element.end, max_elements)
    except WireError as error:
        raise _not_bson(error) from error


def _not_bson(error: WireError) -> CommandError:
    # The server validates BSON before it parses a command and uses this code.
    return CommandError(22, "InvalidBSON", str(error))


def struct(
    data: bytes, element: Element, path: str, known: tuple[bytes, ...]
) -> Iterator[tuple[bytes, Element]]:
    """The fields of a strict struct in document order, absent ones included.

    The caller judges each as it comes, so that the first fault is the one reported.
    """
    fields = _fields(data, element, 64)
    for name, field in fields.items():
        if name not in known:
            raise refusals.unknown_field(f"{path}.{decoded(name)}")
        yield name, field
    if fields.duplicates:
        raise refusals.duplicate_field(f"{path}.{fields.duplicates[0].decode()}")


def _index(name: bytes) -> int | None:
    """The number an array's field name stands for, in the bases the server reads; else None."""
    digits = name[1:] if name[:1] == b"+" else name
    try:
        if digits[:2] in (b"0x", b"0X"):
            # Python reads more than servers do: blanks, signs and underscores.
            number = int(digits[2:], 16) if digits.isalnum() else -1
        elif not digits.isdigit():
            return None
        elif digits[:1] == b"0" and len(digits) > 1:
            number = int(digits, 8)
        elif len(digits) > 10:
            return None
        else:
            number = int(digits)
    except ValueError:
        return None
    return number if 0 <= number < 1 << 32 else None


def entries(data: bytes, element: Element, name: str, path: str) -> Iterator[tuple[int, Element]]:
    """The elements of an array field with their positions, absent ones included, as they are
    asked for.

    A document does for an array, as on the server, if its field names are 0, 1, 2 and so on.

    Raises:
        CommandError: 10065, 40422, 40423, or 22 where there are more than ``MAX_ENTRIES``.
    """
    if element.type not in (ARRAY, DOCUMENT):
        raise refusals.not_an_array(name)
    expected = 0
    try:
        for key, entry in elements(data, element.value, element.end):
            if key != b"%d" % expected:
                number = _index(key)
                if number is None:
                    raise refusals.array_field_name(path, decoded(key))
                if number != expected:
                    raise refusals.array_field_order(path, number, expected)
            if expected == MAX_ENTRIES:
                raise WireError(f"more than {MAX_ENTRIES} elements")
            yield expected, entry
            expected += 1
    except WireError as error:
        raise _not_bson(error) from error


def string(data: bytes, element: Element, path: str) -> str:
    """A string field's text; bytes that are not UTF-8 survive as lone surrogates."""
    if element.type != STRING:
        raise refusals.wrong_type(path, type_name(element.type), "string")
    if element.end - element.value > MAX_STRING:
        raise refusals.bad_value(f"BSON field '{path}' is longer than any name may be")
    return data[element.value + 4 : element.end - 1].decode("utf-8", "surrogateescape")


def boolean(data: bytes, element: Element, path: str) -> bool:
    """A bool field's value; numbers are refused."""
    if element.type != BOOL:
        raise refusals.wrong_type(path, type_name(element.type), "bool")
    return data[element.value] != 0


def long(data: bytes, element: Element, path: str) -> int:
    """An int64 field's value; other numbers are refused."""
    if element.type != INT64_TYPE:
        raise refusals.wrong_type(path, type_name(element.type), "long")
    return int(_int64(data, element.value)[0])


def _binary(data: bytes, element: Element, path: str, subtype: int) -> bytes:
    if element.type != BINARY:
        raise refusals.wrong_type(path, type_name(element.type), "binData")
    found = data[element.value + 4]
    if found != subtype:
        name = _SUBTYPE_NAMES.get(found, "invalid")
        raise refusals.wrong_subtype(path, name, _SUBTYPE_NAMES[subtype])
    return data[element.value + 5 : element.end]


def uuid(data: bytes, element: Element, path: str) -> bytes:
    """A UUID field's 16 bytes."""
    value = _binary(data, element, path, UUID_SUBTYPE)
    if len(value) != 16:
        raise refusals.INVALID_UUID.again()
    return value


def digest(data: bytes, element: Element, path: str) -> bytes:
    """An owner digest field's 32 bytes."""
    value = _binary(data, element, path, GENERAL)
    if len(value) != 32:
        raise refusals.digest_length(len(value))
    return value


class Lsid(NamedTuple):
    """An lsid as it was given: ``uid`` and ``txn_uuid`` are None, ``number`` too, where they are
    not."""

    id: bytes
    uid: bytes | None
    number: int | None = None
    txn_uuid: bytes | None = None

    @property
    def child(self) -> bytes:
        """What makes it a child session's (:mod:`proxy.session.children`); empty for others."""
        return b"" if self.txn_uuid is None else child_fields(self.number, self.txn_uuid)

    @property
    def is_stray(self) -> bool:
        """Whether it has a child's number, and not the UUID that a child needs."""
        return self.number is not None and self.txn_uuid is None


def lsid(data: bytes, element: Element, path: str) -> tuple[bytes, bytes | None]:
    """``{id: UUID, uid?: digest}`` as ``(id, uid or None)``."""
    found = any_lsid(data, element, path)
    return found.id, found.uid


def any_lsid(data: bytes, element: Element, path: str, *, children: bool | None = False) -> Lsid:
    """``{id: UUID, uid?: digest}``; with ``children`` also ``txnNumber?: long, txnUUID?: UUID``.

    None for ``children`` takes these where they are null: some versions see an ordinary session.

    An ``id`` of null counts as missing, as on servers from 4.2 on: older ones take it for the
    all-zero UUID, which would be one session shared by everybody.
    """
    if element.type != DOCUMENT:
        raise refusals.wrong_type(path, type_name(element.type), "object")
    plain = plain_lsid(data, element)
    if plain:
        return Lsid(data[plain : plain + 16], None)
    session_id: bytes | None = None
    uid: bytes | None = None
    number: int | None = None
    txn_uuid: bytes | None = None
    known = _OF_SESSIONS if children is False else _OF_CHILDREN
    for name, field in struct(data, element, path, known):
        if is_absent(field):
            continue
        if name == b"id":
            session_id = uuid(data, field, f"{path}.id")
        elif name == b"uid":
            uid = digest(data, field, f"{path}.uid")
        elif children is None:
            raise refusals.unknown_field(f"{path}.{decoded(name)}")
        elif name == b"txnNumber":
            number = long(data, field, f"{path}.txnNumber")
        else:
            txn_uuid = uuid(data, field, f"{path}.txnUUID")
    if session_id is None:
        raise refusals.missing_field(f"{path}.id")
    return Lsid(session_id, uid, number, txn_uuid)


def likely_lsid(data: bytes, element: Element) -> Lsid | None:
    """``(id, uid or None)`` that some version may see in an lsid that :func:`lsid` refuses.

    Versions differ in the fields that they know beside these two; a child session's are its
    parent's (6.0 and later). None where no version sees a session.
    """
    try:
        fields = walk(data, element.value, element.end, 64)
        session_id = fields.get(b"id")
        if element.type != DOCUMENT or session_id is None:
            return None
        uid = fields.get(b"uid")
        return Lsid(
            uuid(data, session_id, ""),
            None if uid is None or is_absent(uid) else digest(data, uid, ""),
        )
    except (CommandError, WireError):
        return None


def has_field(data: bytes, element: Element, name: bytes) -> bool:
    """Whether a document that was read has a field of this name, be it null."""
    return name in walk(data, element.value, element.end)


def name_pair(data: bytes, element: Element, path: str, first: str) -> tuple[str, str]:
    """``{user: string, db: string}`` or, with ``first="role"``, ``{role: string, db: string}``."""
    values: dict[str, str] = {}
    for name, field in struct(data, element, path, (first.encode(), b"db")):
        if not is_absent(field):
            values[name.decode()] = string(data, field, f"{path}.{name.decode()}")
    for required in (first, "db"):
        if required not in values:
            raise refusals.missing_field(f"{path}.{required}")
    return values[first], values["db"]
