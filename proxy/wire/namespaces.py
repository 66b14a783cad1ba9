"""What a request is about: its namespace, ``database.collection``, and its comment.

Requests that are about no collection, or about several, have ``database.$cmd``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.texts import decoded, shortened
from proxy.wire.layouts import OF_COLLECTIONS, READS_ON
from proxy.wire.opcodes import HEADER_SIZE, OP_GET_MORE, OP_MSG, OP_QUERY

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: Servers allow 255 bytes for a namespace.
_LONGEST: Final = 255


def collection_of(request: Request) -> str:
    """The collection that a request is for; "" where it is for none, or does not say."""
    command = request.command
    if command == READS_ON:
        return request.text(b"collection") or ""
    if command in OF_COLLECTIONS:
        return request.text(command.encode()) or ""
    return ""


def namespace_of(request: Request) -> str:
    """``database.collection``; "" where it does not even say for which database it is."""
    if not request.command:
        return _legacy(request.message) if request.opcode in (OP_QUERY, OP_GET_MORE) else ""
    database = request.database
    if not database:
        return ""
    named = f"{database}.{collection_of(request) or '$cmd'}"
    return shortened(named, _LONGEST)


def _legacy(message: bytes) -> str:
    """What a query of old, or what reads it on, has behind its header and a number."""
    start = HEADER_SIZE + 4
    end = message.find(0, start, start + _LONGEST + 1)
    return decoded(message[start:end], _LONGEST) if end > 0 else ""


def comment_of(request: Request) -> str | None:
    """The request's comment, where that is a text."""
    if request.opcode not in (OP_MSG, OP_QUERY):
        return None
    return request.text(b"comment")
