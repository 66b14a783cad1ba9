"""How an OP_MSG begins, and its sections: one body, and document sequences in any order."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final

from proxy.errors import UnjudgeableError, WireError
from proxy.wire.fields import document_end
from proxy.wire.layouts import DECISIVE_FIELDS
from proxy.wire.opcodes import CHECKSUM_PRESENT, HEADER_SIZE, INT32, OP_MSG

#: How it begins: the header, its flags, and the first section's kind and size.
MSG_START: Final = Struct("<iiiiIBi")
MSG_START_SIZE: Final = MSG_START.size
#: Where the document of its first section stands.
MSG_BODY: Final = HEADER_SIZE + 5

#: What servers since 3.6 take (error 233 TooManyDocumentSequences).
_MAX_SEQUENCES: Final = 2

#: The kind of a section that says for which tenant a message is.
TOKEN: Final = 2

_OP_MSG: Final = INT32.pack(OP_MSG)

_int32 = INT32.unpack_from
_msg_start = MSG_START.unpack_from


def short_start(message: bytes) -> tuple[int, ...]:
    """As :data:`MSG_START` of a message that ends before that, as if it went on with zeros.

    Raises:
        WireError: an OP_MSG that ends before its flags.
    """
    if len(message) < HEADER_SIZE + 4 and message[12:16] == _OP_MSG:
        raise WireError("OP_MSG has no room for its flags")
    return _msg_start(message.ljust(MSG_START_SIZE, b"\0"))


def msg_sections(message: bytes, limit: int) -> tuple[int, tuple[bytes, ...]]:
    """The offset of an OP_MSG's kind-0 section and the identifiers of its document sequences.

    Raises:
        WireError: no body or two, an unknown kind, a section that overruns, or more sections
            than servers take (two sequences and one token): millions fit into one message.
        UnjudgeableError: a sequence is called like a field that decides something here.
    """
    pos = HEADER_SIZE + 4
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
            name = message[pos + 4 : nul]
            if name.partition(b".")[0] in DECISIVE_FIELDS:
                # For one reader such a sequence is a field of the command, for others none.
                raise UnjudgeableError("a document sequence stands for a session field")
            sequences.append(name)
            pos = end
        elif kind == TOKEN:
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


def has_token(message: bytes, flags: int) -> bool:
    """Whether an OP_MSG that parsed has a section of kind 2."""
    limit = len(message) - 4 if flags & CHECKSUM_PRESENT else len(message)
    pos = HEADER_SIZE + 4
    while pos < limit:
        if message[pos] == TOKEN:
            return True
        pos += 1 + _int32(message, pos + 1)[0]
    return False


def sequence(message: bytes, flags: int, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the documents of the sequence ``name`` lie in an OP_MSG that parsed."""
    limit = len(message) - 4 if flags & CHECKSUM_PRESENT else len(message)
    pos = HEADER_SIZE + 4
    while pos < limit:
        kind, pos = message[pos], pos + 1
        if kind == TOKEN:
            pos = message.index(0, pos) + 1
            continue
        end = pos + _int32(message, pos)[0]
        if kind == 1:
            nul = message.index(0, pos + 4, end)
            if message[pos + 4 : nul] == name:
                yield nul + 1, end
                return
        pos = end
