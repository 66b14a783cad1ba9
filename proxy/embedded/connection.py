"""One client connection to the embedded server: frames in, steps out. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from proxy.embedded import legacy
from proxy.embedded.call import Answer, Call, Later
from proxy.embedded.client import Client
from proxy.embedded.dispatch import dispatch, failed
from proxy.embedded.failures import failure
from proxy.embedded.messages import HangUp, read_sections
from proxy.embedded.printing import type_name
from proxy.embedded.table import COMMANDS
from proxy.errors import CommandError, WireError
from proxy.wire.messages import Request, read_request
from proxy.wire.opcodes import EXHAUST_ALLOWED, MORE_TO_COME, OP_MSG, OP_QUERY
from proxy.wire.replies import reply_frame

if TYPE_CHECKING:
    from proxy.embedded.engine import Document
    from proxy.embedded.node import Node

CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_AUTO
)


_OVERLOADED: Final = failure(
    462,
    "Rate limiter 'ingressRequestRateLimiter' rate exceeded",
    "SystemOverloadedError",
    "RetryableError",
)
_NOT_IN_NAMES: Final = frozenset('/\\. "$\0')


@dataclass(slots=True)
class Step:
    """What to do next on the connection.

    Send ``frames``; then close if ``close``; else, if ``wait_until`` is set, call
    :meth:`Connection.resume` whenever something changed and at that time; else, if ``more``,
    call :meth:`Connection.proceed` once the frames are sent; else read the next request.
    """

    frames: list[bytes] = field(default_factory=list)
    close: bool = False
    wait_until: float | None = None
    more: bool = False


@dataclass(slots=True)
class _Exhaust:
    """A stream of replies to one request; each answers the one before it."""

    request: Request
    body: Document
    database: str


class Connection:
    """One connection: what waits, and a reply stream under way."""

    def __init__(self, node: Node, client: str) -> None:
        self.node = node
        self.client = Client(client, node.next_connection_id())
        self._waiting: tuple[Request, Call, Later] | None = None
        self._exhaust: _Exhaust | None = None
        node.connections += 1
        node.clients[self.client.id] = self.client

    def receive(self, frame: bytes, now: float) -> Step:
        """Take one whole frame from the client."""
        try:
            request = read_request(frame)
        except WireError:
            return Step(close=True)
        if self.node.overloaded(self.client):
            return self._refuse(request, _OVERLOADED.again(), now)
        if request.opcode == OP_MSG:
            return self._message(request, now)
        if request.opcode == OP_QUERY and request.command:
            return self._query_command(request, now)
        try:
            return Step(legacy.handle(self.node, request, now))
        except HangUp:
            return Step(close=True)

    def resume(self, now: float) -> Step:
        """Let a waiting command look again; call only while one waits."""
        assert self._waiting is not None
        request, call, later = self._waiting
        answer = later.attempt(now)
        if answer is None:
            return Step(wait_until=later.deadline)
        self._waiting = None
        return self._settle(request, call, answer)

    def proceed(self, now: float) -> Step:
        """The next reply of an exhaust stream."""
        assert self._exhaust is not None
        stream, self._exhaust = self._exhaust, None
        return self._execute(stream.request, stream.body, stream.database, (), (), now)

    def gone(self) -> None:
        """The client hung up: give up what waits for it. Frames already read may still come."""
        if self._waiting is not None:
            operation = self._waiting[1].operation
            if operation is not None:
                self.node.operations.pop(operation.id, None)
            transaction = self._waiting[1].transaction
            if transaction is not None:
                transaction.abort(self.node.locks)
            self._waiting = None
        if self._exhaust is not None:
            cursor = self._exhaust.body.get("getMore")
            if isinstance(cursor, int):
                self.node.cursors.close(cursor)
            self._exhaust = None

    def close(self) -> None:
        """The connection has ended."""
        self.gone()
        self.node.connections -= 1
        del self.node.clients[self.client.id]

    def _message(self, request: Request, now: float) -> Step:
        try:
            sections = read_sections(request)
            body = _decoded(sections.body or b"")
            for name, documents in sections.sequences.items():
                if _has_path(body, name):
                    raise failure(
                        40433, f"Duplicate field between body and document sequence {name}"
                    )
                body[name] = [_decoded(document) for document in documents]
            if "$db" not in body:
                raise failure(40571, "OP_MSG requests require a $db argument")
            database = body["$db"]
            if not isinstance(database, str):
                raise failure(
                    14,
                    f"BSON field '$db' is the wrong type '{type_name(database)}', "
                    "expected type 'string'",
                )
            if database != "$external" and (not database or set(database) & _NOT_IN_NAMES):
                raise failure(73, f"Invalid database name: '{database}'")
        except HangUp:
            return Step(close=True)
        except CommandError as error:
            return self._refuse(request, error, now)
        duplicates = tuple(name.decode("utf-8", "replace") for name in request.fields.duplicates)
        sequences = tuple(sections.sequences)
        return self._execute(request, body, database, sequences, duplicates, now)

    def _query_command(self, request: Request, now: float) -> Step:
        try:
            legacy.check_command(request)
            body = _decoded(request.body_bytes())
            legacy.check_opcode(self.node, next(iter(body), ""))
        except CommandError as error:
            return self._refuse(request, error, now)
        duplicates = tuple(name.decode("utf-8", "replace") for name in request.fields.duplicates)
        database = request.database or ""
        body.setdefault("$db", database)
        return self._execute(request, body, database, (), duplicates, now)

    def _execute(
        self,
        request: Request,
        body: Document,
        database: str,
        sequences: tuple[str, ...],
        duplicates: tuple[str, ...],
        now: float,
    ) -> Step:
        exhaust = bool(request.opcode == OP_MSG and request.flags & EXHAUST_ALLOWED)
        name = next(iter(body))
        call = Call(self.node, self.client, name, database, body, now, sequences, exhaust)
        return self._settle(request, call, dispatch(call, COMMANDS.get(name), duplicates))

    def _settle(self, request: Request, call: Call, answer: Answer) -> Step:
        if isinstance(answer, Later):
            self._waiting = (request, call, answer)
            return Step(wait_until=answer.deadline)
        return self._reply(request, call, answer)

    def _refuse(self, request: Request, error: CommandError, now: float) -> Step:
        call = Call(self.node, self.client, "", "", {}, now)
        return self._reply(request, call, failed(call, error))

    def _reply(self, request: Request, call: Call, document: Document) -> Step:
        if self.client.closing:
            return Step(close=True)
        if not request.expects_reply:
            return Step()
        more = call.exhaust and call.more_to_come and document["ok"] == 1.0
        request_id = self.node.next_request_id()
        flags = MORE_TO_COME if more else 0
        frame = reply_frame(request, request_id, document, flags=flags)
        if more:
            # The server makes up the next request itself, with this reply's id.
            request.request_id = request_id
            self._exhaust = _Exhaust(request, call.body, call.database)
        return Step([frame], more=more)


def _has_path(body: Document, path: str) -> bool:
    found: object = body
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return False
        found = found[name]
    return True


def _decoded(document: bytes) -> Document:
    try:
        return bson.decode(document, CODEC)
    except (BSONError, ValueError, OverflowError, RecursionError) as error:
        raise failure(22, f"invalid BSON: {error}") from error
