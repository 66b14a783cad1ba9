"""Reading and editing the top level of a BSON document without decoding it.

A walk costs the same whatever the values hold, keeps the exact types, and sees duplicate
keys, of which the server takes the first (or refuses) where dict decoders keep the last.
Layout: bsonspec.org, version 1.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from struct import error as StructError
from typing import Final, NamedTuple

from proxy.errors import TooManyFieldsError, WireError
from proxy.wire.opcodes import INT32, INT64

DOUBLE: Final = 0x01
STRING: Final = 0x02
DOCUMENT: Final = 0x03
ARRAY: Final = 0x04
BINARY: Final = 0x05
UNDEFINED: Final = 0x06
OBJECT_ID: Final = 0x07
BOOL: Final = 0x08
NULL: Final = 0x0A
INT32_TYPE: Final = 0x10
INT64_TYPE: Final = 0x12
DECIMAL: Final = 0x13

#: A command has a few dozen fields, a reply some hundreds. Walking 1,000 takes half a millisecond.
MAX_ELEMENTS: Final = 1_000

#: A name of more bytes is counted, and so many bytes of names are looked at: a document that
#: servers take has no more. To hash 48 MB takes 30 ms.
_LONG: Final = 65_536
_MAX_NAMES: Final = 17_000_000

#: Bytes of a text that :func:`text` reads.
MAX_TEXT: Final = 65_536

_int32 = INT32.unpack_from
_int64 = INT64.unpack_from

# How far a value reaches, by type: 0 and up is its size; the rest is told apart below.
_UNKNOWN, _STRING, _DOCUMENT, _BINARY, _REGEX, _DBPOINTER = -1, -2, -3, -4, -5, -6
_SIZES = [_UNKNOWN] * 256
for _type, _size in {
    0x01: 8,
    0x02: _STRING,
    0x03: _DOCUMENT,
    0x04: _DOCUMENT,
    0x05: _BINARY,
    0x06: 0,
    0x07: 12,
    0x08: 1,
    0x09: 8,
    0x0A: 0,
    0x0B: _REGEX,
    0x0C: _DBPOINTER,
    0x0D: _STRING,
    0x0E: _STRING,
    0x0F: _DOCUMENT,
    0x10: 4,
    0x11: 8,
    0x12: 8,
    0x13: 16,
    0x7F: 0,
    0xFF: 0,
}.items():
    _SIZES[_type] = _size


class Element(NamedTuple):
    """Where one element of a document lies: ``data[start:end]``, its value ``data[value:end]``."""

    type: int
    start: int
    value: int
    end: int


class Fields(dict[bytes, Element]):
    """The top-level elements of one document by name, the first of each name, in order."""

    __slots__ = ("duplicates", "repeats")

    #: Names that occur more than once, and beside each the element that repeats it.
    duplicates: tuple[bytes, ...]
    repeats: tuple[Element, ...]


_new_element = tuple.__new__


def document_end(data: bytes | bytearray | memoryview, start: int, limit: int) -> int:
    """The offset behind the document at ``start``.

    Raises:
        WireError: it does not fit before ``limit`` or its last byte is not NUL.
    """
    if limit - start < 5:
        raise WireError("no room for a BSON document")
    end: int = start + _int32(data, start)[0]
    if not start + 5 <= end <= limit or data[end - 1] != 0:
        raise WireError("a BSON document does not fit where it stands")
    return end


def walk(data: bytes, start: int, limit: int, max_elements: int = MAX_ELEMENTS) -> Fields:
    """Locate the top-level elements of the document that starts at ``start``.

    Values are skipped by their declared size and are not looked into.

    Raises:
        TooManyFieldsError: there are more than ``max_elements``, or their names are too long.
        WireError: the document or an element overruns, or a type is unknown.
    """
    end = document_end(data, start, limit) - 1
    fields = Fields()
    duplicates: list[bytes] = []
    repeats: list[Element] = []
    pos = start + 4
    long = 0
    sizes = _SIZES
    index = data.index
    try:
        while pos < end:
            begin = pos
            kind = data[pos]
            nul = index(0, pos + 1, end)
            if nul - pos > _LONG:
                long += nul - pos
                if long > _MAX_NAMES:
                    raise TooManyFieldsError("names too long to be looked at")
            name = data[pos + 1 : nul]
            value = nul + 1
            size = sizes[kind]
            if size >= 0:
                pos = value + size
            elif size == _STRING:
                size = _int32(data, value)[0]
                if size < 1:
                    raise WireError("a BSON string has no length")
                pos = value + 4 + size
            elif size == _DOCUMENT:
                size = _int32(data, value)[0]
                if size < 5:
                    raise WireError("a BSON document is too short")
                pos = value + size
            elif size == _BINARY:
                size = _int32(data, value)[0]
                if size < 0:
                    raise WireError("BSON binary data has a negative length")
                pos = value + 5 + size
            elif size == _REGEX:
                pos = index(0, index(0, value, end) + 1, end) + 1
            elif size == _DBPOINTER:
                size = _int32(data, value)[0]
                if size < 1:
                    raise WireError("a BSON string has no length")
                pos = value + 4 + size + 12
            else:
                raise WireError(f"unknown BSON type {kind}")
            element = _new_element(Element, (kind, begin, value, pos))
            if name in fields:
                duplicates.append(name)
                repeats.append(element)
            else:
                fields[name] = element
            if len(fields) + len(repeats) > max_elements:
                raise TooManyFieldsError(f"more than {max_elements} elements")
    except (ValueError, StructError) as error:
        raise WireError("a BSON element overruns its document") from error
    if pos != end:
        raise WireError("a BSON element overruns its document")
    fields.duplicates = tuple(duplicates)
    fields.repeats = tuple(repeats)
    return fields


def elements(data: bytes, start: int, limit: int) -> Iterator[tuple[bytes, Element]]:
    """The names and elements of the document at ``start``, one after the other, however many.

    As :func:`walk` finds them, but nothing is looked at before it is asked for.

    Raises:
        WireError: the document, or the next element, overruns or has an unknown type.
    """
    end = document_end(data, start, limit) - 1
    pos = start + 4
    while pos < end:
        nul = data.find(0, pos + 1, end)
        value = nul + 1
        try:
            behind = -1 if nul < 0 else _behind(data, data[pos], value, end)
        except StructError:
            behind = -1
        if not 0 <= behind <= end:
            raise WireError("a BSON element overruns its document")
        yield data[pos + 1 : nul], Element(data[pos], pos, value, behind)
        pos = behind


def _behind(data: bytes, kind: int, value: int, end: int) -> int:
    """The offset behind a value of this type; -1 where it has none."""
    size = _SIZES[kind]
    if size >= 0:
        return value + size
    if size == _REGEX:
        pattern = data.find(0, value, end)
        options = -1 if pattern < 0 else data.find(0, pattern + 1, end)
        return -1 if options < 0 else options + 1
    if size == _UNKNOWN:
        raise WireError(f"unknown BSON type {kind}")
    declared = int(_int32(data, value)[0])
    if size == _DOCUMENT:
        return -1 if declared < 5 else value + declared
    if size == _BINARY:
        return -1 if declared < 0 else value + 5 + declared
    if declared < 1:
        return -1
    return value + 4 + declared + (12 if size == _DBPOINTER else 0)


def count_elements(data: bytes, start: int, limit: int, most: int) -> int:
    """How many documents the array at ``start`` holds, ``most`` if there are more.

    Raises:
        WireError: it overruns, or something in it is no document.
    """
    end = document_end(data, start, limit) - 1
    pos, count = start + 4, 0
    try:
        while pos < end and count < most:
            value = data.index(0, pos + 1, end) + 1
            size = _int32(data, value)[0]
            if data[pos] != DOCUMENT or size < 5:
                raise WireError("an element is no document")
            pos = value + size
            count += 1
    except (ValueError, StructError) as error:
        raise WireError("a BSON element overruns its document") from error
    if pos > end:
        raise WireError("a BSON element overruns its document")
    return count


def every(fields: Fields, name: bytes) -> list[Element]:
    """All elements called ``name``, the first one first."""
    first = fields.get(name)
    if first is None:
        return []
    repeats = zip(fields.duplicates, fields.repeats, strict=True)
    return [first, *(element for repeated, element in repeats if repeated == name)]


def in_order(fields: Fields) -> list[Element]:
    """All elements as they stand, whatever they are called."""
    return sorted([*fields.values(), *fields.repeats], key=_by_start)


_by_start = itemgetter(1)


def decisive_size(element: Element) -> int:
    """How many of the value's first bytes decide where it ends."""
    size = _SIZES[element.type]
    if size >= 0:
        return 0
    return 4 if size in (_STRING, _DOCUMENT, _BINARY, _DBPOINTER) else element.end - element.value


