"""BSON as a server checks and reads it: elements in their order, doubled ones and all.

Written from the description of the format, with nothing of the product in it: what both get wrong
must be wrong for two reasons.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

DOUBLE, STRING, OBJECT, ARRAY, BINARY, UNDEFINED, BOOL = 1, 2, 3, 4, 5, 6, 8
NULL, INT, LONG, DECIMAL = 10, 16, 18, 19

_INT32 = struct.Struct("<i")
_INT64 = struct.Struct("<q")
_DOUBLE = struct.Struct("<d")

#: Bytes that a value of this type always takes.
_FIXED = {
    DOUBLE: 8,
    UNDEFINED: 0,
    7: 12,
    BOOL: 1,
    9: 8,
    NULL: 0,
    INT: 4,
    17: 8,
    LONG: 8,
    DECIMAL: 16,
    0x7F: 0,
    0xFF: 0,
}
#: Servers nest no deeper.
_DEPTH = 200


class Broken(Exception):
    """What a server answers with InvalidBSON or an error of its kind."""


class Element(NamedTuple):
    """One element; ``value`` is its bytes behind the name."""

    type: int
    name: bytes
    value: bytes


Document = list[Element]


def read(data: bytes, start: int, end: int) -> tuple[Document, int]:
    """The document that starts at ``start`` and its end, which is at most ``end``."""
    found: Document = []
    stop = _length(data, start, end)
    position = start + 4
    last = stop - 1
    while position < last:
        kind = data[position]
        nul = data.find(b"\0", position + 1, last)
        if kind == 0 or nul < 0:
            raise Broken("a type or a name")
        after = _skip(data, kind, nul + 1, last, 0)
        found.append(Element(kind, data[position + 1 : nul], data[nul + 1 : after]))
        position = after
    return found, stop


def whole(value: bytes) -> Document:
    """The elements of a value that has been checked: an object, an array."""
    return read(value, 0, len(value))[0]


def write(elements: Document) -> bytes:
    """The document of these elements."""
    inner = b"".join(bytes([kind]) + name + b"\0" + value for kind, name, value in elements)
    return _INT32.pack(len(inner) + 5) + inner + b"\0"


def _length(data: bytes, start: int, end: int) -> int:
    """Where the document at ``start`` ends."""
    if end - start < 5:
        raise Broken("no room for a document")
    size = _INT32.unpack_from(data, start)[0]
    if size < 5 or size > end - start or data[start + size - 1]:
        raise Broken("the length of a document")
    return start + size


def _check(data: bytes, start: int, end: int, depth: int) -> int:
    """Check the document at ``start``; where it ends."""
    if depth > _DEPTH:
        raise Broken("too deep")
    stop = _length(data, start, end)
    position, last = start + 4, stop - 1
    while position < last:
        kind = data[position]
        nul = data.find(b"\0", position + 1, last)
        if kind == 0 or nul < 0:
            raise Broken("a type or a name")
        position = _skip(data, kind, nul + 1, last, depth)
    return stop


def _skip(data: bytes, kind: int, start: int, end: int, depth: int) -> int:
    """Check the value at ``start``; where it ends."""
    fixed = _FIXED.get(kind)
    if fixed is not None:
        stop = start + fixed
        if stop > end:  # of a boolean every byte but 0 counts as true, where it is taken at all
            raise Broken("a value")
        return stop
    if kind in (OBJECT, ARRAY):
        return _check(data, start, end, depth + 1)
    if kind in (STRING, 13, 14):
        return _string(data, start, end)
    if kind == BINARY:
        size = _INT32.unpack_from(data, start)[0] if start + 5 <= end else -1
        if size < 0 or start + 5 + size > end:
            raise Broken("binary data")
        return start + 5 + size
    if kind == 11:
        for _ in range(2):
            start = data.find(b"\0", start, end) + 1
            if start == 0:
                raise Broken("a regular expression")
        return start
    if kind == 12:
        stop = _string(data, start, end) + 12
        if stop > end:
            raise Broken("a pointer")
        return stop
    if kind == 15:
        if start + 4 > end:
            raise Broken("code with scope")
        stop = _check(data, _string(data, start + 4, end), end, depth + 1)
        if _INT32.unpack_from(data, start)[0] != stop - start:
            raise Broken("the length of code with scope")
        return stop
    raise Broken("an unknown type")


def _string(data: bytes, start: int, end: int) -> int:
    size = _INT32.unpack_from(data, start)[0] if start + 4 <= end else 0
    if size < 1 or start + 4 + size > end or data[start + 3 + size]:
        raise Broken("a string")
    return start + 4 + size


def first(document: Document, name: bytes) -> Element | None:
    """What a server finds under a name: the first of doubled ones."""
    for element in document:
        if element.name == name:
            return element
    return None


def named(document: Document, name: bytes) -> list[Element]:
    return [element for element in document if element.name == name]


def is_nothing(element: Element | None) -> bool:
    """Missing, null or undefined: generated parsers take them for the same."""
    return element is None or element.type in (NULL, UNDEFINED)


def text(element: Element) -> bytes:
    """All bytes of a string, those behind a NUL included."""
    return element.value[4:-1]


def binary(element: Element) -> tuple[int, bytes]:
    """(subtype, bytes)."""
    return element.value[4], element.value[5:]


def number(element: Element) -> int | float:
    if element.type == INT:
        return int(_INT32.unpack(element.value)[0])
    if element.type == LONG:
        return int(_INT64.unpack(element.value)[0])
    return float(_DOUBLE.unpack(element.value)[0])


def is_true(element: Element | None) -> bool:
    """What a server's own truth test says."""
    if element is None or element.type in (NULL, UNDEFINED):
        return False
    if element.type == BOOL:
        return element.value != b"\0"
    if element.type in (INT, LONG, DOUBLE):
        return number(element) != 0
    if element.type == DECIMAL:
        return not _is_decimal_zero(element.value)
    return True


def _is_decimal_zero(value: bytes) -> bool:
    """The coefficient is nought, or not canonical, which stands for nought."""
    bits = int.from_bytes(value, "little") & ((1 << 127) - 1)
    if (bits >> 122) == 0b11110 or (bits >> 122) == 0b11111:
        return False  # infinite, or no number
    if (bits >> 125) == 0b11:
        return True  # coefficients of this form are larger than 34 digits
    coefficient = bits & ((1 << 113) - 1)
    return coefficient == 0 or coefficient >= 10**34
