"""Requests taken apart into header, sections and elements, and put together again."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import cramjam
from backports import zstd

from tests.reading import documents
from tests.reading.documents import Broken, Document
from tests.reading.envelopes import COMMAND, COMPRESSED, MSG, QUERY, crc32c


@dataclass
class Parts:
    """A request taken apart. ``sections`` are (kind, name, documents) of OP_MSG in order."""

    opcode: int
    flags: int = 0
    request_id: int = 1
    response_to: int = 0
    sections: list[tuple[int, bytes, list[Document]]] = field(default_factory=list)
    namespace: bytes = b""
    numbers: tuple[int, int] = (0, -1)
    command: bytes = b""
    metadata: Document | None = None
    tail: bytes = b""
    checksum: bool = False
    compressor: int | None = None
    raw: bytes = b""

    @property
    def body(self) -> Document:
        for kind, _, found in self.sections:
            if kind == 0 and found:
                return found[0]
        return []


def take_apart(frame: bytes) -> Parts:
    """The parts of a request; all in ``raw`` where it has none."""
    compressor = None
    if frame[12:16] == struct.pack("<i", COMPRESSED):
        try:
            frame, compressor = _plain(frame), frame[24]
        except (zlib.error, cramjam.DecompressionError, zstd.ZstdError, EOFError, struct.error):
            return Parts(COMPRESSED, raw=frame[16:])
    _, request_id, response_to, opcode = struct.unpack_from("<iiii", frame)
    data = frame[16:]
    parts = Parts(opcode, 0, request_id, response_to, compressor=compressor)
    try:
        if opcode == MSG:
            parts.flags = struct.unpack_from("<I", data)[0]
            parts.checksum = bool(parts.flags & 1)
            _sections(parts, data, len(data) - 4 * parts.checksum)
        elif opcode == QUERY:
            parts.flags = struct.unpack_from("<I", data)[0]
            nul = data.index(b"\0", 4)
            parts.namespace = data[4:nul]
            parts.numbers = struct.unpack_from("<ii", data, nul + 1)
            body, end = documents.read(data, nul + 9, len(data))
            parts.sections.append((0, b"", [body]))
            parts.tail = data[end:]
        elif opcode == COMMAND:
            parts.namespace, parts.command, rest = data.split(b"\0", 2)
            body, end = documents.read(rest, 0, len(rest))
            parts.sections.append((0, b"", [body]))
            parts.metadata = documents.read(rest, end, len(rest))[0]
        else:
            parts.raw = data
    except (Broken, ValueError, struct.error):
        parts.raw = data
    return parts


def _plain(frame: bytes) -> bytes:
    opcode, _, compressor = struct.unpack_from("<iiB", frame, 16)
    packed = frame[25:]
    if compressor == 1:
        packed = bytes(cramjam.snappy.decompress_raw(packed))
    elif compressor == 2:
        packed = zlib.decompress(packed)
    elif compressor == 3:
        packed = zstd.decompress(packed)
    return struct.pack("<i", 16 + len(packed)) + frame[4:12] + struct.pack("<i", opcode) + packed


def _sections(parts: Parts, data: bytes, end: int) -> None:
    position = 4
    while position < end:
        if data[position] == 0:
            body, position = documents.read(data, position + 1, end)
            parts.sections.append((0, b"", [body]))
        else:
            stop = position + 1 + struct.unpack_from("<i", data, position + 1)[0]
            nul = data.index(b"\0", position + 5)
            if stop > end:
                raise Broken("the length of a section")
            name, position = data[position + 5 : nul], nul + 1
            listed = []
            while position < stop:
                entry, position = documents.read(data, position, stop)
                listed.append(entry)
            parts.sections.append((1, name, listed))


def put_together(parts: Parts) -> bytes:
    """The frame of these parts, all lengths right."""
    if parts.raw:
        data = parts.raw
    elif parts.opcode == MSG:
        data = struct.pack("<I", (parts.flags & ~1) | parts.checksum) + b"".join(
            map(_section, parts.sections)
        )
        data += parts.tail
        if parts.checksum:
            head = struct.pack(*("<iiii", 20 + len(data), parts.request_id, parts.response_to, MSG))
            data += struct.pack("<I", crc32c(head + data))
    elif parts.opcode == QUERY:
        data = struct.pack("<I", parts.flags) + parts.namespace + b"\0"
        data += struct.pack("<ii", *parts.numbers) + documents.write(parts.body) + parts.tail
    else:
        data = parts.namespace + b"\0" + parts.command + b"\0" + documents.write(parts.body)
        data += documents.write(parts.metadata or []) + parts.tail
    opcode = parts.opcode
    if parts.compressor is not None:
        data, opcode = compressed(data, opcode, parts.compressor), COMPRESSED
    return struct.pack("<iiii", 16 + len(data), parts.request_id, parts.response_to, opcode) + data


def _section(section: tuple[int, bytes, list[Document]]) -> bytes:
    kind, name, listed = section
    data = b"".join(map(documents.write, listed))
    if kind == 0:
        return b"\0" + data
    return bytes([kind]) + struct.pack("<i", 5 + len(name) + len(data)) + name + b"\0" + data


def compressed(data: bytes, opcode: int, compressor: int, size: int | None = None) -> bytes:
    """The payload of OP_COMPRESSED; ``size`` where another one is to be claimed."""
    packed = data
    if compressor == 1:
        packed = bytes(cramjam.snappy.compress_raw(data))
    elif compressor == 2:
        packed = zlib.compress(data, 1)
    elif compressor == 3:
        packed = zstd.compress(data, 1)
    return struct.pack("<iiB", opcode, len(data) if size is None else size, compressor) + packed
