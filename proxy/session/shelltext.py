"""A BSON document as the server prints it in its error texts (4.2).

Long strings and binary data are cut as there. Here names are too, and what comes after so many
elements or characters is left out: to print a whole 16 MiB command would hold the loop for seconds.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from uuid import UUID

from bson.decimal128 import Decimal128

from proxy.errors import WireError
from proxy.texts import MOST_TOLD, decoded
from proxy.wire.fields import Element, walk
from proxy.wire.opcodes import INT32, INT64

_double = Struct("<d").unpack_from
_uint32_pair = Struct("<II").unpack_from
_int32 = INT32.unpack_from
_int64 = INT64.unpack_from

#: The server nests BSON no deeper.
_MAX_DEPTH: Final = 200
#: Elements printed of one command, nested ones included, and characters from which on nothing is
#: added.
MAX_ELEMENTS: Final = 1_000
_ENOUGH: Final = MOST_TOLD


class _Printer:
    """Prints one document; ``left`` is how many elements it may still print, ``room`` how many
    characters."""

    __slots__ = ("data", "left", "room")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.left = MAX_ELEMENTS
        self.room = _ENOUGH

    def document(self, start: int, limit: int, is_array: bool, depth: int, extra: str = "") -> str:
        if depth > _MAX_DEPTH or self.left <= 0:
            return "..."
        try:
            fields = walk(self.data, start, limit, self.left)
        except WireError:
            return "..."
        self.left -= len(fields)
        parts = []
        for name, element in fields.items():
            if self.room <= 0:
                parts.append("...")
                break
            value = self.value(element, depth)
            part = value if is_array else f"{_text(name)}: {value}"
            self.room -= len(part)
            parts.append(part)
        if extra:
            parts.append(extra)
        left, right = "[]" if is_array else "{}"
        return f"{left} {', '.join(parts)} {right}" if parts else left + right

    def scoped(self, element: Element, depth: int) -> str:
        """Code with scope: int32 size, string, document. Its inside was not walked yet."""
        start, end = element.value, element.end
        if end - start < 14:
            return "..."
        scope = start + 8 + int(_int32(self.data, start + 4)[0])
        if not start + 9 <= scope <= end - 5:
            return "..."
        code = _text(self.data[start + 8 : scope - 1])
        return f"CodeWScope( {code}, {self.document(scope, end, False, depth + 1)})"

    def value(self, element: Element, depth: int) -> str:
        kind = element.type
        if kind in (0x03, 0x04):
            return self.document(element.value, element.end, kind == 0x04, depth + 1)
        if kind == 0x0F:
            return self.scoped(element, depth)
        return _scalar(self.data, element)


def document_text(data: bytes, start: int, limit: int, *, extra: str = "") -> str:
    """The document at ``start`` as ``{ a: 1, b: "x" }``; ``extra`` is printed as a last field."""
    return _Printer(data).document(start, limit, False, 0, extra)


def _text(raw: bytes) -> str:
    return decoded(raw)


def _string(raw: bytes) -> str:
    if len(raw) >= 160:
        return f'"{_text(raw[:150])}..."'
    return f'"{_text(raw)}"'


def _number(value: float) -> str:
    if value != value:
        return "nan.0"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    text = f"{value:.16g}"
    return text if any(mark in text for mark in ".e") else f"{text}.0"


def _binary(data: bytes, element: Element) -> str:
    subtype = data[element.value + 4]
    raw = data[element.value + 5 : element.end]
    if subtype == 4 and len(raw) == 16:
        return f'UUID("{UUID(bytes=raw)}")'
    if subtype == 2:
        raw = raw[4:]
    if len(raw) > 80:
        return f"BinData({subtype}, {raw[:70].hex().upper()}...)"
    return f"BinData({subtype}, {raw.hex().upper()})"


def _scalar(data: bytes, element: Element) -> str:
    kind, start, end = element.type, element.value, element.end
    match kind:
        case 0x01:
            return _number(_double(data, start)[0])
        case 0x02 | 0x0E:
            return _string(data[start + 4 : end - 1])
        case 0x05:
            return _binary(data, element)
        case 0x06:
            return "undefined"
        case 0x07:
            return f"ObjectId('{data[start:end].hex()}')"
        case 0x08:
            return "true" if data[start] else "false"
        case 0x09:
            return f"new Date({_int64(data, start)[0]})"
        case 0x0A:
            return "null"
        case 0x0B:
            pattern, _, options = data[start : end - 1].partition(b"\0")
            return f"/{_text(pattern)}/{_text(options)}"
        case 0x0C:
            name = _text(data[start + 4 : end - 13])
            return f"DBRef('{name}',{data[end - 12 : end].hex()})"
        case 0x0D:
            return _text(data[start + 4 : end - 1])
        case 0x10:
            return str(_int32(data, start)[0])
        case 0x11:
            increment, seconds = _uint32_pair(data, start)
            return f"Timestamp({seconds}, {increment})"
        case 0x12:
            return str(_int64(data, start)[0])
        case 0x13:
            return str(Decimal128.from_bid(data[start:end]))
        case 0x7F:
            return "MaxKey"
        case _:
            return "MinKey"
