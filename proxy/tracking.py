"""What requests and replies tell the session store.

Only what upstream is seen to accept changes tracked state, so a request is noted when it goes
and judged when its reply comes. Replies that are too long to be held, or compressed and long,
are known only by their edges or not at all: the view is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import bson
from bson.errors import BSONError

from proxy.session.records import CursorId, Operation
from proxy.session.transactions import (
    RETRYABLE_WRITES,
    Outcome,
    Step,
    outcome_of,
    statement_ranges,
    step_of,
)
from proxy.wire.edges import Cursor, Edges, cursor
from proxy.wire.fields import ARRAY
from proxy.wire.messages import count_documents
from proxy.wire.opcodes import INT64

if TYPE_CHECKING:
    from proxy.session.ids import Origin
    from proxy.session.info import OperationSessionInfo
    from proxy.session.store import SessionStore
    from proxy.wire.messages import Reply, Request

_EXHAUSTED: Final = Cursor(0, "")

_int64 = INT64.unpack_from

#: TooManyLogicalSessions and Unauthorized: the lsid may not have become a session.
_TOO_MANY_SESSIONS: Final = 261
_UNAUTHORIZED: Final = 13

#: CursorNotFound, CursorKilled.
_CURSOR_GONE: Final = frozenset({43, 237})

#: Statements counted of one write; a longer batch is known by its first ones only.
_MAX_STATEMENTS: Final = 10_000


@dataclass(slots=True)
class Tracked:
    """A request in flight as far as the store has to hear of its end.

    ``operation`` is None for a ``killCursors`` outside sessions, which still closes cursors.
    ``cursor`` is the one that a getMore reads from, 0 for other commands. ``opcode`` is the
    request's.
    """

    operation: Operation | None
    info: OperationSessionInfo
    step: Step | None
    statements: list[range] | None
    cursor: int
    kills_cursors: bool
    opcode: int


class Tracking:
    """The store's eyes on one upstream process, for one client connection."""

    __slots__ = ("_connection", "_store", "_upstream", "origin", "user")

    def __init__(self, store: SessionStore, connection: int, upstream: str, origin: Origin) -> None:
        self._store = store
        self._connection = connection
        self._upstream = upstream
        #: Who makes the sessions that come into being here: ``user@db`` and from where.
        self.user = ""
        self.origin = origin

    def requested(self, request: Request, info: OperationSessionInfo, now: float) -> Tracked | None:
        """Note a request that goes upstream; None where there is nothing to wait for."""
        kills_cursors = request.command == "killCursors"
        if info.lsid is None:
            if not kills_cursors:
                return None
            return Tracked(None, info, None, None, 0, True, request.opcode)
        if not request.expects_reply:
            self._store.use(info.lsid, now, self.user, self.origin)
            return None
        operation = self._store.operation_started(
            info.lsid,
            now,
            user=self.user,
            origin=self.origin,
            connection=self._connection,
            request_id=request.request_id,
            command=request.command,
            upstream=self._upstream,
        )
        if operation is None:
            return None
        step = step_of(request.command, info)
        statements = None
        if step is not None and request.command in RETRYABLE_WRITES:
            statements = statement_ranges(info, _statements(request))
        cursor = request.integer(b"getMore") or 0 if request.command == "getMore" else 0
        if cursor:
            self._store.cursor_used(CursorId(self._upstream, cursor), now)
        return Tracked(operation, info, step, statements, cursor, kills_cursors, request.opcode)

    def replied(self, tracked: Tracked, reply: Reply, now: float, *, last: bool) -> None:
        """Learn from a reply; more may follow in an exhaust stream unless it is the ``last``."""
        operation = tracked.operation
        code = None if reply.ok() else reply.integer(b"code")
        if tracked.kills_cursors and code is None:
            for killed in _killed_cursors(reply):
                self._store.cursor_closed(CursorId(self._upstream, killed))
        if operation is None:
            return
        if tracked.step is not None:
            self._note_step(operation, tracked, tracked.step, outcome_of(reply), now)
        if tracked.cursor and code in _CURSOR_GONE:
            self._store.cursor_closed(CursorId(self._upstream, tracked.cursor))
        self._note_cursor(tracked, _cursor(reply), now)
        if last:
            self._store.operation_finished(operation, now, refused=self._not_taken(code))

    def replied_at_length(
        self, tracked: Tracked, edges: Edges | None, now: float, *, last: bool
    ) -> None:
        """As :meth:`replied` for a reply that was too long to be looked at; it succeeded.

        ``edges`` are its ends, None where they are compressed.
        """
        operation = tracked.operation
        if operation is None:
            return
        if tracked.step is not None:
            self._note_step(operation, tracked, tracked.step, Outcome.OK, now)
        self._note_cursor(tracked, None if edges is None else cursor(edges), now)
        if last:
            self._store.operation_finished(operation, now)

    def lost(self, tracked: Tracked, now: float) -> None:
        """The connection ended before the reply came."""
        operation = tracked.operation
        if operation is None:
            return
        if tracked.step is not None:
            self._store.transaction_step(
                operation.session, tracked.step, Outcome.LOST, tracked.info, now, self._upstream
            )
        self._store.operation_finished(operation, now)

    def _note_step(
        self, operation: Operation, tracked: Tracked, step: Step, outcome: Outcome, now: float
    ) -> None:
        self._store.transaction_step(
            operation.session,
            step,
            outcome,
            tracked.info,
            now,
            self._upstream,
            self._connection,
            tracked.statements,
        )

    def _not_taken(self, code: int | None) -> bool:
        """Whether upstream refused the request before it looked at the session's lsid."""
        # Without a user, 13 is for having none: what was asked for does not come into it.
        return code == _TOO_MANY_SESSIONS or (code == _UNAUTHORIZED and not self.user)

    def _note_cursor(self, tracked: Tracked, found: Cursor | None, now: float) -> None:
        operation = tracked.operation
        if operation is None or found is None:
            return
        if found.id and found.id != tracked.cursor:
            opened = CursorId(self._upstream, found.id)
            self._store.cursor_opened(opened, operation.session, found.namespace, now)
        elif not found.id and tracked.cursor:
            self._store.cursor_closed(CursorId(self._upstream, tracked.cursor))


def _statements(request: Request) -> int:
    """How many statements a write command has, its batch's own array or document sequence."""
    name = RETRYABLE_WRITES[request.command]
    if name is None:
        return 1
    return count_documents(request, name, _MAX_STATEMENTS)


def _cursor(reply: Reply) -> Cursor | None:
    """The cursor in a reply; None where there is none."""
    layout = reply.layout
    if not layout.cursor:
        return None
    (cursor_id,) = _int64(reply.message, layout.cursor)
    if not cursor_id:
        return _EXHAUSTED
    element = layout.namespace
    if element is None:
        return Cursor(cursor_id, "")
    namespace = reply.message[element.value + 4 : element.end - 1]
    return Cursor(cursor_id, namespace.decode("utf-8", "replace"))


def _killed_cursors(reply: Reply) -> list[int]:
    """The cursors that a killCursors reply says are gone."""
    gone: list[int] = []
    for name in (b"cursorsKilled", b"cursorsNotFound"):
        element = reply.fields.get(name)
        if element is not None and element.type == ARRAY:
            try:
                listed = bson.decode(reply.message[element.value : element.end])
            except BSONError:
                continue
            gone += [number for number in listed.values() if isinstance(number, int)]
    return gone
