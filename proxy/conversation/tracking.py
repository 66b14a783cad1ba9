"""What requests and replies tell the session store.

Only what upstream is seen to accept changes tracked state, so a request is noted when it goes
and judged when its reply comes. Replies that are too long to be held, or compressed and long,
are known only by their edges or not at all: the view is a lower bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.conversation.killed import close_killed, integers
from proxy.conversation.overload import is_overload
from proxy.session.ranges import statement_ranges
from proxy.session.records import Attempt, CursorId, Operation
from proxy.session.stable_api import parameters
from proxy.session.transactions import (
    RETRYABLE_WRITES,
    Outcome,
    Step,
    outcome_at_length,
    outcome_of,
    step_of,
)
from proxy.texts import decoded
from proxy.wire.edges import Edges, beginning, cursor, verdict
from proxy.wire.fields import ARRAY, text
from proxy.wire.messages import count_documents
from proxy.wire.opcodes import INT32, INT64
from proxy.wire.replies import listed_cursors

if TYPE_CHECKING:
    from proxy.errors import CommandError
    from proxy.session.ids import Origin
    from proxy.session.info import OperationSessionInfo
    from proxy.session.known import KnownUsers
    from proxy.session.records import Child, Session
    from proxy.session.store import SessionStore
    from proxy.session.suspicion import Suspicion
    from proxy.wire.messages import Request
    from proxy.wire.replies import Reply

_int64 = INT64.unpack_from

#: What servers say before they look at the lsid, or instead of making it a session: too many
#: sessions or requests, API parameters, an opcode of old, an expired token.
_NOT_TAKEN: Final = frozenset((261, 322, 324, 352, 391, 433, 449, 450, 462, 498870, 4886600))
#: 59 also stands for a command in another one, whose session is there: so it begins where it means
#: the command itself, on mongod and on mongos.
_UNKNOWN: Final = 59
_NO_SUCH: Final = "no such c"
_UNAUTHORIZED: Final = 13
#: How 13 ends where it comes so early; no text that quotes a command ends so.
_EARLY: Final = (
    "requires authentication",
    "Logical sessions require authentication",
    "there are no users authenticated",
)
#: 323 also stands for what the command holds; so it begins where it means the command itself.
_STRICT: Final = 323
_NOT_IN_VERSION: Final = "Provided apiStrict:true, but the command "

#: CursorNotFound, CursorKilled.
_CURSOR_GONE: Final = frozenset({43, 237})

#: Bytes of a list of cursors to kill that nobody answers: some 10,000 of them. Those of a longer
#: one stay in the books until they are read from or their session is over.
_LONGEST_LIST: Final = 200_000

#: Statements counted of one write, which takes 3 ms; a longer batch is known by its
#: first ones only.
_MAX_STATEMENTS: Final = 10_000


class CursorKill:
    """A ``killCursors`` outside sessions that is in flight: it still closes cursors."""

    __slots__ = ()

    command: Final = "killCursors"


_CURSOR_KILL: Final = CursorKill()

#: A request in flight as far as the store has to hear of its end.
Tracked = Operation | CursorKill


class Doubted:
    """A request that upstream must refuse, with the error that is expected of it."""

    __slots__ = ("error", "tracked")

    def __init__(self, error: CommandError, tracked: Tracked | None) -> None:
        self.error = error
        self.tracked = tracked


def tracked_of(admitted: Doubted | Tracked | None) -> Tracked | None:
    """What is tracked of a request, for whom it makes no difference that it is doubted."""
    return admitted.tracked if isinstance(admitted, Doubted) else admitted


class Tracking:
    """The store's eyes on one upstream process, for one client connection."""

    __slots__ = (
        "_connection",
        "_known",
        "_store",
        "_upstream",
        "origin",
        "own",
        "repeats_api",
        "unsettled",
        "user",
    )

    def __init__(
        self,
        store: SessionStore,
        known: KnownUsers,
        connection: int,
        upstream: str,
        origin: Origin,
    ) -> None:
        self._known = known
        self._store = store
        self._connection = connection
        self._upstream = upstream
        #: Who makes the sessions that come into being here: ``user@db`` and from where; and the
        #: digest of whoever that is, None where there is none. A session that comes with another's
        #: digest is that owner's, whoever brings it.
        self.user = ""
        self.own: bytes | None = None
        self.origin = origin
        #: Whether what belongs to a transaction repeats its first command's API parameters.
        self.repeats_api = True
        #: Suspicions of operations that were answered here: if the connection goes on, it was none
        #: that had been given up.
        self.unsettled: list[Suspicion] = []

    def requested(
        self, request: Request, info: OperationSessionInfo, session: Session | None, now: float
    ) -> Tracked | None:
        """Note a request that goes upstream; None where there is nothing to wait for.

        ``session`` is what the store knows of ``info.lsid``.
        """
        command = request.command
        if info.lsid is None:
            if command != "killCursors":
                return None
            if not request.expects_reply and info.malformed is None and self.own is not None:
                self._killed_without_a_word(request, self.own)
            return _CURSOR_KILL
        uid = info.lsid.uid
        user = self.user if uid == self.own or self.own is None else self._known.name_of(uid)
        if not request.expects_reply:
            if command == "killCursors" and info.malformed is None:
                self._killed_without_a_word(request, info.lsid.uid)
            used = self._store.use(info.lsid, now, user, self.origin)
            if used is not None:
                self._store.unanswered(used)
                if step_of(request.command, info) is Step.START:
                    # Nobody will say whether it is open, so it may be.
                    start = Attempt(Step.START, info, None, self._parameters(request))
                    self._step(used, start, Outcome.LOST, now)
            return None
        operation = self._store.operation_started(
            info.lsid,
            now,
            user,
            self.origin,
            self._connection,
            request.request_id,
            command,
            self._upstream,
            session,
        )
        if operation is None:
            return None
        if info.malformed is not None:
            # Upstream notes the session, unless it cannot even read the fields.
            operation.unparsed = info.malformed.code if info.unparsed else 0
        elif info.txn_number is not None:
            attempt = operation.attempt = self._attempt(request, info, operation.session)
            if attempt is not None and attempt.step is Step.START:
                self._store.transaction_starts(operation.session, info.child, now)
        if command == "getMore":
            operation.cursor = request.integer(b"getMore") or 0
            self._store.cursor_used(CursorId(self._upstream, operation.cursor), now)
        return operation

    def replied(self, tracked: Tracked, reply: Reply, now: float, *, last: bool) -> None:
        """Learn from a reply; more may follow in an exhaust stream unless it is the ``last``."""
        layout = reply.layout
        code = None if layout.ok else reply.integer(b"code")
        if tracked.command == "killCursors" and code is None:
            close_killed(self._store, self._upstream, reply)
        if isinstance(tracked, CursorKill):
            return
        attempt = tracked.attempt
        if attempt is not None:
            self._note_attempt(tracked, attempt, outcome_of(reply, attempt.step), now)
        if code is not None and tracked.cursor and code in _CURSOR_GONE:
            self._note_cursor(tracked, 0, "", now)
        if layout.cursor:
            number = _int64(reply.message, reply.base + layout.cursor)[0]
            if number != tracked.cursor:
                self._note_cursor(tracked, number, _namespace(reply), now, attempt)
        elif layout.several:
            for one in listed_cursors(reply):
                self._note_cursor(tracked, one.id, one.namespace, now, attempt)
        if last:
            if tracked.suspicions is not None:
                self.unsettled += tracked.suspicions
            refused = code is not None and (_not_taken(reply, code) or code == tracked.unparsed)
            self._store.operation_finished(tracked, now, refused)

    def replied_at_length(
        self, tracked: Tracked, edges: Edges | None, now: float, *, last: bool
    ) -> None:
        """As :meth:`replied` for a reply that was too long to be looked at.

        ``edges`` are its ends as far as they are known, None where they are compressed.
        """
        if isinstance(tracked, CursorKill):
            return
        attempt = tracked.attempt
        if attempt is not None:
            # Clients choose how long an error's text is: what they name may be quoted in it.
            said = None if edges is None else verdict(edges)
            self._note_attempt(tracked, attempt, outcome_at_length(said, attempt.step), now)
        found = None if edges is None else cursor(edges)
        if found is not None and found.id != tracked.cursor:
            self._note_cursor(tracked, found.id, found.namespace, now, attempt)
        if last:
            if tracked.suspicions is not None:
                self.unsettled += tracked.suspicions
            self._store.operation_finished(tracked, now)

    def replied_unread(self, tracked: Tracked, frame: bytes, now: float, *, last: bool) -> None:
        """As :meth:`replied_at_length` for a whole reply that is not looked into, as it is
        compressed and long, or cannot be read."""
        edges = None
        if isinstance(tracked, Operation) and tracked.attempt is not None:
            edges = beginning(frame)
        self.replied_at_length(tracked, edges, now, last=last)

    def lost(self, tracked: Tracked, now: float) -> None:
        """The connection ended before the reply came."""
        if isinstance(tracked, CursorKill):
            return
        if tracked.attempt is not None:
            self._note_attempt(tracked, tracked.attempt, Outcome.LOST, now)
        self._store.operation_finished(tracked, now)

    def _note_attempt(
        self, operation: Operation, attempt: Attempt, outcome: Outcome, now: float
    ) -> None:
        if attempt.step is Step.START:
            operation.attempt = None  # there is one start, however many replies follow
        self._step(operation.session, attempt, outcome, now)

    def _step(self, session: Session, attempt: Attempt, outcome: Outcome, now: float) -> None:
        self._store.transaction_step(
            session,
            attempt.step,
            outcome,
            attempt.info,
            now,
            self._upstream,
            self._connection,
            attempt.statements,
            attempt.api,
        )

    def _attempt(
        self, request: Request, info: OperationSessionInfo, session: Session
    ) -> Attempt | None:
        """What a request asks of the transaction; None for nothing."""
        step = step_of(request.command, info)
        if step is None:
            return None
        one: Session | Child | None = session
        if info.child:
            activity = session.activity
            one = None if activity is None else activity.children.get(info.child)
        tracker = None if one is None else one.transaction
        same = tracker is not None and info.txn_number == tracker.number
        if step is Step.START and not info.start_transaction and same:
            step = Step.CONTINUE
        api = b""
        if step is not Step.CONTINUE or not same:
            if b"help" in request.fields and (
                step is not Step.START or (tracker is not None and tracker.counts)
            ):
                # What asks for help is answered without being carried out: it ends and replaces
                # nothing.
                return None
            if step is Step.START or step is Step.CONTINUE:
                api = self._parameters(request)
        statements = None
        if request.command in RETRYABLE_WRITES:
            statements = statement_ranges(info, _statements(request))
        return Attempt(step, info, statements, api)

    def _parameters(self, request: Request) -> bytes:
        return parameters(request) if self.repeats_api else b""

    def _note_cursor(
        self,
        operation: Operation,
        number: int,
        namespace: str,
        now: float,
        attempt: Attempt | None = None,
    ) -> None:
        """The reply has a cursor of another number than the request, 0 for one that is gone."""
        if number:
            opened = CursorId(self._upstream, number)
            within = -1
            if attempt is not None and attempt.step is not Step.WRITE and not attempt.info.child:
                within = attempt.info.txn_number or 0
            session, conn = operation.session, self._connection
            self._store.cursor_opened(opened, session, namespace, now, conn, within)
        else:
            self._store.cursor_closed(CursorId(self._upstream, operation.cursor))

    def _killed_without_a_word(self, request: Request, uid: bytes) -> None:
        """Nobody will say which cursors are gone: those that belong to who asked."""
        element = request.fields.get(b"cursors")
        if element is None or element.type != ARRAY or element.end - element.value > _LONGEST_LIST:
            return
        for number in integers(request.message, element):
            cursor = CursorId(self._upstream, number)
            session = self._store.cursor_session(cursor)
            if session is not None and session.key.uid == uid:
                self._store.cursor_closed(cursor)


def _not_taken(reply: Reply, code: int) -> bool:
    """Whether upstream refused the request before it looked at the session's lsid."""
    if code not in (_UNKNOWN, _UNAUTHORIZED, _STRICT):
        return code in _NOT_TAKEN or is_overload(reply)
    # These also stand for what was asked for, and then the session is there.
    said = text(reply.message, reply.fields.get(b"errmsg")) or ""
    if code == _UNKNOWN:
        return said.startswith(_NO_SUCH)
    return said.startswith(_NOT_IN_VERSION) if code == _STRICT else said.endswith(_EARLY)


def _statements(request: Request) -> int:
    """How many statements a write command has, its batch's own array or document sequence."""
    name = RETRYABLE_WRITES[request.command]
    if name is None:
        return 1
    return count_documents(request, name, _MAX_STATEMENTS)


def _namespace(reply: Reply) -> str:
    """What the cursor in a reply reads."""
    if not reply.layout.namespace:
        return ""
    at = reply.base + reply.layout.namespace
    size = INT32.unpack_from(reply.message, at)[0]
    return decoded(reply.message[at + 4 : at + 3 + size])
