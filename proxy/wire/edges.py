"""What a long reply says of its cursor and of its success, read from its two ends.

A long reply passes through while it arrives and is never held whole. What matters in it
stands before and behind the batch, whose size the batch itself declares.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from proxy.wire.compression import declared_size, inflate_start
from proxy.wire.fields import ARRAY, DOCUMENT, INT32_TYPE, INT64_TYPE, STRING, Element, size_of
from proxy.wire.layouts import is_one
from proxy.wire.opcodes import COMPRESSED, HEADER, HEADER_SIZE, INT32, INT64, OP_MSG, OP_REPLY

#: Bytes kept of each end. Before the batch stand two names and sizes; behind it a change stream's
#: resume token (several KiB where keys are long), the cursor's id and namespace (120 bytes at
#: most before 4.4, 255 since), ok and the cluster's times.
EDGE: Final = 16_384


_LONGEST_NAMESPACE: Final = 1024

#: Bytes inflated of a compressed reply: servers put ok in front of an error.
_SAYS_OK: Final = 512

#: Where a command's reply has its document: behind flags and section kind, or in OP_REPLY behind
#: flags and three numbers. The cursor id among these is only that of legacy queries.
_DOCUMENT_AT: Final = {OP_MSG: HEADER_SIZE + 5, OP_REPLY: HEADER_SIZE + 20}


class Edges(NamedTuple):
    """The first and the last bytes of a message of ``length`` bytes; they may overlap."""

    head: bytes
    tail: bytes
    length: int

    def at(self, pos: int, size: int) -> bytes | None:
        """``size`` bytes at ``pos``, which may be fewer at the end; None where not kept."""
        if pos + size <= len(self.head):
            return self.head[pos : pos + size]
        pos -= self.length - len(self.tail)
        if pos < 0:
            return None
        return self.tail[pos : pos + size]


def beginning(frame: bytes) -> Edges | None:
    """What says, of a compressed reply of any length, whether it is an error; None of another.

    Raises:
        WireError: it does not inflate.
    """
    if frame[12:16] != COMPRESSED:
        return None
    start = inflate_start(frame, _SAYS_OK)
    return Edges(start, b"", HEADER_SIZE + declared_size(frame))


class Cursor(NamedTuple):
    """A cursor's id, 0 when it is exhausted, and its ``db.collection``, "" where not seen."""

    id: int
    namespace: str


class Verdict(NamedTuple):
    """Whether a reply's ``ok`` is 1; else its code, None where not seen, and its error labels, an
    array's bytes."""

    ok: bool
    code: int | None = None
    labels: bytes = b""


def verdict(edges: Edges) -> Verdict | None:
    """What the long reply says of its success; None where that stands where nothing was kept."""
    start = _DOCUMENT_AT.get(HEADER.unpack_from(edges.head)[3])
    found = None if start is None else _find(edges, start, b"ok")
    if start is None or found is None:
        return None
    size = size_of(found[0], b"")
    value = None if size is None else edges.at(found[1], size)
    if size is None or value is None or len(value) < size:
        return None
    if is_one(value, Element(found[0], 0, 0, size)):
        return Verdict(True)
    return Verdict(False, _code(edges, start), _labels(edges, start))


def _code(edges: Edges, start: int) -> int | None:
    found = _find(edges, start, b"code")
    value = None if found is None or found[0] != INT32_TYPE else edges.at(found[1], INT32.size)
    return INT32.unpack(value)[0] if value is not None and len(value) == INT32.size else None


def _labels(edges: Edges, start: int) -> bytes:
    found = _find(edges, start, b"errorLabels")
    size = None if found is None or found[0] != ARRAY else edges.at(found[1], INT32.size)
    if found is None or size is None or len(size) < INT32.size:
        return b""
    return edges.at(found[1], max(0, INT32.unpack(size)[0])) or b""


def cursor(edges: Edges) -> Cursor | None:
    """The cursor that a long reply belongs to.

    None where there is no cursor in the reply, or it stands where nothing was kept.
    """
    start = _DOCUMENT_AT.get(HEADER.unpack_from(edges.head)[3])
    if start is None:
        return None
    element = _find(edges, start, b"cursor")
    if element is None or element[0] != DOCUMENT:
        return None
    number = _find(edges, element[1], b"id")
    if number is None or number[0] != INT64_TYPE:
        return None
    value = edges.at(number[1], INT64.size)
    if value is None or len(value) < INT64.size:
        return None
    return Cursor(INT64.unpack(value)[0], _text(edges, _find(edges, element[1], b"ns")))


def _text(edges: Edges, element: tuple[int, int] | None) -> str:
    if element is None or element[0] != STRING:
        return ""
    pos = element[1]
    declared = edges.at(pos, 4)
    if declared is None or len(declared) < 4:
        return ""
    raw = edges.at(pos + 4, min(INT32.unpack(declared)[0], _LONGEST_NAMESPACE))
    return "" if raw is None else raw[:-1].decode("utf-8", "replace")


def _find(edges: Edges, document: int, name: bytes) -> tuple[int, int] | None:
    """The type and the value's offset of an element of the document at offset ``document``."""
    pos = document + 4
    for _ in range(16):
        start = edges.at(pos, 64)
        if not start or start[0] == 0:
            return None
        nul = start.find(0, 1)
        if nul < 0:
            return None
        if start[1:nul] == name:
            return start[0], pos + nul + 1
        value = pos + nul + 1
        size = size_of(start[0], edges.at(value, 5) or b"")
        if size is None:
            return None
        pos = value + size
    return None
