"""Requests as views over one frame.

Every form that a command can take (OP_MSG with its sections in any order, OP_QUERY on a
``$cmd`` collection with or without the ``$query`` wrapper, OP_COMMAND, any of them inside
OP_COMPRESSED) comes out as the same :class:`Request`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from proxy.errors import TooManyFieldsError, UnjudgeableError, WireError
from proxy.wire import opcodes
from proxy.wire.checksum import checksum_matches, with_checksum
from proxy.wire.compression import compressor_of, deflate, inflate
from proxy.wire.fields import (
    ARRAY,
    DOCUMENT,
    Fields,
    count_elements,
    document_end,
    document_fields,
    edited,
    integer,
    text,
    walk,
)
from proxy.wire.layouts import DECISIVE_FIELDS, NO_COMMAND, Command, read_command
from proxy.wire.opcodes import (
    CHECKSUM_PRESENT,
    COMPRESSED,
    HEADER,
    HEADER_SIZE,
    INT32,
    MORE_TO_COME,
    OP_COMMAND,
    OP_GET_MORE,
    OP_MSG,
    OP_QUERY,
    UINT32,
)
from proxy.wire.sections import (
    MSG_BODY,
    MSG_START,
    MSG_START_SIZE,
    msg_sections,
    sequence,
    short_start,
)
from proxy.wire.shapes import Shapes

_uint32 = UINT32.unpack_from
_int32 = INT32.unpack_from
_msg_start = MSG_START.unpack_from

_command = Shapes(read_command).read

#: Bytes of a namespace; servers allow 255 at the most.
_LONGEST_NAME: Final = 4_096

#: Bytes of a changed message up to which it is compressed as it came.
_DEFLATED: Final = 65_536

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


#: What OP_QUERY's command takes elements from, and what holds the command itself.
_QUERY_OPTIONS: Final = b"$queryOptions"
_WRAPPERS: Final = ("$query", "query")
#: Names that stand for themselves in OP_COMMAND's metadata.
_NO_METADATA: Final = frozenset((b"$db", _QUERY_OPTIONS))


@dataclass(slots=True)
class Request:
    """One message from the client.

    ``frame`` is what came, or what servers make of it before they look for a command; ``message``
    is the same inflated (the same object when it was not compressed). ``body`` is the offset of
    the command document in ``message``, 0 where there is none, and ``layout`` tells what is in
    it, its offsets from ``base``, that of the database from ``aside`` (0 where no field says it).
    ``command`` is the name as sent, ``""`` when this is no command or cannot be read; then
    ``problem`` says why. ``overlong`` says that it has more fields than are read: it must not be
    forwarded. ``namespace`` is the database of a form that does not have it in the command.
    """

    frame: bytes
    message: bytes
    request_id: int
    opcode: int
    flags: int
    expects_reply: bool
    layout: Command
    base: int = 0
    command: str = ""
    body: int = 0
    sequences: tuple[bytes, ...] = ()
    namespace: str | None = None
    problem: str = ""
    overlong: bool = False
    _fields: Fields | None = None
    aside: int = 0
    #: The message before ``$queryOptions`` became part of the command, where it had some.
    undissolved: bytes = b""

    @property
    def fields(self) -> Fields:
        """The command's top-level elements."""
        if self._fields is None:
            self._fields = document_fields(self.message, self.body)
        return self._fields

    @property
    def database(self) -> str | None:
        """The database that the request is for; None where it does not say."""
        return self.text(b"$db") if self.opcode == OP_MSG else self.namespace

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
        outer = query_document(message)
        if outer != start:
            INT32.pack_into(head, outer, _int32(message, outer)[0] + len(body) - old)
    INT32.pack_into(head, 0, len(head) + len(body) + len(tail))
    plain = bytes(head) + body + tail
    if checksum:
        plain = with_checksum(plain)
    # What is long stays plain, which is always allowed: zlib takes 20 ms for a megabyte.
    if frame is message or len(plain) > _DEFLATED:
        return plain
    return deflate(plain, compressor_of(frame))


