"""Recognises documents that are laid out like some that were read before.

Drivers send the same few commands over and over, and servers answer alike: the same names and
types in the same order, and mostly the same lengths; only values differ. To compare the bytes
that decide proves that reading the document would find the same. A shape takes every length for
fixed until it sees another one: what varies then divides it into segments, whose places follow
from the lengths between them.

For a find of 240 bytes that takes 0.3 us, and 0.4 for each length that varies, where reading it
takes 7, however long the values are.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from proxy.wire.fields import decisive_size, declared_by
from proxy.wire.opcodes import INT32

if TYPE_CHECKING:
    from proxy.wire.fields import Element, Fields
    from proxy.wire.layouts import Reading, Span

#: Shapes remembered at the same time, and how much a single one of them may take.
_MOST: Final = 1000
_MOST_BYTES: Final = 1024
_MOST_ELEMENTS: Final = 64
#: As many lengths may vary in it: to try eight such shapes takes 50 us.
_MOST_FREE: Final = 16

#: Shapes that begin alike and are tried, the last one learnt first.
_MOST_ALIKE: Final = 8

_int32 = INT32.unpack_from
#: A document's size, and its first element's type and name as far as they fit.
_start = Struct("<i8s").unpack_from
_by_start = itemgetter(1)


class Layout(Protocol):
    """What is found by reading a document; equal where the same was found."""

    def kind(self) -> tuple[object, ...]:
        """What is in it beside offsets, as far as that does not follow from names and types."""

    def offsets(self) -> list[int]:
        """Where something stands that varies."""

    def aside(self) -> int:
        """Where one more thing stands that varies, wherever that is; 0 for nothing."""

    def moved(self, by: int, aside: int) -> Any:  # noqa: ANN401 - Self, which mypyc does not know
        """The same with offsets from a place so many bytes further on, and that one likewise."""


L = TypeVar("L", bound=Layout)

#: A layout, from where its offsets count, the document's fields if they are at hand, and from where
#: the offset counts that stands aside.
Found = tuple[L, int, "Fields | None", int]


class _Segment(NamedTuple):
    """``size`` bytes whose places among each other do not vary, up to a length that does.

    ``unpack`` cuts out those that decide, which have to be ``parts``, and last the length, which
    has to be ``least`` or more. ``beside`` are bytes behind it that it does not count.
    """

    unpack: Callable[[bytes, int], tuple[Any, ...]]
    parts: tuple[bytes, ...]
    size: int
    beside: int = 0
    least: int = 0


class _Shape(Generic[L]):
    """A layout with what proves it: the ``first`` segments, and one that ends the document.

    The layout's offsets count from where segment ``base`` begins, but for the one that stands
    aside, which counts from segment ``other``. ``container`` is an element with segments in it:
    where its length stands and where it has to end, each as the number of a segment and an offset
    there. ``lengths`` are those of all values; they vary where ``free`` says so. ``found`` is for a
    document that begins where the one did that was read.
    """

    __slots__ = (
        "base",
        "container",
        "first",
        "found",
        "free",
        "layout",
        "lengths",
        "other",
        "parts",
        "size",
        "unpack",
    )

    def __init__(
        self,
        reading: Reading[L],
        data: bytes,
        start: int,
        elements: list[Element],
        free: frozenset[int],
    ) -> None:
        """What is needed to recognise a document that was read at ``start``.

        Raises:
            ValueError: its layout's offsets do not stand together in one segment.
        """
        end = start + _int32(data, start)[0]
        spans = [*(reading.whole or ()), (end - 1, end)]
        container = reading.container
        if container is not None:
            spans.append((container.end - 1, container.end))
            if not any(container.value <= elements[one].start < container.end for one in free):
                container = None
        for number, element in enumerate(elements):
            varies = number in free or element is container
            decisive = 0 if varies else decisive_size(element)
            spans.append((element.start, element.value + decisive))
        spans.sort()
        cuts = [elements[one] for one in sorted(free)]
        begins = [start, *(element.end for element in cuts)]
        ends = [*(element.value for element in cuts), end]
        segments = [
            _segment(data, begin, until, spans, cut)
            for begin, until, cut in zip(begins, ends, [*cuts, None], strict=True)
        ]
        self.first = segments[:-1]
        self.unpack, self.parts, self.size, *_ = segments[-1]

        def place(offset: int) -> tuple[int, int]:
            number = next(n for n, until in enumerate(ends) if offset <= until)
            return number, offset - begins[number]

        bases = {place(start + offset)[0] for offset in reading.layout.offsets()}
        if len(bases) > 1:
            raise ValueError
        self.base = bases.pop() if bases else 0
        aside = reading.layout.aside()
        self.other = place(start + aside)[0] if aside else 0
        self.layout: L = reading.layout.moved(begins[self.base] - start, begins[self.other] - start)
        self.container = (
            None if container is None else (*place(container.value), *place(container.end))
        )
        self.lengths = [element.end - element.value for element in elements]
        self.free = free
        self.found: Found[L] = (reading.layout, start, reading.fields, start)

    def match(self, data: bytes, start: int, end: int) -> list[int]:
        """Where each segment begins in the document; none if it has another shape."""
        pos = start
        places = [start]
        for unpack, parts, size, beside, least in self.first:
            if end - pos < size:
                return []
            found = unpack(data, pos)
            if found[:-1] != parts or found[-1] < least:
                return []
            pos += size + found[-1] + beside
            places.append(pos)
        if end - pos != self.size or self.unpack(data, pos) != self.parts:
            return []
        if self.container is not None:
            one, at, other, behind = self.container
            at += places[one]
            if at + _int32(data, at)[0] != places[other] + behind:
                return []
        return places


def _segment(data: bytes, begin: int, end: int, spans: list[Span], cut: Element | None) -> _Segment:
    """What the spans are between two offsets, behind which the length of ``cut`` stands."""
    pattern, pos = ["<"], begin
    for one, until in spans:
        if pos < until <= end:
            one = max(one, pos)
            pattern.append(f"{one - pos}x{until - one}s")
            pos = until
    pattern.append(f"{end - pos}x")
    if cut is None:
        last = Struct("".join(pattern))
        return _Segment(last.unpack_from, last.unpack_from(data, begin), end - begin)
    declared = declared_by(cut.type)
    assert declared is not None, "only such values are free"
    unpack = Struct("".join([*pattern, "i"])).unpack_from
    return _Segment(unpack, unpack(data, begin)[:-1], end - begin + 4, *declared)


class Shapes(Generic[L]):
    """Reads documents with ``read``; shapes seen lately are known by how a document begins."""

    def __init__(self, read: Callable[[bytes, int, int], Reading[L]], most: int = _MOST) -> None:
        self._read = read
        self._most = most
        self._alike: dict[bytes, list[_Shape[L]]] = {}
        #: By names and types, in order, and all of the layout but its offsets.
        self._known: dict[tuple[object, ...], _Shape[L]] = {}
        self._seen: set[tuple[object, ...]] = set()

    def read(self, data: bytes, start: int, limit: int) -> Found[L]:
        """What is found of the document at ``start``. It is shared and not to be changed.

        Raises:
            WireError: as ``read`` does.
        """
        if limit - start >= 12:
            size, head = _start(data, start)
            alike = self._alike.get(head.partition(b"\0")[0])
            if alike is not None and start + size <= limit:
                for shape in alike:
                    if shape.first or start != shape.found[1]:
                        places = shape.match(data, start, start + size)
                        if places:
                            return shape.layout, places[shape.base], None, places[shape.other]
                    elif size == shape.size and shape.unpack(data, start) == shape.parts:
                        # Nothing in it varies, as most often.
                        return shape.found
        reading = self._read(data, start, limit)
        self._learn(reading, data, start)
        return reading.layout, start, reading.fields, start

    def _learn(self, reading: Reading[L], data: bytes, start: int) -> None:
        if reading.whole is None:
            return
        inner = [] if reading.inner is None else _elements(reading.inner)
        elements = sorted([*_elements(reading.fields), *inner], key=_by_start)
        if len(elements) > _MOST_ELEMENTS:
            return
        heads = b"".join([data[element.start : element.value] for element in elements])
        decisive = sum([end - begin for begin, end in reading.whole])
        if len(heads) + decisive > _MOST_BYTES:
            return
        key = (heads, len(inner), reading.layout.kind())
        shape = self._known.get(key)
        if shape is not None:
            free = shape.free | {
                number
                for number, element in enumerate(elements)
                if element.end - element.value != shape.lengths[number]
                and element is not reading.container
            }
            if len(free) > _MOST_FREE or any(
                declared_by(elements[number].type) is None for number in free
            ):
                return
        elif key in self._seen:
            # What comes twice will come again. Most never do.
            free = frozenset()
        else:
            if len(self._seen) >= self._most:
                self._seen.clear()
            self._seen.add(key)
            return
        try:
            made = _Shape(reading, data, start, elements, free)
        except ValueError:
            return
        if len(self._known) >= self._most:
            self._known.clear()
            self._alike.clear()
        self._known[key] = made
        # Nothing of a value is in it, or one shape could be listed without end.
        head = data[start + 4 : start + 12].partition(b"\0")[0]
        alike = self._alike.setdefault(head, [])
        if shape in alike:
            alike.remove(shape)
        alike.insert(0, made)
        del alike[_MOST_ALIKE:]


def _elements(fields: Fields) -> list[Element]:
    return [*fields.values(), *fields.repeats]
