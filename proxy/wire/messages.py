"""Requests and replies as views over one frame.

Every form that a command can take (OP_MSG with its sections in any order, OP_QUERY on a
``$cmd`` collection with or without the ``$query`` wrapper, OP_COMMAND, any of them inside
OP_COMPRESSED) comes out as the same :class:`Request`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from proxy.errors import TooManyFieldsError, UnjudgeableError, WireError
from proxy.wire import opcodes
from proxy.wire.checksum import checksum_matches, with_checksum
from proxy.wire.compression import compressor_of, deflate, inflate
from proxy.wire.fields import (
    ARRAY,
    BOOL,
    DOCUMENT,
    DOUBLE,
    Fields,
    document_end,
    edited,
    integer,
    text,
    walk,
)
from proxy.wire.opcodes import (
    CHECKSUM_PRESENT,
    HEADER,
    HEADER_SIZE,
    INT32,
    INT64,
    MORE_TO_COME,
    OP_COMMAND,
    OP_COMPRESSED,
    OP_GET_MORE,
    OP_MSG,
    OP_QUERY,
    OP_REPLY,
    UINT32,
)
from proxy.wire.shapes import Shapes

_uint32 = UINT32.unpack_from
_int32 = INT32.unpack_from

_walk = Shapes().walk

#: Opcodes that a client may send, with whether the server answers them. OP_MSG depends on its
#: flags, and what is not here is nothing a server of any version accepts.
_ANSWERED: Final = {
    OP_QUERY: True,
    OP_GET_MORE: True,
    OP_COMMAND: True,
    opcodes.OP_UPDATE: False,
    opcodes.OP_INSERT: False,
    opcodes.OP_DELETE: False,
    opcodes.OP_KILL_CURSORS: False,
}

#: What servers since 3.6 take (error 233 TooManyDocumentSequences).
_MAX_SEQUENCES: Final = 2

_SESSION_FIELDS: Final = frozenset({b"lsid", b"txnNumber", b"autocommit", b"startTransaction"})

_NO_FIELDS: Final = Fields()
_NO_FIELDS.duplicates = ()
_NO_FIELDS.repeats = ()


@dataclass(slots=True)
class Request:
    """One message from the client.

    ``frame`` is what came; ``message`` is the same inflated (the same object when it was not
    compressed). ``body`` is the offset of the command document in ``message``, 0 where there is
    none, and ``fields`` its top-level elements as offsets into ``message``. ``command`` is the
    name as sent, ``""`` when this is no command or cannot be read; then ``problem`` says why.
    """

    frame: bytes
    message: bytes
    request_id: int
    opcode: int
    flags: int
    expects_reply: bool
    database: str | None = None
    command: str = ""
    body: int = 0
    fields: Fields = field(default_factory=lambda: _NO_FIELDS)
    sequences: tuple[bytes, ...] = ()
    problem: str = ""

    @property
    def compressor(self) -> int | None:
        """The id of the compressor that the client used for this message."""
        return None if self.frame is self.message else compressor_of(self.frame)

    def text(self, name: bytes) -> str | None:
        """The string field ``name``; None where missing, of another type or not UTF-8."""
        return text(self.message, self.fields.get(name))

    def integer(self, name: bytes) -> int | None:
        """The int32 or int64 field ``name``; None where missing or of another type."""
        return integer(self.message, self.fields.get(name))

    def has_valid_checksum(self) -> bool:
        """False only where a checksum is present and wrong."""
        if self.opcode != OP_MSG or not self.flags & CHECKSUM_PRESENT:
            return True
        return checksum_matches(self.message)

    def body_bytes(self) -> bytes:
        """The command document's bytes; call only when ``command`` is not empty."""
        end = self.body + _int32(self.message, self.body)[0]
        return self.message[self.body : end]

    def with_fields(self, edits: dict[bytes, bytes | None]) -> bytes:
        """The frame with top-level fields of the command replaced or removed.

        ``edits`` is as for :func:`proxy.wire.fields.edited`. Everything else stays byte for
        byte; lengths, a checksum, the ``$query`` wrapper and compression are made good.
        """
        body = edited(self.message, self.body, self.fields, edits)
        return with_body(self.frame, self.message, self.body, body)


def with_body(frame: bytes, message: bytes, start: int, body: bytes) -> bytes:
    """``frame`` with the document at ``start`` of its plain ``message`` exchanged for ``body``.

    The document may be wrapped (OP_QUERY's ``$query``): every enclosing length is corrected.
    """
    old = _int32(message, start)[0]
    head, tail = bytearray(message[:start]), message[start + old :]
    opcode = HEADER.unpack_from(message)[3]
    checksum = opcode == OP_MSG and bool(_uint32(message, HEADER_SIZE)[0] & CHECKSUM_PRESENT)
    if checksum:
        tail = tail[:-4]
    if opcode == OP_QUERY:
        outer = _query_document(message)
        if outer != start:
            INT32.pack_into(head, outer, _int32(message, outer)[0] + len(body) - old)
    INT32.pack_into(head, 0, len(head) + len(body) + len(tail))
    plain = bytes(head) + body + tail
    if checksum:
        plain = with_checksum(plain)
    return plain if frame is message else deflate(plain, compressor_of(frame))


