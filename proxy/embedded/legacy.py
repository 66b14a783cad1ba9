"""Opcodes from before OP_MSG that carry no command: finds answered by OP_REPLY, silent writes."""

from __future__ import annotations

from struct import error as StructError
from typing import TYPE_CHECKING

import bson
from bson.errors import BSONError

from proxy.embedded.failures import failure
from proxy.embedded.messages import HangUp
from proxy.errors import CommandError, WireError
from proxy.wire.fields import document_end
from proxy.wire.opcodes import (
    HEADER_SIZE,
    INT32,
    INT64,
    OP_COMMAND,
    OP_DELETE,
    OP_GET_MORE,
    OP_INSERT,
    OP_KILL_CURSORS,
    OP_QUERY,
    OP_UPDATE,
    QUERY_EXHAUST,
)
from proxy.wire.replies import op_reply

if TYPE_CHECKING:
    from proxy.embedded.engine import Document, Namespace
    from proxy.embedded.node import Node
    from proxy.wire.messages import Request

_QUERY_FAILURE = 2
_CURSOR_NOT_FOUND = 1
_AWAIT_CAPABLE = 8
_FIRST_BATCH = 101
_BY_QUERY = frozenset(
    (
        "hello",
        "isMaster",
        "ismaster",
        "saslStart",
        "saslContinue",
        "authenticate",
        "buildInfo",
        "buildinfo",
    )
)
_NAMES = {OP_QUERY: "OP_QUERY", OP_GET_MORE: "OP_GET_MORE"}


def check_command(request: Request) -> None:
    """A command by OP_QUERY asks for one document and no stream.

    Raises:
        CommandError: 16979.
    """
    message = request.message
    wanted = INT32.unpack_from(message, message.index(0, HEADER_SIZE + 4) + 5)[0]
    if wanted not in (1, -1) or request.flags & QUERY_EXHAUST:
        raise failure(
            16979, f"Bad numberToReturn ({wanted}) for $cmd type ns - can only be 1 or -1"
        )


def check_opcode(node: Node, command: str) -> None:
    """From 5.1 on OP_QUERY carries hello and logins only.

    Raises:
        CommandError: 352.
    """
    if node.version.only_messages and command not in _BY_QUERY:
        raise failure(
            352,
            f"Unsupported OP_QUERY command: {command}. The client driver may require an upgrade. "
            "For more details see https://dochub.mongodb.org/core/legacy-opcode-removal",
        )


def handle(node: Node, request: Request, now: float) -> list[bytes]:
    """Carry out a legacy message; the frames to send back, none for writes.

    With authorization on everything is refused, as none of these can say who may do what, and by
    servers from 5.1 on.

    Raises:
        HangUp: it cannot be read.
    """
    try:
        if node.version.only_messages:
            raise failure(
                5739101,
                f"{_NAMES.get(request.opcode, 'This opcode')} is no longer supported. The client "
                "driver may require an upgrade. For more details see "
                "https://dochub.mongodb.org/core/legacy-opcode-removal",
            )
        return _HANDLERS[request.opcode](node, request, now)
    except (WireError, BSONError, IndexError, ValueError, StructError) as error:
        raise HangUp from error
    except CommandError as error:
        return [_failed(node, request, error)] if request.expects_reply else []


def _failed(node: Node, request: Request, error: CommandError) -> bytes:
    document = bson.encode({"$err": error.errmsg, "code": error.code})
    flags = _QUERY_FAILURE | _AWAIT_CAPABLE
    return op_reply(request.request_id, node.next_request_id(), [document], flags=flags)


def _namespace(node: Node, message: bytes) -> tuple[Namespace, int]:
    end = message.index(0, HEADER_SIZE + 4)
    database, _, name = message[HEADER_SIZE + 4 : end].decode().partition(".")
    if node.authorization:
        raise failure(13, "legacy operations are not authorized")
    if not database or not name:
        raise failure(73, "Invalid namespace specified")
    return (database, name), end + 1


