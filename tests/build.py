"""Wire messages made by hand, in every form a peer may send, right or wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import bson

from proxy.wire import opcodes
from proxy.wire.checksum import with_checksum
from proxy.wire.opcodes import (
    CHECKSUM_PRESENT,
    HEADER,
    HEADER_SIZE,
    INT32,
    INT64,
    OP_COMPRESSED,
    OP_MSG,
    UINT32,
)

Document = Mapping[str, Any] | bytes

_STREAMS = Path(__file__).parent / "data" / "streams"


def document(value: Document) -> bytes:
    return value if isinstance(value, bytes) else bson.encode(value)


def raw_document(*elements: bytes) -> bytes:
    """A BSON document of element bytes: any order, any repeats."""
    inner = b"".join(elements)
    return INT32.pack(len(inner) + 5) + inner + b"\0"


def element(name: str, value: Any) -> bytes:
    """One BSON element: type, name, value."""
    return bson.encode({name: value})[4:-1]


def frame(opcode: int, payload: bytes, request_id: int = 1, response_to: int = 0) -> bytes:
    return HEADER.pack(HEADER_SIZE + len(payload), request_id, response_to, opcode) + payload


def body(value: Document) -> bytes:
    """A section of kind 0."""
    return b"\0" + document(value)


def sequence(identifier: str, *documents: Document) -> bytes:
    """A section of kind 1."""
    inner = identifier.encode() + b"\0" + b"".join(map(document, documents))
    return b"\1" + INT32.pack(len(inner) + 4) + inner


def op_msg(
    *sections: bytes,
    flags: int = 0,
    request_id: int = 1,
    response_to: int = 0,
    checksum: bool = False,
) -> bytes:
    if checksum:
        flags |= CHECKSUM_PRESENT
    message = frame(OP_MSG, UINT32.pack(flags) + b"".join(sections), request_id, response_to)
    return with_checksum(message) if checksum else message


def command(value: Document, request_id: int = 1, **how: Any) -> bytes:
    """An OP_MSG request with nothing but a body."""
    return op_msg(body(value), request_id=request_id, **how)


def reply(value: Document, response_to: int, request_id: int = 1000, **how: Any) -> bytes:
    """An OP_MSG reply."""
    return op_msg(body(value), request_id=request_id, response_to=response_to, **how)


def op_query(
    namespace: str,
    query: Document,
    *,
    flags: int = 0,
    count: int = -1,
    request_id: int = 1,
    projection: Document = b"",
) -> bytes:
    numbers = INT32.pack(0) + INT32.pack(count)
    name = namespace.encode() + b"\0"
    payload = UINT32.pack(flags) + name + numbers + document(query) + document(projection)
    return frame(opcodes.OP_QUERY, payload, request_id)


def op_reply(
    *documents: Document,
    response_to: int,
    request_id: int = 1000,
    cursor_id: int = 0,
    flags: int = 8,
) -> bytes:
    numbers = (
        UINT32.pack(flags) + INT64.pack(cursor_id) + UINT32.pack(0) + UINT32.pack(len(documents))
    )
    payload = numbers + b"".join(map(document, documents))
    return frame(opcodes.OP_REPLY, payload, request_id, response_to)


def op_command(
    database: str, name: str, arguments: Document, metadata: Document = b"\5\0\0\0\0", **how: Any
) -> bytes:
    payload = f"{database}\0{name}\0".encode() + document(arguments) + document(metadata)
    return frame(opcodes.OP_COMMAND, payload, **how)


def op_insert(namespace: str, *documents: Document, request_id: int = 1) -> bytes:
    payload = INT32.pack(0) + namespace.encode() + b"\0" + b"".join(map(document, documents))
    return frame(opcodes.OP_INSERT, payload, request_id)


def op_update(namespace: str, query: Document, change: Document, request_id: int = 1) -> bytes:
    payload = INT32.pack(0) + namespace.encode() + b"\0" + INT32.pack(0)
    return frame(opcodes.OP_UPDATE, payload + document(query) + document(change), request_id)


def op_delete(namespace: str, query: Document, request_id: int = 1) -> bytes:
    payload = INT32.pack(0) + namespace.encode() + b"\0" + INT32.pack(0) + document(query)
    return frame(opcodes.OP_DELETE, payload, request_id)


def op_get_more(namespace: str, cursor_id: int, request_id: int = 1) -> bytes:
    payload = INT32.pack(0) + namespace.encode() + b"\0" + INT32.pack(0) + INT64.pack(cursor_id)
    return frame(opcodes.OP_GET_MORE, payload, request_id)


def op_kill_cursors(*cursor_ids: int, request_id: int = 1) -> bytes:
    payload = INT32.pack(0) + INT32.pack(len(cursor_ids)) + b"".join(map(INT64.pack, cursor_ids))
    return frame(opcodes.OP_KILL_CURSORS, payload, request_id)


def op_compressed(
    data: bytes,
    size: int,
    compressor: int,
    *,
    opcode: int = OP_MSG,
    request_id: int = 1,
    response_to: int = 0,
) -> bytes:
    """An OP_COMPRESSED frame that says of ``data`` whatever it is told to say."""
    prefix = INT32.pack(opcode) + INT32.pack(size) + bytes([compressor])
    return frame(OP_COMPRESSED, prefix + data, request_id, response_to)


def with_length(message: bytes, length: int) -> bytes:
    """``message`` declaring another length."""
    return INT32.pack(length) + message[4:]


def recorded(way: str | None = None) -> Iterator[tuple[str, bytes]]:
    """(where from, frame) of every recorded frame: requests, replies or both."""
    for path in sorted(_STREAMS.glob("*.jsonl")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            record = json.loads(line)
            if "frame" in record and way in (None, record["way"]):
                yield f"{path.stem}:{number}", base64.b64decode(record["frame"])