def read_request(frame: bytes, message: bytes | None = None) -> Request:
    """Read one client frame. ``message`` is its inflated form where the caller has it already.

    What cannot be read below the header is not an error here: it comes back with ``problem``
    set and no command, to be forwarded untouched or refused.

    Raises:
        WireError: an OP_COMPRESSED frame that does not inflate, for which the server would
            close the connection too; an opcode that no server accepts; or a command that could
            carry more than can be seen.
    """
    if message is None:
        message = inflate(frame) if frame[12:16] == COMPRESSED else frame
    _, request_id, _, opcode, flags, kind, size = (
        _msg_start(message) if len(message) >= MSG_START_SIZE else short_start(message)
    )
    if opcode != OP_MSG:
        return _read_legacy(frame, message)
    limit = len(message) - 4 if flags & CHECKSUM_PRESENT else len(message)
    layout, base, body, problem, overlong, aside = NO_COMMAND, 0, MSG_BODY, "", False, 0
    sequences: tuple[bytes, ...] = ()
    fields: Fields | None = None
    try:
        # Most messages are a body and nothing else.
        if kind or size != limit - MSG_BODY:
            body, sequences = msg_sections(message, limit)
        layout, base, fields, aside = _command(message, body, limit)
    except WireError as error:
        overlong = isinstance(error, TooManyFieldsError)
        if isinstance(error, UnjudgeableError) and not overlong:
            raise
        body, problem = 0, str(error)
    return Request(
        frame,
        message,
        request_id,
        opcode,
        flags,
        not flags & MORE_TO_COME,
        layout,
        base,
        layout.name,
        body,
        sequences,
        None,
        problem,
        overlong,
        fields,
        aside,
    )


def _read_legacy(frame: bytes, message: bytes) -> Request:
    """Read what is no OP_MSG; ``message`` is its inflated form."""
    _, request_id, _, opcode = HEADER.unpack_from(message)
    answered = _ANSWERED.get(opcode)
    if answered is None:
        raise WireError(f"opcode {opcode} is not a request")
    flags = _int32(message, HEADER_SIZE)[0] if len(message) >= HEADER_SIZE + 4 else 0
    request = Request(frame, message, request_id, opcode, flags, answered, NO_COMMAND)
    try:
        if opcode == OP_QUERY:
            _read_query(request)
        elif opcode == OP_COMMAND:
            _read_op_command(request)
    except WireError as error:
        request.overlong = isinstance(error, TooManyFieldsError)
        if isinstance(error, UnjudgeableError) and not request.overlong:
            raise
        request.problem = str(error)
        request.command = ""
        request.body = 0
        request.layout = NO_COMMAND
        request._fields = None
    return request


def _set_command(request: Request, start: int, limit: int) -> None:
    request.body = start
    # Its database is said elsewhere, whatever stands aside.
    request.layout, request.base, request._fields, _ = _command(request.message, start, limit)
    request.command = request.layout.name


def query_document(message: bytes) -> int:
    """The offset of OP_QUERY's query document, behind flags, namespace, skip and nReturn."""
    nul = message.find(0, HEADER_SIZE + 4)
    if nul < 0:
        raise WireError("OP_QUERY has no namespace")
    return nul + 9


def _name(message: bytes, start: int, end: int) -> str:
    """A database or a collection, as a name in front of a document.

    Raises:
        UnjudgeableError: it is longer than any may be, by far.
    """
    if end - start > _LONGEST_NAME:
        raise UnjudgeableError("a namespace is too long")
    return message[start:end].decode("utf-8", "replace")


