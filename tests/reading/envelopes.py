"""What a server unpacks from a frame, up to the body of a command and its document sequences."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import cramjam
from backports import zstd

from tests.reading import documents
from tests.reading.documents import ARRAY, OBJECT, STRING, Broken, Document, Element

#: ``hello.maxWireVersion`` by version.
V36, V40, V42, V44, V50, V51, V60, V70, V80 = 6, 7, 8, 9, 13, 14, 17, 21, 25

LONGEST = 48_000_000
REPLY, UPDATE, INSERT, QUERY, GET_MORE, DELETE, KILL_CURSORS = 1, 2001, 2002, 2004, 2005, 2006, 2007
COMMAND, COMPRESSED, MSG = 2010, 2012, 2013
_CHECKSUM, _MORE_TO_COME = 1, 2
_EXHAUST, _SECONDARY_OK = 1 << 6, 1 << 2

_HEADER = struct.Struct("<iiii")
_INT32 = struct.Struct("<i")
_UINT32 = struct.Struct("<I")
_MOVED = {b"insert": b"documents", b"update": b"updates", b"delete": b"deletes"}


class Closed(Exception):
    """The server closes the connection."""


class Refused(Exception):
    """An error instead of an execution. ``answered``: whether it is sent."""

    def __init__(self, code: int | None, answered: bool = True, opcode: int = MSG) -> None:
        super().__init__(code, answered)
        self.code = code
        self.answered = answered
        self.opcode = opcode


@dataclass
class Envelope:
    """A command, or with ``body`` None an operation of the old protocol."""

    opcode: int
    answered: bool
    body: Document | None
    database: bytes | None = None
    sequences: dict[bytes, int] = field(default_factory=dict)
    more_replies: bool = False


def unpack(frame: bytes, version: int) -> Envelope:
    """What a server of that version finds in the frame.

    Raises:
        Closed: it closes the connection.
        Refused: it answers with an error.
    """
    length, _, _, opcode = _HEADER.unpack_from(frame)
    if length != len(frame) or not 16 <= length <= LONGEST:
        raise Closed
    data = frame[16:]
    if opcode == COMPRESSED:
        opcode, data = _inflate(data)
        frame = _HEADER.pack(16 + len(data), *_HEADER.unpack_from(frame)[1:3], opcode) + data
    if opcode == MSG:
        return _message(frame, data, version)
    if opcode == QUERY:
        return _query(data, version)
    if opcode == COMMAND and version <= V40:
        return _command(data)
    if opcode in (UPDATE, INSERT, GET_MORE, DELETE, KILL_CURSORS):
        return _old(opcode, data, version)
    raise Closed


def _inflate(data: bytes) -> tuple[int, bytes]:
    """With any compressor, whichever a server's version and settings have."""
    if len(data) < 9:
        raise Closed
    opcode, size, compressor = struct.unpack_from("<iiB", data)
    packed = data[9:]
    if size < 0 or size + 16 > LONGEST:
        raise Closed
    try:
        if compressor == 0:
            plain = packed
        elif compressor == 1:
            plain = _snappy(packed, size)
        elif compressor == 2:
            inflator = zlib.decompressobj()
            plain = inflator.decompress(packed, size + 1)
            if not inflator.eof:
                raise Closed
        elif compressor == 3:
            plain = _zstandard(packed, size)
        else:
            raise Closed
    except (zlib.error, cramjam.DecompressionError, zstd.ZstdError, EOFError):
        raise Closed from None
    if len(plain) != size or opcode == COMPRESSED:
        raise Closed
    return opcode, plain


def _snappy(packed: bytes, size: int) -> bytes:
    declared = shift = 0
    for byte in packed[:5]:
        declared |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if declared != size:
        raise Closed
    return bytes(cramjam.snappy.decompress_raw(packed))


def _zstandard(packed: bytes, size: int) -> bytes:
    """One frame or several, up to what has been announced."""
    plain = b""
    while packed and len(plain) <= size:
        inflator = zstd.ZstdDecompressor()
        plain += inflator.decompress(packed, size + 1 - len(plain))
        if not inflator.eof:
            raise Closed
        packed = inflator.unused_data
    return plain


def _message(frame: bytes, data: bytes, version: int) -> Envelope:
    if len(data) < 4:
        raise Closed
    flags = _UINT32.unpack_from(data)[0]
    if flags & 0xFFFF & ~(_CHECKSUM | _MORE_TO_COME):
        raise Closed
    answered = not flags & _MORE_TO_COME
    end = len(data) - (4 if flags & _CHECKSUM else 0)
    if end < 4:
        raise Refused(51251, answered)
    body: Document | None = None
    sequences: dict[bytes, int] = {}
    position = 4
    while position < end:
        kind = data[position]
        position += 1
        if kind == 0:
            if body is not None:
                raise Refused(40430, answered)
            try:
                body, position = documents.read(data, position, end)
            except Broken:
                raise Refused(22, answered) from None
        elif kind == 1:
            if len(sequences) == 2:
                raise Closed
            if end - position < 4:
                raise Refused(None, answered)
            size = _INT32.unpack_from(data, position)[0]
            stop = position + size
            nul = data.find(b"\0", position + 4, stop) if 4 < size <= end - position else -1
            if nul < 0:
                raise Refused(None, answered)
            name = data[position + 4 : nul]
            if name in sequences:
                raise Refused(40431, answered)
            position, count = nul + 1, 0
            while position < stop:
                try:
                    position = documents.read(data, position, stop)[1]
                except Broken:
                    raise Refused(22, answered) from None
                count += 1
            sequences[name] = count
        else:
            raise Refused(None if kind == 2 else 40432, answered)
    if body is None:
        raise Refused(40587, answered)
    for name in sequences:
        if _is_along(body, name):
            raise Refused(40433, answered)
    verified = flags & _CHECKSUM and version >= V42
    if verified and _UINT32.unpack_from(data, end)[0] != crc32c(frame[:-4]):
        raise Refused(288, answered)
    return Envelope(MSG, answered, body, None, sequences)