def declared_by(kind: int) -> tuple[int, int] | None:
    """What the int32 that such a value begins with says of its size: how many bytes follow it
    beside those that it counts, and the least that it may be. None where there is no such int32.
    """
    return _DECLARED.get(_SIZES[kind])


_DECLARED: Final = {_STRING: (0, 1), _DOCUMENT: (-4, 5), _BINARY: (1, 0)}


def size_of(kind: int, start: bytes) -> int | None:
    """The size of a value of this type that begins with ``start`` (4 bytes suffice).

    None where a look at more of it would be needed, or it cannot be.
    """
    size = _SIZES[kind]
    if size >= 0:
        return size
    if size not in (_STRING, _DOCUMENT, _BINARY) or len(start) < 4:
        return None
    declared = int(_int32(start)[0])
    if declared < 0:
        return None
    return declared + (0 if size == _DOCUMENT else 4 if size == _STRING else 5)


def text(data: bytes, element: Element | None) -> str | None:
    """A string element's text; None where it is missing, of another type, not UTF-8, or longer
    than any name that is looked for."""
    if element is None or element.type != STRING or element.end - element.value > MAX_TEXT:
        return None
    try:
        return data[element.value + 4 : element.end - 1].decode()
    except UnicodeDecodeError:
        return None


def integer(data: bytes, element: Element | None) -> int | None:
    """An int32 or int64 element's number; None where it is missing or of another type."""
    if element is None:
        return None
    if element.type == INT32_TYPE:
        return int(_int32(data, element.value)[0])
    if element.type == INT64_TYPE:
        return int(_int64(data, element.value)[0])
    return None