def read_request(frame: bytes, message: bytes | None = None) -> Request:
    """Read one client frame. ``message`` is its inflated form where the caller has it already.

    What cannot be read below the header is not an error here: it comes back with ``problem``
    set and no command, to be forwarded untouched or refused.

    Raises:
        WireError: an OP_COMPRESSED frame that does not inflate, for which the server would
            close the connection too; an opcode that no server accepts; or a command with too
            many fields to be judged.
    """
    if message is None:
        message = inflate(frame) if HEADER.unpack_from(frame)[3] == OP_COMPRESSED else frame
    _, request_id, _, opcode = HEADER.unpack_from(message)
    if opcode == OP_MSG:
        if len(message) < HEADER_SIZE + 4:
            raise WireError("OP_MSG has no room for its flags")
        flags = _uint32(message, HEADER_SIZE)[0]
        request = Request(frame, message, request_id, opcode, flags, not flags & MORE_TO_COME)
        read_body = _read_msg
    else:
        answered = _ANSWERED.get(opcode)
        if answered is None:
            raise WireError(f"opcode {opcode} is not a request")
        flags = _int32(message, HEADER_SIZE)[0] if len(message) >= HEADER_SIZE + 4 else 0
        request = Request(frame, message, request_id, opcode, flags, answered)
        if opcode == OP_QUERY:
            read_body = _read_query
        elif opcode == OP_COMMAND:
            read_body = _read_op_command
        else:
            return request
    try:
        read_body(request)
    except UnjudgeableError:
        raise
    except WireError as error:
        request.problem = str(error)
        request.command = ""
        request.body = 0
        request.fields = _NO_FIELDS
    return request


def _set_command(request: Request, start: int, limit: int) -> None:
    fields = _walk(request.message, start, limit)
    request.body = start
    request.fields = fields
    for name in fields:
        request.command = name.decode("utf-8", "replace")
        break
    else:
        raise WireError("the command document is empty")


def _read_msg(request: Request) -> None:
    message = request.message
    limit = len(message) - 4 if request.flags & CHECKSUM_PRESENT else len(message)
    body, sequences = msg_sections(message, limit)
    request.sequences = sequences
    _set_command(request, body, limit)
    request.database = text(message, request.fields.get(b"$db"))


def msg_sections(message: bytes, limit: int) -> tuple[int, tuple[bytes, ...]]:
    """The offset of an OP_MSG's kind-0 section and the identifiers of its document sequences.

    Raises:
        WireError: no body or two, an unknown kind, a section that overruns, or more sections
            than servers take (two sequences and one token): millions fit into one message.
    """
    pos = HEADER_SIZE + 4
    if pos + 5 < limit and not message[pos] and pos + 1 + _int32(message, pos + 1)[0] == limit:
        return pos + 1, ()  # a body and nothing else, as most messages are
    body = 0
    sequences: list[bytes] = []
    tokens = 0
    while pos < limit:
        kind = message[pos]
        pos += 1
        if kind == 0:
            if body:
                raise WireError("OP_MSG has two bodies")
            body = pos
            pos = document_end(message, pos, limit)
        elif kind == 1:
            if len(sequences) == _MAX_SEQUENCES:
                raise WireError("OP_MSG has too many document sequences")
            if limit - pos < 5:
                raise WireError("a document sequence overruns its message")
            end = pos + _int32(message, pos)[0]
            nul = message.find(0, pos + 4, end)
            if not pos + 5 <= end <= limit or nul < 0:
                raise WireError("a document sequence overruns its message")
            sequences.append(message[pos + 4 : nul])
            pos = end
        elif kind == 2:
            # A security token, which upstream judges; here it only has to be stepped over.
            nul = message.find(0, pos, limit)
            tokens += 1
            if nul < 0 or tokens > 1:
                raise WireError("a security token overruns its message or is not the only one")
            pos = nul + 1
        else:
            raise WireError(f"unknown section kind {kind}")
    if not body:
        raise WireError("OP_MSG has no body")
    return body, tuple(sequences)


def _query_document(message: bytes) -> int:
    """The offset of OP_QUERY's query document, behind flags, namespace, skip and nReturn."""
    nul = message.find(0, HEADER_SIZE + 4)
    if nul < 0:
        raise WireError("OP_QUERY has no namespace")
    return nul + 9


def _read_query(request: Request) -> None:
    message = request.message
    start = _query_document(message)
    namespace = message[HEADER_SIZE + 4 : start - 9].decode("utf-8", "replace")
    document_end(message, start, len(message))
    database, _, collection = namespace.partition(".")
    request.database = database
    if collection != "$cmd":
        return
    _set_command(request, start, len(message))
    # The wrapper counts only as the first element, as the server reads it.
    if request.command in ("$query", "query"):
        element = next(iter(request.fields.values()))
        # Servers unwrap an array as well: its elements may be called anything on the wire.
        if element.type in (DOCUMENT, ARRAY):
            _set_command(request, element.value, element.end)


