"""Recognises documents that are laid out like one that was read before.

Drivers send the same few commands over and over, and servers answer alike: names, types and
lengths stand at the same places, only values differ. To compare the bytes that decide proves
that reading the document would find the same. For a find of 240 bytes that takes 0.2 us where
reading takes 6, however long the values are.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from proxy.wire.opcodes import INT32

if TYPE_CHECKING:
    from proxy.wire.layouts import Span

#: Layouts remembered at the same time, and how much a single one of them may take.
_MOST: Final = 1000
_MOST_BYTES: Final = 1024
_MOST_SPANS: Final = 64

_int32 = INT32.unpack_from


class Layout(Protocol):
    """What is found by reading a document; equal where the same was found."""

    def decisive(self) -> list[Span] | None:
        """Where the bytes stand that decide what is found; None for not to be remembered."""


L = TypeVar("L", bound=Layout)


class _Shape(Generic[L]):
    """A layout with the bytes that prove it."""

    __slots__ = ("layout", "parts", "unpack")

    def __init__(self, layout: L, pattern: Struct, data: bytes, start: int) -> None:
        self.layout = layout
        self.unpack = pattern.unpack_from
        self.parts = pattern.unpack_from(data, start)


class Shapes(Generic[L]):
    """Reads documents with ``read``; layouts seen lately are known by start and size."""

    def __init__(self, read: Callable[[bytes, int, int], L], most: int = _MOST) -> None:
        self._read = read
        self._most = most
        self._known: dict[tuple[int, int], _Shape[L]] = {}
        self._seen: dict[tuple[int, int], L] = {}

    def read(self, data: bytes, start: int, limit: int) -> L:
        """The layout of the document at ``start``. It is shared and not to be changed.

        Raises:
            WireError: as ``read`` does.
        """
        if limit - start < 5:
            return self._read(data, start, limit)
        size = _int32(data, start)[0]
        shape = self._known.get((start, size))
        if shape is not None and start + size <= limit and shape.unpack(data, start) == shape.parts:
            return shape.layout
        layout = self._read(data, start, limit)
        self._learn((start, size), data, layout)
        return layout

    def _learn(self, key: tuple[int, int], data: bytes, layout: L) -> None:
        spans = layout.decisive()
        if (
            spans is None
            or len(spans) > _MOST_SPANS
            or sum([end - begin for begin, end in spans]) > _MOST_BYTES
        ):
            return
        # What comes twice will come again. Most layouts never do.
        if self._seen.get(key) == layout:
            if len(self._known) >= self._most:
                self._known.clear()
            self._known[key] = _Shape(layout, _pattern(spans, *key), data, key[0])
        else:
            if len(self._seen) >= self._most:
                self._seen.clear()
            self._seen[key] = layout


def _pattern(spans: list[Span], start: int, size: int) -> Struct:
    """What cuts the spans, and the document's own size and end, out of a document."""
    merged = [(start, start + 4)]
    for begin, end in sorted([*spans, (start + size - 1, start + size)]):
        if begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    parts, pos = ["<"], start
    for begin, end in merged:
        parts.append(f"{begin - pos}x{end - begin}s")
        pos = end
    return Struct("".join(parts))