def true_value(data: bytes, element: Element | None) -> bool:
    """What servers take for true: all but false, null, undefined and every number's zeros."""
    if element is None:
        return False
    value = data[element.value : element.end]
    kind = element.type
    if kind == DOUBLE:
        return value not in _ZERO_DOUBLES
    if kind == DECIMAL:
        return not _is_zero(value)
    if kind in (BOOL, INT32_TYPE, INT64_TYPE):
        return any(value)
    return kind not in (NULL, UNDEFINED)


_ZERO_DOUBLES: Final = (bytes(8), bytes(7) + b"\x80")


def _is_zero(decimal: bytes) -> bool:
    """Whether a decimal128 is a zero, of any sign and exponent.

    A coefficient that is too large for 34 digits stands for zero.
    """
    number = int.from_bytes(decimal, "little")
    if number >> 122 & 0b11110 == 0b11110:  # infinite or not a number
        return False
    if number >> 125 & 0b11 == 0b11:
        return True
    coefficient = number & (1 << 113) - 1
    return not 0 < coefficient < 10**34


_NO_FIELDS: Final = Fields()
_NO_FIELDS.duplicates = ()
_NO_FIELDS.repeats = ()


def document_fields(message: bytes, start: int) -> Fields:
    """The fields of a document that was read before; none where ``start`` is 0, for no document."""
    return walk(message, start, len(message)) if start else _NO_FIELDS


def edited(data: bytes, start: int, fields: Fields, edits: dict[bytes, bytes | None]) -> bytes:
    """The document at ``start`` with some elements replaced or removed, the rest byte for byte.

    ``edits`` maps an element's name to its new bytes (type, name and value) or to None to
    remove it. Elements that repeat an edited name are removed: readers differ in which counts.
    """
    spots = [(e.start, e.end, edits[name]) for name, e in fields.items() if name in edits]
    if fields.repeats:
        repeats = zip(fields.duplicates, fields.repeats, strict=True)
        spots += [(e.start, e.end, None) for name, e in repeats if name in edits]
        spots.sort()
    parts = [b""]
    pos = start + 4
    for begin, end, replacement in spots:
        parts.append(data[pos:begin])
        if replacement is not None:
            parts.append(replacement)
        pos = end
    end = start + _int32(data, start)[0]
    parts.append(data[pos:end])
    parts[0] = INT32.pack(4 + sum(map(len, parts)))
    return b"".join(parts)