def _read_op_command(request: Request) -> None:
    message = request.message
    database_end = message.find(0, HEADER_SIZE)
    name_end = message.find(0, database_end + 1)
    if database_end < 0 or name_end < 0:
        raise WireError("OP_COMMAND has no command name")
    request.database = message[HEADER_SIZE:database_end].decode("utf-8", "replace")
    # The arguments are followed by metadata, as servers 3.4 to 4.0 read it, and their own name
    # for the command has to be the one in front.
    _set_command(request, name_end + 1, len(message))
    if next(iter(request.fields)) != message[database_end + 1 : name_end]:
        raise WireError("OP_COMMAND names one command and carries another")
    metadata = document_end(message, name_end + 1, len(message))
    if metadata < len(message):
        # 4.0 takes these from there as if they stood in the command. Shells that old know
        # nothing of sessions; whoever puts them there means to hide them.
        hidden = walk(message, metadata, len(message)).keys() & _SESSION_FIELDS
        if hidden:
            raise UnjudgeableError("OP_COMMAND carries session fields in its metadata")


@dataclass(slots=True)
class Reply:
    """One message from upstream, with the first document it carries.

    ``cursor_id`` is OP_REPLY's own; 0 for OP_MSG. ``more_to_come`` says that another reply to
    the same request follows (an exhaust stream).
    """

    frame: bytes
    message: bytes
    request_id: int
    response_to: int
    opcode: int
    more_to_come: bool
    cursor_id: int = 0
    body: int = 0
    fields: Fields = field(default_factory=lambda: _NO_FIELDS)

    def ok(self) -> bool:
        """Whether the reply's ``ok`` is 1 (of whichever number type)."""
        element = self.fields.get(b"ok")
        if element is None:
            return False
        if element.type == DOUBLE:
            return self.message[element.value : element.end] == _DOUBLE_ONE
        if element.type == BOOL:
            return self.message[element.value] == 1
        return integer(self.message, element) == 1

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


_DOUBLE_ONE = b"\0\0\0\0\0\0\xf0\x3f"


def read_reply(frame: bytes) -> Reply:
    """Read one upstream frame with its document's top-level fields.

    Raises:
        WireError: it is no reply, or its document cannot be read.
    """
    message = inflate(frame) if HEADER.unpack_from(frame)[3] == OP_COMPRESSED else frame
    _, request_id, response_to, opcode = HEADER.unpack_from(message)
    reply = Reply(frame, message, request_id, response_to, opcode, False)
    limit = len(message)
    if opcode == OP_MSG:
        if limit < HEADER_SIZE + 4:
            raise WireError("OP_MSG has no room for its flags")
        flags = _uint32(message, HEADER_SIZE)[0]
        reply.more_to_come = bool(flags & MORE_TO_COME)
        if flags & CHECKSUM_PRESENT:
            limit -= 4
        reply.body, _ = msg_sections(message, limit)
    elif opcode == OP_REPLY:
        # int32 flags, int64 cursorId, int32 startingFrom, int32 nReturned, documents
        if limit < HEADER_SIZE + 20:
            raise WireError("OP_REPLY is too short")
        reply.cursor_id = INT64.unpack_from(message, HEADER_SIZE + 4)[0]
        if limit == HEADER_SIZE + 20:
            return reply
        reply.body = HEADER_SIZE + 20
    elif opcode == opcodes.OP_COMMAND_REPLY:
        reply.body = HEADER_SIZE
    else:
        raise WireError(f"opcode {opcode} is not a reply")
    reply.fields = _walk(message, reply.body, limit)
    return reply


def count_documents(request: Request, name: bytes, limit: int) -> int:
    """How many documents the command's array or document sequence ``name`` holds.

    Counts to ``limit`` at the most. What cannot be read counts as nothing: upstream refuses it.
    """
    message = request.message
    element = request.fields.get(name)
    try:
        if element is not None:
            if element.type != ARRAY:
                return 0
            fields = walk(message, element.value, element.end, limit)
            return len(fields) + len(fields.repeats)
        for start, end in _sequence(message, request.flags, name):
            count = 0
            while start < end and count < limit:
                start = document_end(message, start, end)
                count += 1
            return count
    except TooManyFieldsError:
        return limit
    except WireError:
        pass
    return 0


def _sequence(message: bytes, flags: int, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the documents of the sequence ``name`` lie in an OP_MSG that parsed."""
    limit = len(message) - 4 if flags & CHECKSUM_PRESENT else len(message)
    pos = HEADER_SIZE + 4
    while pos < limit:
        kind, pos = message[pos], pos + 1
        if kind == 2:
            pos = message.index(0, pos) + 1
            continue
        end = pos + _int32(message, pos)[0]
        if kind == 1:
            nul = message.index(0, pos + 4, end)
            if message[pos + 4 : nul] == name:
                yield nul + 1, end
                return
        pos = end