def _read_query(request: Request) -> None:
    message = request.message
    start = query_document(message)
    namespace = _name(message, HEADER_SIZE + 4, start - 9)
    document_end(message, start, len(message))
    database, _, collection = namespace.partition(".")
    request.namespace = database
    if collection.startswith("$cmd.sys."):
        # Up to 4.0 these are currentOp, killOp and fsyncUnlock with everything that is in here.
        # Shells that know sessions call them by their names.
        _refuse_hidden(walk(message, start, len(message)), "a query of a pseudo-collection")
    if collection != "$cmd":
        return
    _set_command(request, start, len(message))
    # The wrapper counts only as the first element, as the server reads it.
    if request.command in _WRAPPERS:
        _refuse_query_options(request)
        element = next(iter(request.fields.values()))
        # Servers unwrap an array as well: its elements may be called anything on the wire.
        if element.type in (DOCUMENT, ARRAY):
            _set_command(request, element.value, element.end)
            _refuse_query_options(request)
    elif _QUERY_OPTIONS in request.fields:
        _take_in_query_options(request)


def _refuse_query_options(request: Request) -> None:
    # Versions differ in whether they look at it beside a wrapper or inside.
    if _QUERY_OPTIONS in request.fields:
        raise UnjudgeableError("OP_QUERY has $queryOptions and a wrapper")


def _take_in_query_options(request: Request) -> None:
    """Make of ``$queryOptions`` what servers to 4.4 do: its elements stand behind the command's.

    That is read, judged and sent on. Later servers only take it out of the command.
    """
    plain, start = request.message, request.body
    options = request.fields[_QUERY_OPTIONS]
    if options.type not in (DOCUMENT, ARRAY):
        raise UnjudgeableError("OP_QUERY has $queryOptions that are no document")
    inner = plain[options.value + 4 : options.end - 1]
    rest = edited(plain, start, request.fields, {_QUERY_OPTIONS: None})
    body = INT32.pack(len(rest) + len(inner)) + rest[4:-1] + inner + b"\0"
    message = with_body(plain, plain, start, body)
    compressed = request.frame is not plain and len(message) <= _DEFLATED
    request.frame = deflate(message, compressor_of(request.frame)) if compressed else message
    request.message, request.undissolved = message, plain
    _set_command(request, start, len(message))
    # What is sent on is read once more.
    if request.command in _WRAPPERS or _QUERY_OPTIONS in request.fields:
        raise UnjudgeableError("OP_QUERY has $queryOptions in several layers")


def _read_op_command(request: Request) -> None:
    message = request.message
    database_end = message.find(0, HEADER_SIZE)
    name_end = message.find(0, database_end + 1)
    if database_end < 0 or name_end < 0:
        raise WireError("OP_COMMAND has no command name")
    request.namespace = _name(message, HEADER_SIZE, database_end)
    # The arguments are followed by metadata, as servers 3.4 to 4.0 read it, and their own name
    # for the command has to be the one in front.
    _set_command(request, name_end + 1, len(message))
    if next(iter(request.fields)) != message[database_end + 1 : name_end]:
        raise WireError("OP_COMMAND names one command and carries another")
    metadata = document_end(message, name_end + 1, len(message))
    if metadata < len(message):
        # 3.6 and 4.0 take these as if they stood in the command. Shells that old put nothing
        # there whose name does not begin so; whoever does means to hide it.
        if document_end(message, metadata, len(message)) != len(message):
            raise WireError("OP_COMMAND has something behind its metadata")
        for name in walk(message, metadata, len(message)):
            if not name.startswith(b"$") or name in _NO_METADATA:
                raise UnjudgeableError("OP_COMMAND carries parts of the command in its metadata")


def _refuse_hidden(fields: Fields, where: str) -> None:
    if not fields.keys().isdisjoint(DECISIVE_FIELDS):
        raise UnjudgeableError(f"{where} carries session fields")


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
            return count_elements(message, element.value, element.end, limit)
        if request.opcode != OP_MSG:
            return 0
        for start, end in sequence(message, request.flags, name):
            count = 0
            while start < end and count < limit:
                start = document_end(message, start, end)
                count += 1
            return count
    except WireError:
        pass
    return 0
