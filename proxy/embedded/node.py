"""The embedded server as a whole: its data, users, sessions, cursors and cluster time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from bson import Int64, ObjectId, Timestamp

from proxy.embedded.cursors import CursorStore
from proxy.embedded.engine import Document, Engine, Namespace
from proxy.embedded.failpoints import FailPoints
from proxy.embedded.sessions import SessionKey, SessionStore
from proxy.embedded.transactions import LIFETIME, Locks
from proxy.embedded.users import EmbeddedRole, EmbeddedUser, UserStore
from proxy.embedded.versions import DEFAULT, VERSIONS, Version

if TYPE_CHECKING:
    from proxy.embedded.client import Client
    from proxy.errors import CommandError

TERM: Final = Int64(1)
ELECTION_ID: Final = ObjectId("7fffffff0000000000000001")


@dataclass(slots=True, eq=False)
class Operation:
    """One command that is being carried out, as ``currentOp`` and the kill commands see it."""

    id: int
    name: str
    ns: str
    client: str
    app_name: str
    session: SessionKey | None
    users: tuple[str, ...]
    body: Document
    started: float
    #: What the command is answered with once it was interrupted.
    killed: CommandError | None = None


def milliseconds(now: float) -> datetime:
    """Unix seconds as a BSON date."""
    return datetime.fromtimestamp(round(now, 3), UTC).replace(tzinfo=None)


@dataclass
class Node:
    """State shared by all connections. ``wake`` is called when a blocked command may go on."""

    authorization: bool
    users: UserStore
    set_name: str | None
    version: Version
    address: str
    started: float
    engine: Engine = field(default_factory=Engine)
    sessions: SessionStore = field(init=False)
    cursors: CursorStore = field(default_factory=CursorStore)
    locks: Locks = field(default_factory=Locks)
    fail_points: FailPoints = field(default_factory=FailPoints)
    operations: dict[int, Operation] = field(default_factory=dict)
    options: dict[Namespace, Document] = field(default_factory=dict)
    uuids: dict[Namespace, Any] = field(default_factory=dict)
    parameters: Document = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    clients: dict[int, Client] = field(default_factory=dict)
    process_id: ObjectId = field(default_factory=ObjectId)
    topology_counter: int = 6
    #: Of this many requests one is refused unread; 0 for none. A test's hook (8.2 and later).
    reject_every: int = 0
    #: What a mongos says of itself on its load balancer port; None elsewhere.
    service_id: ObjectId | None = None
    wake: Callable[[], None] = lambda: None
    written: Timestamp = field(init=False)
    written_at: float = field(init=False)
    _ids: Iterator[int] = field(default_factory=lambda: count(1))
    _admitted: Iterator[int] = field(default_factory=lambda: count(1))
    _connection_ids: Iterator[int] = field(default_factory=lambda: count(1))
    _operation_ids: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self.written = Timestamp(int(self.started), 1)
        self.written_at = self.started
        self.sessions = SessionStore(self.version)
        if not self.replica_set:
            self.topology_counter = 0

    def next_request_id(self) -> int:
        """The next message's requestID: one counter for the whole process."""
        return next(self._ids) & 0x7FFFFFFF

    def next_connection_id(self) -> int:
        """``connectionId`` of the next connection."""
        return next(self._connection_ids)

    def next_operation_id(self) -> int:
        """``opid`` of the next command."""
        return next(self._operation_ids)

    def expire_logins(self, user: str) -> int:
        """Let the logins of ``user`` (``name@db``) expire, as tokens do; how many there were.

        Raises:
            ValueError: the version knows no such thing.
        """
        if not self.version.logins_expire:
            raise ValueError(f"logins do not expire in {self.version.name}")
        found = 0
        for client in self.clients.values():
            for known in client.users:
                if known.full_name == user:
                    client.expired, client.users = known, []
                    found += 1
                    break
        return found

    def overloaded(self, client: Client) -> bool:
        """Whether the next request of ``client`` is to be refused unread (8.2 and later)."""
        exempt = self.authorization and not client.users
        if not self.reject_every or exempt or not self.version.rate_limiter:
            return False
        return next(self._admitted) % self.reject_every == 0

    @property
    def replica_set(self) -> bool:
        """Whether the server is a member of one."""
        return self.set_name is not None

    def advance(self, now: float, writes: int = 1) -> None:
        """Let the oplog's time move on by ``writes`` entries."""
        seconds = max(int(now), self.written.time)
        first = self.written.inc if seconds == self.written.time else 0
        self.written = Timestamp(seconds, first + writes)
        self.written_at = now
        if self.cursors.tailing:
            self.wake()

    def tick(self, now: float) -> None:
        """Do what time has made due: old transactions abort, the session cache is flushed."""
        for transaction in self.locks.transactions():
            transaction.expire(now, self.locks, self.transaction_lifetime)
        if self.sessions.flush_is_due(now):
            self.flush_sessions(now)

    def flush_sessions(self, now: float) -> None:
        """Write the session cache to its collection; ended sessions lose their cursors."""
        gone = self.sessions.flush(now)
        self.cursors.close_where(
            lambda cursor: cursor.session is not None and cursor.session.parent in gone
        )

    @property
    def transaction_lifetime(self) -> float:
        """Seconds that a transaction may stay open."""
        return float(self.parameters.get("transactionLifetimeLimitSeconds", LIFETIME))

    def op_time(self) -> Document:
        """``opTime`` of the last write."""
        return {"ts": self.written, "t": TERM}

    def times(self) -> Document:
        """``operationTime`` and ``$clusterTime`` for a reply; nothing on a standalone."""
        if not self.replica_set:
            return {}
        signature = {"hash": b"\0" * 20, "keyId": Int64(0)}
        return {
            "$clusterTime": {"clusterTime": self.written, "signature": signature},
            "operationTime": self.written,
        }

    def topology_version(self) -> Document:
        """``topologyVersion`` as it is now."""
        return {"processId": self.process_id, "counter": Int64(self.topology_counter)}


def make_node(
    *,
    authorization: bool,
    users: Iterable[EmbeddedUser] = (),
    roles: Iterable[EmbeddedRole] = (),
    set_name: str | None,
    version: str = DEFAULT,
    address: str,
    now: float,
    balanced: bool = False,
) -> Node:
    """A server as it starts, with its first users and roles; ``now`` is Unix time.

    ``version`` is a key of :data:`proxy.embedded.versions.VERSIONS`, ``balanced`` whether all
    clients come through a load balancer.
    """
    store = UserStore(users, roles)
    service = ObjectId() if balanced else None
    known = VERSIONS[version]
    return Node(authorization, store, set_name, known, address, now, service_id=service)
