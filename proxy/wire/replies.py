"""Messages that the proxy (or the embedded upstream) makes itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import bson

from proxy.wire.checksum import with_checksum
from proxy.wire.compression import deflate
from proxy.wire.opcodes import (
    CHECKSUM_PRESENT,
    HEADER,
    HEADER_SIZE,
    INT64,
    OP_COMMAND,
    OP_COMMAND_REPLY,
    OP_MSG,
    OP_REPLY,
    UINT32,
)

if TYPE_CHECKING:
    from proxy.errors import CommandError
    from proxy.wire.messages import Request

#: OP_REPLY flag AwaitCapable, which every server since 1.6 sets.
_AWAIT_CAPABLE = 8


def error_document(error: CommandError) -> dict[str, Any]:
    """``error`` as a server 4.2 puts it, without the cluster's times."""
    document: dict[str, Any] = {}
    if error.labels:
        document["errorLabels"] = list(error.labels)
    document["ok"] = 0.0
    document["errmsg"] = error.errmsg
    document["code"] = error.code
    document["codeName"] = error.code_name
    return document


def reply_frame(
    request: Request,
    request_id: int,
    document: Mapping[str, Any] | bytes,
    *,
    flags: int = 0,
) -> bytes:
    """A reply to ``request`` in the opcode, checksum and compression that the request used.

    ``document`` is a mapping or BSON bytes; ``request_id`` is the reply's own id; ``flags`` are
    OP_MSG flag bits.
    """
    if request.opcode == OP_MSG:
        flags |= request.flags & CHECKSUM_PRESENT
    plain = plain_reply(request.opcode, request_id, request.request_id, document, flags=flags)
    compressor = request.compressor
    return plain if compressor is None else deflate(plain, compressor)


def plain_reply(
    opcode: int,
    request_id: int,
    response_to: int,
    document: Mapping[str, Any] | bytes,
    *,
    flags: int = 0,
) -> bytes:
    """An uncompressed reply to a request that came in ``opcode``; ``flags`` are OP_MSG's."""
    body = document if isinstance(document, bytes) else bson.encode(document)
    if opcode == OP_MSG:
        payload = UINT32.pack(flags) + b"\0" + body
        plain = HEADER.pack(HEADER_SIZE + len(payload), request_id, response_to, OP_MSG) + payload
        return with_checksum(plain) if flags & CHECKSUM_PRESENT else plain
    if opcode == OP_COMMAND:
        payload = body + b"\5\0\0\0\0"
        length = HEADER_SIZE + len(payload)
        return HEADER.pack(length, request_id, response_to, OP_COMMAND_REPLY) + payload
    return op_reply(response_to, request_id, [body], flags=_AWAIT_CAPABLE)


def op_reply(
    response_to: int,
    request_id: int,
    documents: Sequence[bytes],
    *,
    flags: int = _AWAIT_CAPABLE,
    cursor_id: int = 0,
    starting_from: int = 0,
) -> bytes:
    """An OP_REPLY with ``documents`` (BSON bytes)."""
    payload = b"".join(
        (
            UINT32.pack(flags),
            INT64.pack(cursor_id),
            UINT32.pack(starting_from),
            UINT32.pack(len(documents)),
            *documents,
        )
    )
    return HEADER.pack(HEADER_SIZE + len(payload), request_id, response_to, OP_REPLY) + payload


def command_frame(request_id: int, document: Mapping[str, Any] | bytes) -> bytes:
    """A plain OP_MSG request: no checksum, no compression, one kind-0 section."""
    body = document if isinstance(document, bytes) else bson.encode(document)
    length = HEADER_SIZE + 5 + len(body)
    return HEADER.pack(length, request_id, 0, OP_MSG) + b"\0\0\0\0\0" + body
