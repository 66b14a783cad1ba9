"""Feeds the store from the requests and replies of one connection, in every form they take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.errors import WireError
from proxy.session.records import CursorId, Operation, Session
from proxy.session.transactions import (
    RETRYABLE_WRITES,
    Outcome,
    Step,
    outcome_of,
    statement_ranges,
    step_of,
)
from proxy.wire.fields import ARRAY, DOCUMENT, INT64_TYPE, integer, text, walk
from proxy.wire.opcodes import CHECKSUM_PRESENT, HEADER_SIZE, INT32, OP_MSG

if TYPE_CHECKING:
    from proxy.session.caller import Caller
    from proxy.session.ids import Origin
    from proxy.session.info import OperationSessionInfo
    from proxy.session.store import SessionStore
    from proxy.wire.messages import Reply, Request

_int32 = INT32.unpack_from

#: Commands whose reply may leave a cursor open. A reply to another command need not be read.
_OPENERS: Final = frozenset(
    ("find", "aggregate", "listCollections", "listIndexes", "bulkWrite", "getMore")
)

#: Error codes with which a getMore has lost its cursor.
_CURSOR_GONE: Final = frozenset((43, 136, 175, 237, 11601))

#: How upstream words a refusal of the session fields themselves, by code.
_REFUSALS: Final = {
    2: ("Username too long to use with logical sessions",),
    12: ("Unsupported SHA256Block hash length",),
    13: (
        "there are no users authenticated",
        "too many users are authenticated",
        "Logical sessions require authentication",
        "Unauthorized to set user digest in LogicalSessionId",
        "command ",
        "Command ",
    ),
    14: ("BSON field 'OperationSessionInfo.",),
    72: ("Internal sessions are only allowed",),
    207: ("",),
    261: ("",),
    40413: ("BSON field 'OperationSessionInfo.",),
    40414: ("BSON field 'OperationSessionInfo.",),
    40415: ("BSON field 'OperationSessionInfo.",),
}

#: Statements counted in one request; a longer batch is listed only up to here.
_MAX_STATEMENTS: Final = 1000


class Exchange:
    """One request on its way, until its last reply."""

    __slots__ = ("command", "cursor", "info", "operation", "statements", "step")

    def __init__(
        self,
        command: str,
        info: OperationSessionInfo,
        operation: Operation | None,
        cursor: CursorId | None,
        step: Step | None,
        statements: int,
    ) -> None:
        self.command = command
        self.info = info
        self.operation = operation
        self.cursor = cursor
        self.step = step
        self.statements = statements

    @property
    def needs_whole_reply(self) -> bool:
        """Whether :meth:`Tracking.reply` has to see the reply, however long it is."""
        return self.step is not None or self.command in _OPENERS or self.command == "killCursors"


class Tracking:
    """One client connection's view of the store.

    ``connection`` is the caller's number for it, ``upstream`` the address behind it. Set
    ``caller`` anew whenever the identity changes, ``origin`` when the client has introduced
    itself. All times are in seconds.
    """

    __slots__ = ("caller", "connection", "origin", "store", "upstream")

    def __init__(
        self,
        store: SessionStore,
        caller: Caller,
        origin: Origin,
        connection: int,
        upstream: str,
    ) -> None:
        self.store = store
        self.caller = caller
        self.origin = origin
        self.connection = connection
        self.upstream = upstream

    def session(self, info: OperationSessionInfo) -> Session | None:
        """What is known of the session that a request names; changes nothing."""
        return None if info.lsid is None else self.store.get(info.lsid)

    def request(self, request: Request, info: OperationSessionInfo, now: float) -> Exchange | None:
        """Note a request that is being forwarded; None where its reply teaches nothing.

        Pass the result to :meth:`reply` with each reply, and at last when the connection ends.
        """
        command = request.command
        cursor: CursorId | None = None
        if command == "getMore":
            number = request.integer(b"getMore")
            if number is not None:
                cursor = CursorId(self.upstream, number)
                self.store.cursor_used(cursor, now)
        if info.lsid is None or info.malformed is not None:
            if cursor is None and command != "killCursors":
                return None
            return Exchange(command, info, None, cursor, None, 0) if request.expects_reply else None
        if not request.expects_reply:
            self.store.use(info.lsid, now, self.caller.name, self.origin)
            return None
        operation = self.store.operation_started(
            info.lsid,
            now,
            user=self.caller.name,
            origin=self.origin,
            connection=self.connection,
            request_id=request.request_id,
            command=command,
            upstream=self.upstream,
        )
        step = step_of(command, info)
        statements = _statements(request, info) if step is Step.WRITE else 0
        return Exchange(command, info, operation, cursor, step, statements)

    def reply(self, exchange: Exchange, reply: Reply | None, now: float) -> None:
        """Learn from a reply; None where the connection ended without one."""
        operation = exchange.operation
        if operation is not None and exchange.step is not None:
            self._learn_transaction(exchange, operation.session, reply, now)
        if reply is not None:
            self._learn_cursor(exchange, reply)
            if reply.more_to_come:
                return
        self.passed(exchange, now, refused=reply is not None and refuses_session(reply))

    def passed(self, exchange: Exchange, now: float, *, refused: bool = False) -> None:
        """Note that the last reply went by, unread where that is allowed."""
        if exchange.operation is not None:
            self.store.operation_finished(exchange.operation, now, refused)

    def _learn_transaction(
        self, exchange: Exchange, session: Session, reply: Reply | None, now: float
    ) -> None:
        step = exchange.step
        if step is None:
            return
        outcome = outcome_of(reply)
        statements: list[range] = []
        # With writeErrors nobody can tell which statements were executed.
        if (
            step is Step.WRITE
            and outcome is Outcome.OK
            and reply is not None
            and b"writeErrors" not in reply.fields
        ):
            statements = statement_ranges(exchange.info, exchange.statements)
        self.store.transaction_step(
            session,
            step,
            outcome,
            exchange.info,
            now,
            self.upstream,
            self.connection,
            statements,
        )

    def _learn_cursor(self, exchange: Exchange, reply: Reply) -> None:
        if not reply.ok():
            code = integer(reply.message, reply.fields.get(b"code"))
            if exchange.cursor is not None and code in _CURSOR_GONE:
                self.store.cursor_closed(exchange.cursor)
            return
        if exchange.command == "killCursors":
            for name in (b"cursorsKilled", b"cursorsNotFound"):
                for number in _longs(reply, name):
                    self.store.cursor_closed(CursorId(self.upstream, number))
            return
        found = _cursor(reply)
        if found is None:
            return
        number, namespace = found
        if exchange.cursor is not None:
            if not number:
                self.store.cursor_closed(exchange.cursor)
        elif number and exchange.operation is not None:
            cursor = CursorId(self.upstream, number)
            self.store.cursor_opened(cursor, exchange.operation.session, namespace)


def refuses_session(reply: Reply) -> bool:
    """Whether upstream refused the session fields, so that it knows of no session by them."""
    code = integer(reply.message, reply.fields.get(b"code"))
    wording = _REFUSALS.get(code) if code is not None else None
    if wording is None or reply.ok():
        return False
    message = text(reply.message, reply.fields.get(b"errmsg")) or ""
    return message.startswith(wording)


def _cursor(reply: Reply) -> tuple[int, str] | None:
    """``cursor.id`` and ``cursor.ns`` of a reply."""
    element = reply.fields.get(b"cursor")
    if element is None or element.type != DOCUMENT:
        return None
    try:
        fields = walk(reply.message, element.value, element.end, 64)
    except WireError:
        return None
    number = integer(reply.message, fields.get(b"id"))
    return None if number is None else (number, text(reply.message, fields.get(b"ns")) or "")


def _longs(reply: Reply, name: bytes) -> list[int]:
    element = reply.fields.get(name)
    if element is None or element.type != ARRAY:
        return []
    try:
        entries = walk(reply.message, element.value, element.end)
    except WireError:
        return []
    return [
        number
        for entry in entries.values()
        if entry.type == INT64_TYPE and (number := integer(reply.message, entry)) is not None
    ]


def _statements(request: Request, info: OperationSessionInfo) -> int:
    """How many statements a retryable write has, up to ``_MAX_STATEMENTS``."""
    if info.stmt_ids is not None:
        return len(info.stmt_ids)
    name = RETRYABLE_WRITES.get(request.command)
    if name is None:
        return 1 if request.command in RETRYABLE_WRITES else 0
    data = request.message
    element = request.fields.get(name)
    if element is not None:
        return _count(data, element.value + 4, element.end - 1, in_array=True)
    if request.opcode != OP_MSG or name not in request.sequences:
        return 0
    limit = len(data) - (4 if request.flags & CHECKSUM_PRESENT else 0)
    pos = HEADER_SIZE + 4
    while pos < limit:
        kind, start = data[pos], pos + 1
        pos = data.index(0, start, limit) + 1 if kind == 2 else start + _int32(data, start)[0]
        if kind == 1 and data.startswith(name + b"\0", start + 4):
            return _count(data, start + 5 + len(name), pos, in_array=False)
    return 0


def _count(data: bytes, pos: int, end: int, *, in_array: bool) -> int:
    """Documents between two offsets, each behind its type and name where they are an array's."""
    count = 0
    while pos < end and count < _MAX_STATEMENTS:
        if in_array:
            pos = data.find(0, pos + 1, end) + 1
            if not pos:
                break
        if end - pos < 5:
            break
        size = _int32(data, pos)[0]
        if size < 5:
            break
        pos += size
        count += 1
    return count
