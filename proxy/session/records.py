"""What the store keeps per session, and the groups that sessions share."""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, NamedTuple

from proxy.session.beside import Use
from proxy.session.ids import LogicalSessionId, OpenTransaction, Origin
from proxy.session.info import OperationSessionInfo  # noqa: TC001 - a field's, see test_compiled
from proxy.session.places import HELD
from proxy.session.sharded import Sharded
from proxy.session.suspicion import Suspicion  # noqa: TC001 - a field's, see test_compiled
from proxy.session.tracker import Tracker
from proxy.session.transactions import State, Step

#: Suspicions of one operation that are kept; many threads may use its session.
MOST_SUSPICIONS: Final = 8


class Ending(Enum):
    """How a session's life was last cut short; it stays usable after each."""

    ENDED = "ended"
    KILLED = "killed"


class Owner:
    """The sessions of one uid that one user made; the name is ``""`` where nobody did.

    With authorization off all sessions have the same uid, but not the same name.
    """

    __slots__ = (
        "active",
        "counted_transactions",
        "killed_at",
        "killed_epoch",
        "name",
        "open_transactions",
        "places",
        "sessions",
        "uid",
    )

    def __init__(self, uid: bytes, name: str) -> None:
        self.uid = uid
        self.name = name
        self.sessions: Sharded[Session] = Sharded()
        #: How many of them have a place (:mod:`proxy.session.places`).
        self.places = 0
        #: Those with operations, cursors or an open transaction: all that a kill can hit.
        self.active: dict[Session, None] = {}
        self.open_transactions = 0
        #: Those, and what may be open or is about to be: what limits count.
        self.counted_transactions = 0
        #: The last kill of all of them at once: its number and time.
        self.killed_epoch = 0
        self.killed_at = float("-inf")


class OriginGroup:
    """One origin that many sessions share, with their number."""

    __slots__ = ("origin", "sessions")

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.sessions = 0


class InFlight(NamedTuple):
    """What names an operation to other connections: the client connection that it came on, by
    its number, and the request's ``requestID`` there."""

    connection: int
    request_id: int


class Operation:
    """One request in flight under a session, from its forwarding to its last reply.

    ``connection`` is the caller's number for the client connection, ``upstream`` the address
    behind it. ``vivified`` says that the session is known of nothing but this request
    and others that are in flight: upstream may take none of them. ``cursor`` is the one that a
    getMore reads from, 0 for other commands; ``attempt`` is what the request asks of the session's
    transaction, None for nothing. ``unparsed`` is the error's code with which upstream says that
    it could not read the session fields, 0 where it should be able to. ``suspicions`` are of how
    it is used beside others, where there are any. ``told`` is set of what another process has in
    flight.
    """

    __slots__ = (
        "attempt",
        "command",
        "connection",
        "cursor",
        "request_id",
        "session",
        "started",
        "suspicions",
        "told",
        "unparsed",
        "upstream",
        "vivified",
    )

    def __init__(
        self,
        session: Session,
        connection: int,
        request_id: int,
        command: str,
        upstream: str,
        started: float,
        vivified: bool,
    ) -> None:
        self.session = session
        self.connection = connection
        self.request_id = request_id
        self.command = command
        self.upstream = upstream
        self.started = started
        self.vivified = vivified
        self.cursor = 0
        self.unparsed = 0
        self.attempt: Attempt | None = None
        self.suspicions: list[Suspicion] | None = None
        self.told: Use | None = None

    def suspect(self, suspicion: Suspicion) -> None:
        """Whether it holds shows when the connection goes on after this operation."""
        if self.suspicions is None:
            self.suspicions = []
        if len(self.suspicions) < MOST_SUSPICIONS:
            self.suspicions.append(suspicion)

    @property
    def use(self) -> Use:
        """What it does with its session."""
        if self.told is not None:
            return self.told
        if self.attempt is None:
            return Use(self.command)
        info = self.attempt.info
        return Use(self.command, info.txn_number, info.autocommit is False, info.child)

    @property
    def place(self) -> InFlight:
        return InFlight(self.connection, self.request_id)


@dataclass(slots=True)
class Attempt:
    """What a request asks of its session's transaction, to be judged by its reply.

    ``statements`` are those of a retryable write, None for other commands. ``api`` are its API
    parameters (raw elements), where the request may begin a transaction.
    """

    step: Step
    info: OperationSessionInfo
    statements: list[range] | None
    api: bytes = b""


class CursorId(NamedTuple):
    """A cursor's key: ids are unique only within one upstream process."""

    upstream: str
    id: int