def _documents(message: bytes, pos: int) -> list[Document]:
    documents = []
    while pos < len(message):
        end = document_end(message, pos, len(message))
        documents.append(bson.decode(message[pos:end]))
        pos = end
    return documents


def _query(node: Node, request: Request, now: float) -> list[bytes]:
    message = request.message
    ns, pos = _namespace(node, message)
    skip, wanted = INT32.unpack_from(message, pos)[0], INT32.unpack_from(message, pos + 4)[0]
    query, *projection = _documents(message, pos + 8)
    sort = query.get("$orderby")
    query = query.get("$query", query)
    found = node.engine.find(
        ns, query, projection=projection[0] if projection else None, sort=sort, skip=skip
    )
    if wanted < 0 or wanted == 1:
        found = found[: abs(wanted)]
    cursor = node.cursors.open(ns, found, session=None, txn_number=None, users=(), now=now)
    batch = cursor.take(wanted or _FIRST_BATCH if wanted >= 0 else None)
    cursor_id = 0 if cursor.exhausted else node.cursors.keep(cursor)
    return [_batch(node, request, batch, cursor_id, 0)]


def _batch(
    node: Node, request: Request, batch: list[Document], cursor_id: int, starting: int
) -> bytes:
    documents = [bson.encode(document) for document in batch]
    return op_reply(
        request.request_id,
        node.next_request_id(),
        documents,
        cursor_id=cursor_id,
        starting_from=starting,
    )


def _get_more(node: Node, request: Request, now: float) -> list[bytes]:
    message = request.message
    _, pos = _namespace(node, message)
    wanted, cursor_id = INT32.unpack_from(message, pos)[0], INT64.unpack_from(message, pos + 4)[0]
    try:
        cursor = node.cursors.get(cursor_id, now)
    except CommandError:
        flags = _CURSOR_NOT_FOUND | _AWAIT_CAPABLE
        return [op_reply(request.request_id, node.next_request_id(), [], flags=flags)]
    starting = cursor.position
    batch = cursor.take(abs(wanted) or None)
    if cursor.exhausted:
        node.cursors.close(cursor_id)
        cursor_id = 0
    return [_batch(node, request, batch, cursor_id, starting)]


def _insert(node: Node, request: Request, now: float) -> list[bytes]:
    ns, pos = _namespace(node, request.message)
    for document in _documents(request.message, pos):
        document.setdefault("_id", bson.ObjectId())
        node.engine.insert(ns, document)
    node.advance(now)
    return []


def _update(node: Node, request: Request, now: float) -> list[bytes]:
    ns, pos = _namespace(node, request.message)
    flags = INT32.unpack_from(request.message, pos)[0]
    query, change = _documents(request.message, pos + 4)
    node.engine.update(ns, query, change, upsert=bool(flags & 1), multi=bool(flags & 2))
    node.advance(now)
    return []


def _delete(node: Node, request: Request, now: float) -> list[bytes]:
    ns, pos = _namespace(node, request.message)
    flags = INT32.unpack_from(request.message, pos)[0]
    (query,) = _documents(request.message, pos + 4)
    for key in node.engine.ids(ns, query, limit=flags & 1):
        node.engine.delete(ns, key)
    node.advance(now)
    return []


def _kill_cursors(node: Node, request: Request, now: float) -> list[bytes]:
    if not node.authorization:
        for pos in range(HEADER_SIZE + 8, len(request.message) - 7, 8):
            node.cursors.close(INT64.unpack_from(request.message, pos)[0])
    return []


def _op_command(node: Node, request: Request, now: float) -> list[bytes]:
    raise HangUp


_HANDLERS = {
    OP_QUERY: _query,
    OP_GET_MORE: _get_more,
    OP_INSERT: _insert,
    OP_UPDATE: _update,
    OP_DELETE: _delete,
    OP_KILL_CURSORS: _kill_cursors,
    OP_COMMAND: _op_command,
}
