"""What a request is about: its namespace, ``database.collection``, and its comment.

Requests that are about no collection, or about several, have ``database.$cmd``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.errors import WireError
from proxy.texts import decoded, shortened
from proxy.wire.fields import DOCUMENT, text, walk
from proxy.wire.layouts import OF_COLLECTIONS, READS_ON
from proxy.wire.opcodes import HEADER_SIZE, OP_GET_MORE, OP_MSG, OP_QUERY

if TYPE_CHECKING:
    from proxy.wire.messages import Request

#: W3C Trace Context, in a text of its own or among others.
_PARENT: Final = re.compile(
    r"(?<![0-9a-f])[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(?![0-9a-f])"
)
_LONGEST_COMMENT: Final = 4_096

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


def traceparent_of(request: Request) -> str:
    """The traceparent that the request's comment carries, as a text, within one, or as a field of
    that name; "" where there is none that stands for anything."""
    comment = request.fields.get(b"comment")
    if comment is None or comment.end - comment.value > _LONGEST_COMMENT:
        return ""
    said = text(request.message, comment)
    if comment.type == DOCUMENT:
        try:
            inner = walk(request.message, comment.value, comment.end)
        except WireError:
            return ""
        said = text(request.message, inner.get(b"traceparent"))
    found = _PARENT.search(said or "")
    if found is None or found[0].startswith("ff") or not _is_valid(found[0]):
        return ""
    return found[0]


def _is_valid(parent: str) -> bool:
    """Whether neither id is all zeros."""
    _, trace, span, _ = parent.split("-")
    return bool(trace.strip("0") and span.strip("0"))