def _is_along(document: Document, path: bytes) -> bool:
    """Whether something stands at the end of a dotted path, or an array along it."""
    name, _dot, rest = path.partition(b".")
    found = documents.first(document, name)
    if found is None:
        return False
    if found.type == ARRAY or not rest:
        return True
    return found.type == OBJECT and _is_along(documents.whole(found.value), rest)


def _namespace(data: bytes) -> tuple[bytes, int]:
    nul = data.find(b"\0", 4)
    if nul <= 4:
        raise Closed
    return data[4:nul], nul + 1


def _query(data: bytes, version: int) -> Envelope:
    namespace, position = _namespace(data)
    flags = _UINT32.unpack_from(data)[0]
    database, _, collection = namespace.partition(b".")
    is_command = collection == b"$cmd"
    try:
        if len(data) < position + 8:
            raise Broken
        wanted = _INT32.unpack_from(data, position + 4)[0]
        body, position = documents.read(data, position + 8, len(data))
        if position < len(data):
            documents.read(data, position, len(data))
    except Broken:
        raise Refused(None, opcode=QUERY) from None
    if not is_command:
        if version >= V51:
            raise Refused(5739101, opcode=QUERY)
        return Envelope(QUERY, True, None, more_replies=bool(flags & _EXHAUST))
    if flags & _EXHAUST:
        raise Refused(18527, opcode=QUERY)
    if wanted not in (1, -1):
        raise Refused(16979, opcode=QUERY)
    body = _unwrapped(body, version)
    if documents.first(body, b"$db"):
        raise Refused(40621, opcode=QUERY)
    sequences = {}
    moved = _MOVED.get(body[0].name) if body else None
    listed = documents.first(body, moved) if moved else None
    if moved and listed and listed.type == ARRAY:
        entries = documents.whole(listed.value)
        if all(entry.type == OBJECT for entry in entries):
            sequences[moved] = len(entries)
            body = [element for element in body if element.name != moved]
    return Envelope(QUERY, True, body, database, sequences)


def _unwrapped(body: Document, version: int) -> Document:
    """The command without what OP_QUERY has around it and beside it."""
    extra: Document = []
    if body and body[0].name in (b"$query", b"query") and version <= V50:
        if documents.first(body, b"$maxTimeMS"):
            raise Refused(72, opcode=QUERY)
        preference = documents.first(body, b"$readPreference")
        if body[0].type not in (OBJECT, ARRAY):
            raise Refused(10065, opcode=QUERY)
        return documents.whole(body[0].value) + ([preference] if preference else [])
    options = documents.first(body, b"$queryOptions")
    if options:
        rest = [element for element in body if element.name != b"$queryOptions"]
        if version >= V80:
            return rest
        if options.type not in (OBJECT, ARRAY):
            raise Refused(10065, opcode=QUERY)
        extra = documents.whole(options.value)
        if extra and version >= V51 and documents.first(rest, b"$readPreference"):
            raise Refused(72, opcode=QUERY)
        return rest + extra
    return body


def _command(data: bytes) -> Envelope:
    """OP_COMMAND: database, name, arguments, metadata; the last counts as part of the command."""
    parts = data.split(b"\0", 2)
    if len(parts) < 3:
        raise Refused(None, opcode=COMMAND)
    database, name, rest = parts
    try:
        body, position = documents.read(rest, 0, len(rest))
        metadata, position = documents.read(rest, position, len(rest))
    except Broken:
        raise Refused(None, opcode=COMMAND) from None
    if not 1 <= len(name) <= 128 or not body or body[0].name != name or position < len(rest):
        raise Refused(None, opcode=COMMAND)
    for element in metadata:
        if element.name == b"configsvr":
            body.append(element._replace(name=b"$configServerState"))
        elif element.name != b"$ssm":
            body.append(element)
    own = struct.pack("<i", len(database) + 1) + database + b"\0"
    body.append(Element(STRING, b"$db", own))
    return Envelope(COMMAND, True, body)


def _old(opcode: int, data: bytes, version: int) -> Envelope:
    if opcode != GET_MORE and version >= V51:
        raise Closed
    if opcode != KILL_CURSORS:
        _namespace(data)
    elif len(data) < 4:
        raise Closed
    if opcode == GET_MORE and version >= V51:
        raise Refused(None, opcode=QUERY)
    return Envelope(opcode, opcode == GET_MORE, None)


def _table() -> list[int]:
    """CRC-32C, the reflected polynomial 0x82F63B78."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
