"""txnNumber of one session: retryable writes and multi-document transactions.

A transaction works on its own copy of the collections that it touches. Its writes go to the
shared collections at commit, so nobody else sees them before and abort has nothing to undo.
Documents that it wrote are its own until it ends: a second transaction that writes one of them
fails with a write conflict, as on the real server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import bson

from proxy.embedded.engine import Document, Engine, Namespace
from proxy.embedded.failures import TRANSIENT, failure
from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.embedded.versions import Version

#: ``transactionLifetimeLimitSeconds``.
LIFETIME: Final = 60.0


class State(Enum):
    """What the session's active txnNumber stands for."""

    NONE = "none"
    RETRYABLE = "retryable write"
    OPEN = "in progress"
    COMMITTED = "committed"
    ABORTED = "aborted"


def id_key(value: object) -> bytes:
    """A hashable form of an ``_id`` of whatever type."""
    return bson.encode({"": value})


class Locks:
    """Which open transaction wrote which document."""

    def __init__(self) -> None:
        self._holders: dict[tuple[Namespace, bytes], Transaction] = {}
        self._held: dict[Transaction, set[tuple[Namespace, bytes]]] = {}

    def holder(self, ns: Namespace, key: object) -> Transaction | None:
        """The open transaction that wrote this document."""
        return self._holders.get((ns, id_key(key)))

    def take(self, ns: Namespace, key: object, transaction: Transaction) -> None:
        """Note that ``transaction`` wrote this document."""
        at = (ns, id_key(key))
        self._holders[at] = transaction
        self._held.setdefault(transaction, set()).add(at)

    def release(self, transaction: Transaction) -> None:
        """Forget everything that ``transaction`` wrote."""
        for at in self._held.pop(transaction, ()):
            del self._holders[at]

    def transactions(self) -> list[Transaction]:
        """Those that hold anything."""
        return list(self._held)

    def __bool__(self) -> bool:
        return bool(self._holders)