class Activity:
    """What only a busy session has: operations in flight, open cursors with namespaces, and child
    sessions that have a transaction open, or may have."""

    __slots__ = ("children", "cursors", "operations")

    def __init__(self) -> None:
        self.operations: dict[Operation, None] = {}
        self.cursors: dict[CursorId, str] = {}
        self.children: dict[bytes, Child] = {}

    def __bool__(self) -> bool:
        return bool(self.operations or self.cursors or self.children)


class Session:
    """One logical session. Only the store changes it; times are in seconds."""

    #: What a child session has, and no other.
    child: ClassVar[bytes] = b""

    __slots__ = (
        "activity",
        "ended",
        "ended_at",
        "epoch",
        "first_use",
        "group",
        "id",
        "last_use",
        "owner",
        "place",
        "transaction",
    )

    def __init__(
        self, session_id: bytes, owner: Owner, group: OriginGroup, now: float, epoch: int
    ) -> None:
        self.id = session_id
        self.owner = owner
        self.group = group
        self.first_use = now
        self.last_use = now
        self.epoch = epoch
        self.transaction: Tracker | None = None
        self.activity: Activity | None = None
        self.ended: Ending | None = None
        self.ended_at = 0.0
        #: Why it counts for budgets, 0 if it does not.
        self.place = HELD

    @property
    def key(self) -> LogicalSessionId:
        return LogicalSessionId(self.id, self.owner.uid)

    @property
    def origin(self) -> Origin:
        return self.group.origin

    @property
    def state(self) -> State:
        return self.transaction.state if self.transaction is not None else State.NONE

    @property
    def txn_number(self) -> int:
        """The highest txnNumber seen accepted; -1 before the first."""
        return self.transaction.number if self.transaction is not None else -1

    @property
    def with_children(self) -> tuple[Session | Child, ...]:
        """It and all below it that has a transaction of its own."""
        return (self, *self.children)

    @property
    def children(self) -> Collection[Child]:
        """Its child sessions that have a transaction open, or may have."""
        return () if self.activity is None else self.activity.children.values()

    @property
    def unconfirmed(self) -> bool:
        """Whether all that has used it is still in flight, so that there may be no such session."""
        activity = self.activity
        return activity is not None and any(one.vivified for one in activity.operations)

    def confirm(self) -> None:
        """Upstream has it, whatever becomes of those in flight that were the first."""
        if self.activity is not None:
            for one in self.activity.operations:
                one.vivified = False


class Child:
    """A child session, which is its ``parent`` but for its ``transaction``.

    ``child`` are the fields that tell it apart (:mod:`proxy.session.children`). Where transactions
    are listed it stands beside sessions.
    """

    #: It has none itself.
    children: ClassVar[tuple[Child, ...]] = ()

    __slots__ = ("child", "parent", "transaction")

    def __init__(self, parent: Session, child: bytes) -> None:
        self.parent = parent
        self.child = child
        self.transaction = Tracker()

    @property
    def id(self) -> bytes:
        return self.parent.id

    @property
    def key(self) -> LogicalSessionId:
        return self.parent.key

    @property
    def owner(self) -> Owner:
        return self.parent.owner

    @property
    def group(self) -> OriginGroup:
        return self.parent.group

    @property
    def origin(self) -> Origin:
        return self.parent.group.origin

    @property
    def place(self) -> int:
        return self.parent.place

    @property
    def first_use(self) -> float:
        return self.parent.first_use

    @property
    def last_use(self) -> float:
        return self.parent.last_use

    @property
    def state(self) -> State:
        return self.transaction.state

    @property
    def txn_number(self) -> int:
        return self.transaction.number

    @property
    def activity(self) -> Activity:
        """Its own operations in flight; cursors are its parent's."""
        own = Activity()
        if self.parent.activity is not None:
            for operation in self.parent.activity.operations:
                attempt = operation.attempt
                if attempt is not None and attempt.info.child == self.child:
                    own.operations[operation] = None
        return own


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions a command means: everybody's, those of some uids, some exact keys."""

    everything: bool = False
    uids: frozenset[bytes] = frozenset()
    keys: Set[LogicalSessionId] = frozenset()

    def __bool__(self) -> bool:
        return self.everything or bool(self.uids) or bool(self.keys)


class Hit(NamedTuple):
    """How many sessions a kill would hit, and how much they have open."""

    sessions: int
    operations: int
    cursors: int
    transactions: int


class Open(NamedTuple):
    """What sessions have open at one upstream process.

    ``cursors`` are ids by owner's digest and ``db.collection``.
    """

    cursors: dict[tuple[bytes, str], list[int]]
    transactions: list[OpenTransaction]
    operations: list[InFlight]
