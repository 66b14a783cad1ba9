"""OP_COMPRESSED: one message inside another (MongoDB specifications, "compression").

Body after the header: int32 originalOpcode, int32 uncompressedSize (without header),
uint8 compressorId, the compressed bytes. What is inflated here is bounded and must have
exactly the declared size: servers were caught handing out memory where it had not
(CVE-2025-14847).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from struct import Struct
from typing import Final

import cramjam
from backports import zstd

from proxy.errors import WireError
from proxy.wire.opcodes import HEADER, HEADER_SIZE, MAX_MESSAGE_SIZE, OP_COMPRESSED

_PREFIX = Struct("<iiB")

NOOP: Final = 0
SNAPPY: Final = 1
ZLIB: Final = 2
ZSTD: Final = 3

#: Bytes that :func:`inflate_start` inflates where nobody says how many, and as many of the
#: compressed ones as that may take: the largest block of zstd, and what stands before it.
_START: Final = 20
_START_FROM: Final = 160 * 1024

#: Names as drivers and servers spell them in hello, of what this proxy can inflate.
NAMES: Final = frozenset({"noop", "snappy", "zlib", "zstd"})


def _inflate_noop(data: bytes, size: int) -> bytes:
    return data


def _inflate_snappy(data: bytes, size: int) -> bytes:
    # The format begins with the inflated size as a varint; it has to be the declared one.
    if cramjam.snappy.decompress_raw_len(data) != size:
        raise WireError("snappy data declares another size than its message")
    return bytes(cramjam.snappy.decompress_raw(data))


def _inflate_zlib(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(data, size + 1)
    if not inflater.eof:
        raise WireError("zlib data is cut short or inflates to more than declared")
    return inflated


def _inflate_zstd(data: bytes, size: int) -> bytes:
    inflater = zstd.ZstdDecompressor()
    inflated = inflater.decompress(data, max_length=size + 1)
    if not inflater.eof:
        raise WireError("zstd data is cut short or inflates to more than declared")
    if inflater.unused_data:
        raise WireError("zstd data has something behind its frame")
    return bytes(inflated)


_INFLATE: Final[dict[int, Callable[[bytes, int], bytes]]] = {
    NOOP: _inflate_noop,
    SNAPPY: _inflate_snappy,
    ZLIB: _inflate_zlib,
    ZSTD: _inflate_zstd,
}
_DEFLATE: Final[dict[int, Callable[[bytes], bytes]]] = {
    NOOP: bytes,
    SNAPPY: lambda data: bytes(cramjam.snappy.compress_raw(data)),
    ZLIB: zlib.compress,
    ZSTD: lambda data: bytes(zstd.compress(data)),
}


def declared_size(frame: bytes) -> int:
    """How many bytes the frame says it inflates to, header left out.

    Raises:
        WireError: no room for the prefix, or a size out of range.
    """
    if len(frame) < HEADER_SIZE + _PREFIX.size:
        raise WireError("OP_COMPRESSED is too short")
    size: int = _PREFIX.unpack_from(frame, HEADER_SIZE)[1]
    if not 0 <= size <= MAX_MESSAGE_SIZE - HEADER_SIZE:
        raise WireError(f"uncompressedSize {size} is out of range")
    return size


def compressor_of(frame: bytes) -> int:
    """The compressorId of a frame that :func:`inflate` accepted."""
    return frame[HEADER_SIZE + 8]


def inflate(frame: bytes) -> bytes:
    """The message inside an OP_COMPRESSED frame, with a plain header and the same ids.

    Raises:
        WireError: too short, a size out of range, an unknown compressor, data that does not
            inflate, that inflates to another size, or that holds OP_COMPRESSED again.
    """
    size = declared_size(frame)
    _, request_id, response_to, _ = HEADER.unpack_from(frame)
    opcode, _, compressor = _PREFIX.unpack_from(frame, HEADER_SIZE)
    if opcode == OP_COMPRESSED:
        raise WireError("OP_COMPRESSED inside OP_COMPRESSED")
    if compressor not in _INFLATE:
        raise WireError(f"unknown compressor id {compressor}")
    try:
        body = _INFLATE[compressor](frame[HEADER_SIZE + _PREFIX.size :], size)
    except (zlib.error, zstd.ZstdError, cramjam.DecompressionError) as error:
        raise WireError(f"compressed data does not inflate: {error}") from error
    if len(body) != size:
        raise WireError(f"inflated to {len(body)} bytes, {size} were declared")
    return HEADER.pack(HEADER_SIZE + size, request_id, response_to, opcode) + body


def inflate_start(frame: bytes, most: int = _START) -> bytes:
    """The header and the first ``most`` bytes (some hundreds at the most) of the message inside an
    OP_COMPRESSED frame, behind its header.

    Nothing else is inflated, however long the message is; 20 of them say whether another follows.

    Raises:
        WireError: as :func:`inflate`, as far as that shows so early.
    """
    size = declared_size(frame)
    _, request_id, response_to, _ = HEADER.unpack_from(frame)
    opcode, _, compressor = _PREFIX.unpack_from(frame, HEADER_SIZE)
    begin = HEADER_SIZE + _PREFIX.size
    data = frame[begin : begin + _START_FROM]
    try:
        if compressor == NOOP:
            start = data[:most]
        elif compressor == SNAPPY:
            start = _snappy_start(data, most)
        elif compressor == ZLIB:
            start = zlib.decompressobj().decompress(data, most)
        elif compressor == ZSTD:
            start = bytes(zstd.ZstdDecompressor().decompress(data, max_length=most))
        else:
            raise WireError(f"unknown compressor id {compressor}")
    except (zlib.error, zstd.ZstdError, IndexError) as error:
        raise WireError(f"compressed data does not inflate: {error}") from error
    if len(start) < min(size, most):
        raise WireError("compressed data is cut short")
    return HEADER.pack(HEADER_SIZE + size, request_id, response_to, opcode) + start


def _snappy_start(data: bytes, most: int) -> bytes:
    """The first bytes of snappy's raw format: a varint, then literals and copies."""
    pos = 0
    while data[pos] & 0x80:
        pos += 1
    pos += 1
    out = bytearray()
    while len(out) < most and pos < len(data):
        tag = data[pos]
        pos += 1
        kind = tag & 3
        if kind == 0:
            length = (tag >> 2) + 1
            extra = max(0, length - 60)
            if extra:
                length = int.from_bytes(data[pos : pos + extra], "little") + 1
                pos += extra
            end = min(pos + length, pos + most)
            out += data[pos:end]
            pos += length
            continue
        length = (tag >> 2 & 7) + 4 if kind == 1 else (tag >> 2) + 1
        width = (1, 2, 4)[kind - 1]
        offset = int.from_bytes(data[pos : pos + width], "little")
        pos += width
        if kind == 1:
            offset |= tag >> 5 << 8
        if not 0 < offset <= len(out):
            raise WireError("snappy data refers to what is not there")
        for _ in range(min(length, most)):
            out.append(out[-offset])
    return bytes(out[:most])


def deflate(message: bytes, compressor: int) -> bytes:
    """A plain message as an OP_COMPRESSED frame with the same ids."""
    _, request_id, response_to, opcode = HEADER.unpack_from(message)
    body = _DEFLATE[compressor](message[HEADER_SIZE:])
    prefix = _PREFIX.pack(opcode, len(message) - HEADER_SIZE, compressor)
    length = HEADER_SIZE + len(prefix) + len(body)
    return HEADER.pack(length, request_id, response_to, OP_COMPRESSED) + prefix + body
