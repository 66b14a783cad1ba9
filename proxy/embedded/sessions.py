"""Logical sessions as a server keeps them: their identity, and the session cache."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from proxy.embedded.failures import failure
from proxy.embedded.transactions import Locks, State, Transaction

if TYPE_CHECKING:
    from proxy.embedded.versions import Version

#: ``logicalSessionTimeoutMinutes`` of hello and ``timeoutMinutes`` of startSession.
TIMEOUT_MINUTES: Final = 30
MAX_SESSIONS: Final = 1_000_000
#: ``logicalSessionRefreshMillis``, in seconds.
FLUSH_SECONDS: Final = 300.0


#: The uid of sessions that nobody owns.
NO_OWNER: Final = hashlib.sha256(b"").digest()


def user_digest(user: str, database: str) -> bytes:
    """The uid of this user's sessions: SHA-256 of ``user@db``."""
    return hashlib.sha256(f"{user}@{database}".encode()).digest()


class SessionKey(NamedTuple):
    """A session's identity: the UUID's 16 bytes and the owner's SHA-256.

    A child session (6.0) has a UUID of its own besides, and the txnNumber of the retryable write
    that it works for, if any.
    """

    id: bytes
    uid: bytes
    txn_number: int | None = None
    txn_uuid: bytes | None = None

    @property
    def parent(self) -> SessionKey:
        """The session that a child belongs to; any other is its own."""
        return self if self.txn_uuid is None else SessionKey(self.id, self.uid)

    def text(self, version: Version) -> str:
        """As errors show it."""
        shown = f"{UUID(bytes=self.id)} - {base64.b64encode(self.uid).decode()}"
        if not version.child_sessions:
            return shown
        number = "" if self.txn_number is None else str(self.txn_number)
        uuid = "" if self.txn_uuid is None else str(UUID(bytes=self.txn_uuid))
        return f"{shown} - {number} - {uuid}"


class ClientLsid(NamedTuple):
    """An ``lsid`` as sent: ``uid`` is None where the client left it out."""

    id: bytes
    uid: bytes | None
    txn_number: int | None = None
    txn_uuid: bytes | None = None


@dataclass(slots=True)
class Session:
    """One record of the session cache; ``last_use`` is Unix time in seconds.

    ``local`` sessions were used since the last flush; ``stored`` ones stand in
    ``config.system.sessions``, with ``stored_use`` as their last use.
    """

    key: SessionKey
    last_use: float
    user: str | None
    local: bool = True
    stored: bool = False
    stored_use: float = 0.0
    transaction: Transaction = field(default_factory=Transaction)
    #: The state of child sessions, which have transactions of their own.
    children: dict[SessionKey, Transaction] = field(default_factory=dict)

    def state(self, key: SessionKey) -> Transaction:
        """The transaction state of the session itself, or of the child that ``key`` names."""
        if key == self.key:
            return self.transaction
        return self.children.setdefault(key, Transaction())

    def open_transactions(self) -> int:
        """How many of the session and its children are in progress."""
        all_of_it = (self.transaction, *self.children.values())
        return sum(one.state is State.OPEN for one in all_of_it)

    def abort(self, locks: Locks) -> None:
        """Abort what is open in the session and in its children."""
        for transaction in (self.transaction, *self.children.values()):
            transaction.abort(locks)


class SessionStore:
    """Every session that was used, by key; children stand in their parents."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._sessions: dict[SessionKey, Session] = {}
        self._ended: set[SessionKey] = set()
        self._flushed = float("-inf")

    def vivify(self, key: SessionKey, user: str | None, now: float) -> Session:
        """The session, created by this use if need be."""
        session = self._sessions.get(key)
        if session is None:
            if len(self._sessions) >= MAX_SESSIONS:
                self.expire(now)
            if len(self._sessions) >= MAX_SESSIONS:
                raise failure(261, self._full(key))
            session = self._sessions[key] = Session(key, now, user)
        session.last_use = now
        session.local = True
        return session

    def _full(self, key: SessionKey) -> str:
        if not self._version.says_too_many_sessions:
            return "cannot add session into the cache"
        which = f" ID {key.text(self._version)}" if self._version.child_sessions else ""
        return (
            f"Unable to add session{which} into the cache because the number of active sessions is "
            "too high"
        )

    def get(self, key: SessionKey) -> Session | None:
        """The session, without counting as use."""
        return self._sessions.get(key)

    def end(self, keys: Iterable[SessionKey]) -> None:
        """Have sessions ended by the next flush, whatever they are used for until then."""
        self._ended.update(keys)

    def flush_is_due(self, now: float) -> bool:
        """Whether the last flush is five minutes ago."""
        return now - self._flushed >= FLUSH_SECONDS

    def flush(self, now: float) -> set[SessionKey]:
        """Store what was used, end what was to end; the sessions that lose their cursors.

        An ended session's txnNumber is remembered until the session expires.
        """
        self._flushed = now
        gone = self.expire(now) | self._ended
        for session in self._sessions.values():
            if session.key in self._ended:
                session.stored = False
            elif session.local:
                session.stored, session.stored_use = True, now
            session.local = False
        self._ended.clear()
        return gone

    def expire(self, now: float) -> set[SessionKey]:
        """Forget, and return, the sessions whose last use is longer ago than the timeout."""
        limit = now - TIMEOUT_MINUTES * 60
        old = {key for key, session in self._sessions.items() if session.last_use < limit}
        for key in old:
            del self._sessions[key]
        return old

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def matching(self, wanted: Callable[[SessionKey], bool]) -> list[Session]:
        """The sessions whose key is ``wanted``."""
        return [session for session in self._sessions.values() if wanted(session.key)]
