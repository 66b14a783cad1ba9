"""Recognises documents that are laid out like one that was walked before.

Drivers send the same few commands over and over, and servers answer alike: names, types and
lengths stand at the same places, only values differ. One comparison of all the bytes that a
walk depends on then proves that it would find the same, which takes a twentieth of its steps.
"""

from __future__ import annotations

from typing import Final

from proxy.wire.fields import Fields, decisive_size, walk
from proxy.wire.opcodes import INT32

#: A comparison costs more, the longer the document, where a walk does not.
_LONGEST: Final = 1024

#: Layouts remembered at the same time, 3 KiB each at the most.
_MOST: Final = 1000

_int32 = INT32.unpack_from
_from_bytes = int.from_bytes


class _Shape:
    """A layout: the bits that count, what they have to be, and what a walk then finds."""

    __slots__ = ("bits", "fields", "mask")

    def __init__(self, data: bytes, start: int, end: int, fields: Fields) -> None:
        mask = bytearray(end - start)
        # The document's own length and its last byte.
        mask[:4], mask[-1:] = b"\xff\xff\xff\xff", b"\xff"
        for element in (*fields.values(), *fields.repeats):
            decisive = element.value + decisive_size(element) - element.start
            begin = element.start - start
            mask[begin : begin + decisive] = b"\xff" * decisive
        self.mask = _from_bytes(mask, "little")
        self.bits = _from_bytes(data[start:end], "little") & self.mask
        self.fields = fields


class Shapes:
    """The layouts that were seen lately, by where a document starts and how long it is."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Shape] = {}
        self._seen: dict[tuple[int, int], Fields] = {}

    def walk(self, data: bytes, start: int, limit: int) -> Fields:
        """As :func:`proxy.wire.fields.walk`. The result is shared and not to be changed."""
        if limit - start < 5:
            return walk(data, start, limit)
        (size,) = _int32(data, start)
        if size > _LONGEST:
            return walk(data, start, limit)
        end = start + size
        key = (start, size)
        shape = self._known.get(key)
        if (
            shape is not None
            and end <= limit
            and _from_bytes(data[start:end], "little") & shape.mask == shape.bits
        ):
            return shape.fields
        fields = walk(data, start, limit)
        self._learn(key, data, fields)
        return fields

    def _learn(self, key: tuple[int, int], data: bytes, fields: Fields) -> None:
        start, size = key
        # What comes twice will come again. Most layouts never do.
        if self._seen.get(key) == fields:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = _Shape(data, start, start + size, fields)
        else:
            if len(self._seen) >= _MOST:
                self._seen.clear()
            self._seen[key] = fields
