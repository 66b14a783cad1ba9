"""What the server says to messages that are no good: error reply, silence or hanging up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.embedded.failures import failure
from proxy.wire.opcodes import CHECKSUM_PRESENT, HEADER_SIZE, INT32, MORE_TO_COME

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: The required flag bits that exist; an unknown one among the low 16 ends the connection.
_KNOWN_REQUIRED = CHECKSUM_PRESENT | MORE_TO_COME
_MAX_SEQUENCES = 2


class HangUp(Exception):
    """The server closes the connection over this message and says nothing."""


class Sections:
    """The parts of an OP_MSG as a server reads them."""

    __slots__ = ("body", "sequences")

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.sequences: dict[str, list[bytes]] = {}


def read_sections(request: Request) -> Sections:
    """Cut an OP_MSG into body and document sequences, without looking into the documents.

    Raises:
        HangUp: an unknown required flag or a third document sequence.
        CommandError: 22 or 40430 to 40587, as the server answers.
    """
    if request.flags & 0xFFFF & ~_KNOWN_REQUIRED:
        raise HangUp
    if request.flags & CHECKSUM_PRESENT and len(request.message) < HEADER_SIZE + 9:
        raise failure(51251, "Invalid message size for an OP_MSG containing a checksum")
    if not request.has_valid_checksum():
        raise failure(288, "OP_MSG checksum does not match contents")
    message = request.message
    limit = len(message) - (4 if request.flags & CHECKSUM_PRESENT else 0)
    found = Sections()
    pos = HEADER_SIZE + 4
    while pos < limit:
        kind = message[pos]
        pos += 1
        if kind == 0:
            if found.body is not None:
                raise failure(40430, "Multiple body sections in message")
            found.body, pos = _document(message, pos, limit)
        elif kind == 1:
            pos = _sequence(message, pos, limit, found)
        elif kind == 2 and message.find(0, pos, limit) < 0:
            raise failure(22, "a security token overruns its message")
        elif kind == 2:
            raise failure(13, "Unsupported Security Token provided")
        else:
            raise failure(40432, f"Unknown section kind {kind}")
    if len(found.sequences) > _MAX_SEQUENCES:
        raise HangUp
    if found.body is None:
        raise failure(40587, "OP_MSG messages must have a body")
    return found


def _document(message: bytes, pos: int, limit: int) -> tuple[bytes, int]:
    size = INT32.unpack_from(message, pos)[0] if limit - pos >= 5 else 0
    if not 5 <= size <= limit - pos or message[pos + size - 1]:
        raise failure(22, "invalid BSON in a section of an OP_MSG")
    return message[pos : pos + size], pos + size


def _sequence(message: bytes, pos: int, limit: int, found: Sections) -> int:
    size = INT32.unpack_from(message, pos)[0] if limit - pos >= 5 else 0
    end = pos + size
    nul = message.find(0, pos + 4, end)
    if not 5 <= size <= limit - pos or nul < 0:
        raise failure(22, "a document sequence overruns its message")
    name = message[pos + 4 : nul].decode("utf-8", "replace")
    if name in found.sequences:
        raise failure(40431, f"Duplicate document sequence: {name}")
    documents: list[bytes] = []
    pos = nul + 1
    while pos < end:
        document, pos = _document(message, pos, end)
        documents.append(document)
    found.sequences[name] = documents
    return end
