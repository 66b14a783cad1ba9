"""Rows packed into blocks: gzip members, each of which says how long it is and of which time.

What holds blocks one behind the other is a gzip file like any other: ``zcat`` shows lines of JSON.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pydantic_core import PydanticSerializationError, to_json

#: RFC 1952: magic, deflate, FEXTRA, no time, fastest, Unix, the length of what is extra; then one
#: subfield of our own, with the member's length, the times of its first and last row and their
#: number.
_HEAD: Final = struct.Struct("<4sIBBH2sHIqqI")
_MAGIC: Final = b"\x1f\x8b\x08\x04"
_FIELD: Final = b"MS"
_OWN: Final = 24
_TAIL: Final = struct.Struct("<II")

HEAD_SIZE: Final = _HEAD.size


class Head(NamedTuple):
    """What a block says of itself: bytes in all, milliseconds since 1970, and rows."""

    size: int
    first: int
    last: int
    rows: int


def packed(rows: Sequence[Sequence[Any]]) -> bytes:
    """One block of rows, each of which begins with its time."""
    text = b"\n".join(_lines(rows))
    deflate = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(text) + deflate.flush()
    size = _HEAD.size + len(body) + _TAIL.size
    times = [row[0] for row in rows]
    extra = _FIELD, _OWN, size, min(times), max(times), len(rows)
    head = _HEAD.pack(_MAGIC, 0, 4, 3, 4 + _OWN, *extra)
    return head + body + _TAIL.pack(zlib.crc32(text), len(text))


def _lines(rows: Sequence[Sequence[Any]]) -> list[bytes]:
    try:
        return [to_json(rows), b""]
    except (PydanticSerializationError, ValueError):
        # A name with half a surrogate pair.
        return [json.dumps(rows).encode(), b""]


def head_of(data: bytes) -> Head | None:
    """What the first :data:`HEAD_SIZE` bytes of a block say; None where they are none's."""
    if len(data) < _HEAD.size:
        return None
    magic, _, _, _, length, field, own, *said = _HEAD.unpack_from(data)
    if (magic, length, field, own) != (_MAGIC, 4 + _OWN, _FIELD, _OWN) or said[0] <= _HEAD.size:
        return None
    return Head(*said)


def unpacked(block: bytes) -> list[list[Any]]:
    """The rows of a block; none of one that is damaged."""
    try:
        text = zlib.decompress(block[_HEAD.size : -_TAIL.size], -zlib.MAX_WBITS)
        if _TAIL.unpack_from(block, len(block) - _TAIL.size)[0] != zlib.crc32(text):
            return []
        found = json.loads(text)
    except (zlib.error, struct.error, ValueError):
        return []
    return found if isinstance(found, list) else []
