"""Replies: upstream's as views over one frame, and those that are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import bson

from proxy.errors import CommandError, WireError
from proxy.wire.checksum import with_checksum
from proxy.wire.compression import deflate, inflate
from proxy.wire.edges import Cursor
from proxy.wire.fields import (
    ARRAY,
    DOCUMENT,
    Element,
    Fields,
    document_fields,
    edited,
    integer,
    text,
    walk,
)
from proxy.wire.layouts import NO_ANSWER, Answer, read_answer
from proxy.wire.messages import Request, with_body
from proxy.wire.opcodes import (
    CHECKSUM_PRESENT,
    COMPRESSED,
    HEADER,
    HEADER_SIZE,
    INT32,
    INT64,
    MORE_TO_COME,
    OP_COMMAND,
    OP_COMMAND_REPLY,
    OP_GET_MORE,
    OP_MSG,
    OP_QUERY,
    OP_REPLY,
    UINT32,
)
from proxy.wire.sections import (
    MSG_BODY,
    MSG_START,
    MSG_START_SIZE,
    msg_sections,
    short_start,
)
from proxy.wire.shapes import Shapes

_int32 = INT32.unpack_from
_msg_start = MSG_START.unpack_from

_answer = Shapes(read_answer).read

#: OP_REPLY flag AwaitCapable, which every server since 1.6 sets.
_AWAIT_CAPABLE = 8
#: The same and QueryFailure.
_FAILED: Final = _AWAIT_CAPABLE | 2

#: Cursors that are read of one reply; a router asks for as many as there are shards.
_MOST_CURSORS: Final = 1_000


@dataclass(slots=True)
class Reply:
    """One message from upstream, with the first document it carries.

    ``cursor_id`` is OP_REPLY's own; 0 for OP_MSG. ``more_to_come`` says that another reply to
    the same request follows (an exhaust stream).
    """

    frame: bytes
    message: bytes
    response_to: int
    opcode: int
    more_to_come: bool
    layout: Answer
    base: int = 0
    body: int = 0
    cursor_id: int = 0
    _fields: Fields | None = None

    @property
    def fields(self) -> Fields:
        """The document's top-level elements."""
        if self._fields is None:
            self._fields = document_fields(self.message, self.body)
        return self._fields

    def ok(self) -> bool:
        """Whether the reply's ``ok`` is 1 (of whichever number type)."""
        return self.layout.ok

    def integer(self, name: bytes) -> int | None:
        """The int32 or int64 field ``name``; None where missing or of another type."""
        return integer(self.message, self.fields.get(name))

    def body_bytes(self) -> bytes:
        """The document's bytes; b"" where there is none."""
        if not self.body:
            return b""
        return self.message[self.body : self.body + _int32(self.message, self.body)[0]]

    def with_fields(self, edits: dict[bytes, bytes | None]) -> bytes:
        """As :meth:`Request.with_fields`."""
        body = edited(self.message, self.body, self.fields, edits)
        return with_body(self.frame, self.message, self.body, body)


def read_reply(frame: bytes) -> Reply:
    """Read one upstream frame with its document's top-level fields.

    Raises:
        WireError: it is no reply, or its document cannot be read.
    """
    message = inflate(frame) if frame[12:16] == COMPRESSED else frame
    _, _, response_to, opcode, flags, kind, size = (
        _msg_start(message) if len(message) >= MSG_START_SIZE else short_start(message)
    )
    if opcode != OP_MSG:
        return _read_legacy_reply(frame, message)
    limit = len(message) - 4 if flags & CHECKSUM_PRESENT else len(message)
    body = MSG_BODY
    if kind or size != limit - MSG_BODY:
        body, _ = msg_sections(message, limit)
    layout, base, fields, _ = _answer(message, body, limit)
    return Reply(
        frame,
        message,
        response_to,
        opcode,
        bool(flags & MORE_TO_COME),
        layout,
        base,
        body,
        0,
        fields,
    )


def _read_legacy_reply(frame: bytes, message: bytes) -> Reply:
    """Read what is no OP_MSG; ``message`` is its inflated form."""
    _, _, response_to, opcode = HEADER.unpack_from(message)
    limit = len(message)
    cursor_id = 0
    if opcode == OP_REPLY:
        # int32 flags, int64 cursorId, int32 startingFrom, int32 nReturned, documents
        body = HEADER_SIZE + 20
        if limit < body:
            raise WireError("OP_REPLY is too short")
        cursor_id = INT64.unpack_from(message, HEADER_SIZE + 4)[0]
        if limit == body:
            return Reply(frame, message, response_to, opcode, False, NO_ANSWER, 0, 0, cursor_id)
    elif opcode == OP_COMMAND_REPLY:
        body = HEADER_SIZE
    else:
        raise WireError(f"opcode {opcode} is not a reply")
    layout, base, fields, _ = _answer(message, body, limit)
    return Reply(
        frame,
        message,
        response_to,
        opcode,
        False,
        layout,
        base,
        body,
        cursor_id,
        fields,
    )


def error_document(error: CommandError) -> dict[str, Any]:
    """``error`` as a server 4.2 puts it, without the cluster's times."""
    document: dict[str, Any] = {}
    if error.labels:
        document["errorLabels"] = list(error.labels)
    document["ok"] = 0.0
    document["errmsg"] = error.errmsg + error.added
    document["code"] = error.code
    document["codeName"] = error.code_name
    return document


def listed_cursors(reply: Reply) -> list[Cursor]:
    """The cursors of a reply that has several, ``cursors: [{cursor: {id, ns, …}, ok}, …]``: what a
    shard answers a router whose aggregation several consumers read. At most :data:`_MOST_CURSORS`.
    """
    data, found = reply.message, list[Cursor]()
    listed = reply.fields.get(b"cursors")
    if listed is None or listed.type != ARRAY:
        return found
    try:
        for entry in islice(walk(data, listed.value, listed.end).values(), _MOST_CURSORS):
            one = _inside(data, entry).get(b"cursor")
            fields = Fields() if one is None else _inside(data, one)
            number = integer(data, fields.get(b"id"))
            if number is not None:
                found.append(Cursor(number, text(data, fields.get(b"ns")) or ""))
    except WireError:
        return found
    return found


def _inside(data: bytes, element: Element) -> Fields:
    return walk(data, element.value, element.end) if element.type == DOCUMENT else Fields()


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
    if (
        not request.command
        and request.opcode in (OP_QUERY, OP_GET_MORE)
        and isinstance(document, Mapping)
        and "errmsg" in document
    ):
        # What is no command hears of an error so.
        body = bson.encode({"$err": document["errmsg"], **document})
        plain = op_reply(request.request_id, request_id, [body], flags=_FAILED)
    else:
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
