"""What stands around a command in the message that brought it, which servers read as well.

Nothing of it decides what the command is. It decides whether a server carries it out, and so has
to be looked at where none will.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.wire.fields import document_end, document_fields, walk
from proxy.wire.messages import query_document
from proxy.wire.opcodes import INT32, OP_COMMAND, OP_MSG, OP_QUERY

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: Metadata of OP_COMMAND that servers do not take for a part of the command.
_APART: Final = b"$ssm"

_int32 = INT32.unpack_from


def is_wrapped_beside(request: Request, name: bytes) -> bool:
    """Whether an OP_QUERY that was read has its command in ``$query``, and beside that ``name``."""
    start = query_document(request.message)
    return request.body != start and name in document_fields(request.message, start)


def numbers_to_return(message: bytes) -> int:
    """How many documents an OP_QUERY that was read wants."""
    return int(_int32(message, query_document(message) - 4)[0])


def documents_of(request: Request, most: int) -> list[bytes]:
    """The documents of a command's message that servers read, but for those of sequences.

    Those of more than so many bytes are left out, since to copy them makes others wait.

    Raises:
        WireError: behind the command stands something that is no document.
    """
    message = request.message
    start = query_document(message) if request.opcode == OP_QUERY else request.body
    end = document_end(message, start, len(message))
    found = [(message, start, end)]
    if request.opcode != OP_MSG and end < len(message):
        found.append((message, end, document_end(message, end, len(message))))
    if request.undissolved:
        # A second $queryOptions is in here alone, and servers read it all the same.
        whole = request.undissolved
        found.append((whole, start, document_end(whole, start, len(whole))))
    return [within[start:end] for within, start, end in found if end - start <= most]


def repeated_in_metadata(request: Request) -> bytes | None:
    """What an OP_COMMAND that was read has twice, once or more in its metadata; None for nothing.

    Servers 3.6 and 4.0 put that behind the command's own fields, and refuse what is doubled then.
    """
    if request.opcode != OP_COMMAND:
        return None
    message = request.message
    start = document_end(message, request.body, len(message))
    if start == len(message):
        return None
    metadata = walk(message, start, len(message))
    names: tuple[bytes, ...] = (*metadata.duplicates, *metadata)
    for name in names:
        if name != _APART and (name in metadata.duplicates or name in request.fields):
            return name
    return None