@dataclass(slots=True, eq=False)
class Transaction:
    """A session's active txnNumber (-1 before the first) and what became of it."""

    number: int = -1
    state: State = State.NONE
    started: float = 0.0
    #: The API parameters of a transaction's first command.
    api: Document = field(default_factory=dict)
    #: Replies to executed statements of a retryable write, by stmtId.
    executed: dict[int, Document] = field(default_factory=dict)
    _engine: Engine | None = None
    _copied: dict[Namespace, dict[bytes, Document]] = field(default_factory=dict)
    _written: dict[tuple[Namespace, bytes], Any] = field(default_factory=dict)

    def begin_retryable(self, number: int, label: str, locks: Locks, version: Version) -> None:
        """A write with a txnNumber and without autocommit. ``label`` is the session's text form.

        Raises:
            CommandError: 225 where a newer number has started, 217 where it was a transaction.
        """
        if number < self.number:
            raise failure(225, self._too_old(number, label, version, retryable=True))
        if number > self.number:
            self.abort(locks)
            self._reset(number, State.RETRYABLE)
        elif self.state is not State.RETRYABLE:
            raise failure(
                217, "Cannot retry a retryable write that has been converted into a transaction"
            )

    def begin(self, number: int, label: str, now: float, locks: Locks, version: Version) -> None:
        """The first command of a transaction."""
        if number < self.number:
            raise failure(225, self._too_old(number, label, version))
        if number == self.number:
            raise failure(
                117,
                "Only servers in a sharded cluster can start a new transaction at the active "
                "transaction number",
            )
        self.abort(locks)
        self._reset(number, State.OPEN)
        self.started = now
        self._engine = Engine()

    def resume(self, number: int, label: str, *, commit: bool, version: Version) -> None:
        """A later command of a transaction; ``commit`` for commitTransaction itself.

        Raises:
            CommandError: 251 (labelled) where it is unknown or aborted, 256 where committed.
        """
        if number < self.number:
            raise failure(225, self._too_old(number, label, version))
        if number > self.number or self.state in (State.NONE, State.RETRYABLE):
            raise failure(
                251,
                f"Given transaction number {number} does not match any in-progress transactions. "
                f"The active transaction number is {self.number}",
                TRANSIENT,
            )
        if self.state is State.ABORTED:
            raise failure(251, f"Transaction {number} has been aborted.", TRANSIENT)
        if self.state is State.COMMITTED and not commit:
            raise failure(256, f"Transaction {number} has been committed.")

    def expire(self, now: float, locks: Locks, lifetime: float = LIFETIME) -> None:
        """Abort the transaction if it is open for longer than ``lifetime`` seconds."""
        if self.state is State.OPEN and now - self.started > lifetime:
            self.abort(locks)

    def engine(self, base: Engine, ns: Namespace) -> Engine:
        """The transaction's own view, with ``ns`` in it as it was when first touched."""
        assert self._engine is not None
        if ns not in self._copied:
            self._engine.copy(base, ns)
            self._copied[ns] = {id_key(found["_id"]): found for found in base.find(ns)}
        return self._engine

    def claim(self, base: Engine, locks: Locks, ns: Namespace, key: object) -> None:
        """Make the document with ``_id`` ``key`` this transaction's to write.

        Raises:
            CommandError: 112 where another open transaction wrote it, or where it has changed
                since this transaction first looked at its collection.
        """
        holder = locks.holder(ns, key)
        seen = self._copied[ns].get(id_key(key))
        if holder is not self and (holder is not None or base.get(ns, key) != seen):
            raise failure(112, "WriteConflict", TRANSIENT)
        locks.take(ns, key, self)
        self._written[ns, id_key(key)] = key

    def commit(self, base: Engine, locks: Locks) -> bool:
        """Publish the writes; False where there was nothing to write.

        Raises:
            CommandError: 112 where a unique index of ``base`` does not take them; nothing is
                published then.
        """
        if self.state is not State.OPEN or self._engine is None:
            return False
        undo: list[tuple[Namespace, Any, Document | None]] = []
        try:
            for (ns, _), key in self._written.items():
                undo.append((ns, key, base.get(ns, key)))
                base.put(ns, key, self._engine.get(ns, key))
        except CommandError as error:
            for ns, key, document in reversed(undo):
                base.put(ns, key, document)
            self.abort(locks)
            raise failure(112, "WriteConflict", TRANSIENT) from error
        self._end(State.COMMITTED, locks)
        return bool(undo)

    def abort(self, locks: Locks) -> None:
        """Drop an open transaction; nothing where none is open."""
        if self.state is State.OPEN:
            self._end(State.ABORTED, locks)

    def _too_old(
        self, number: int, label: str, version: Version, *, retryable: bool = False
    ) -> str:
        """What 225 says of a ``number`` that a newer one has overtaken."""
        if retryable and version.says_what_is_newer:
            newer = "retryable write" if self.state is State.RETRYABLE else "transaction"
            return (
                f"Retryable write with txnNumber {number} is prohibited on session {label} because "
                f"a newer {newer} with txnNumber {self.number} has already started on this session."
            )
        if version.child_sessions:
            asked, active = (
                f"{{ txnNumber: {n}, txnRetryCounter: 0 }}" for n in (number, self.number)
            )
            return (
                f"Cannot start transaction with {asked} on session {label} because a newer "
                f"transaction with txnNumberAndRetryCounter {active} has already started on this "
                "session."
            )
        return (
            f"Cannot start transaction {number} on session {label} because a newer transaction "
            f"{self.number} has already started."
        )

    def _reset(self, number: int, state: State) -> None:
        self.number = number
        self.state = state
        self.executed = {}

    def _end(self, state: State, locks: Locks) -> None:
        locks.release(self)
        self.state = state
        self._engine = None
        self._copied = {}
        self._written = {}
