"""Logical sessions as a 4.2 server keeps them: parsing of ``lsid`` and the session cache.

The order of checks and every text is what the recorded server answered.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

from bson import Int64

from proxy.embedded.failures import failure, type_mismatch
from proxy.embedded.printing import subtype, subtype_name
from proxy.embedded.transactions import Transaction

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
    """A session's identity: the UUID's 16 bytes and the owner's SHA-256."""

    id: bytes
    uid: bytes

    def __str__(self) -> str:
        return f"{UUID(bytes=self.id)} - {base64.b64encode(self.uid).decode()}"


class ClientLsid(NamedTuple):
    """An ``lsid`` as sent: ``uid`` is None where the client left it out."""

    id: bytes
    uid: bytes | None


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


class SessionStore:
    """Every session that was used, by key."""

    def __init__(self) -> None:
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
                raise failure(261, "cannot add session into the cache")
            session = self._sessions[key] = Session(key, now, user)
        session.last_use = now
        session.local = True
        return session

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


def parse_uuid(path: str, value: object) -> bytes:
    """A session id's 16 bytes.

    Raises:
        CommandError: 14 or 207.
    """
    if not isinstance(value, bytes):
        raise type_mismatch(path, value, "binData")
    if subtype(value) != 4:
        raise failure(
            14,
            f"BSON field '{path}' is the wrong bindData type '{subtype_name(value)}', "
            "expected type 'UUID'",
        )
    if len(value) != 16:
        raise failure(207, "uuid must be a 16-byte binary field with UUID (4) subtype")
    return bytes(value)


def parse_uid(path: str, value: object) -> bytes:
    """An owner digest's 32 bytes.

    Raises:
        CommandError: 14 or 12.
    """
    if not isinstance(value, bytes):
        raise type_mismatch(path, value, "binData")
    if subtype(value) != 0:
        raise failure(
            14,
            f"BSON field '{path}' is the wrong bindData type '{subtype_name(value)}', "
            "expected type 'general'",
        )
    if len(value) != 32:
        raise failure(12, f"Unsupported SHA256Block hash length: {len(value)}")
    return bytes(value)


def unknown_field(path: str, name: str) -> Exception:
    """40415 for a field of the document at ``path``."""
    return failure(40415, f"BSON field '{path}.{name}' is an unknown field.")


def missing_field(path: str, name: str) -> Exception:
    """40414 for a field of the document at ``path``."""
    return failure(40414, f"BSON field '{path}.{name}' is missing but a required field")


def parse_lsid(path: str, value: Mapping[str, Any]) -> ClientLsid:
    """An lsid's fields, strictly. ``path`` is where it stands: ``KillSessionsCmd.killSessions``."""
    found: bytes | None = None
    uid: bytes | None = None
    for name, item in value.items():
        if name == "id":
            if item is not None:
                found = parse_uuid(f"{path}.id", item)
        elif name == "uid":
            if item is not None:
                uid = parse_uid(f"{path}.uid", item)
        else:
            raise unknown_field(path, name)
    if found is None:
        raise missing_field(path, "id")
    return ClientLsid(found, uid)


def parse_array(root: str, name: str, value: object) -> list[Mapping[str, Any]]:
    """A command's array of documents; nulls are skipped and a document passes for an array.

    ``name`` is the array's own path below ``root`` (``killSessions``, ``users``).
    """
    if isinstance(value, Mapping):
        for index, key in enumerate(value):
            if not key.isdecimal():
                raise failure(
                    40422,
                    f"BSON array field '{root}.{name}' has an invalid value '{key}' "
                    "for an array field name.",
                )
            if key != str(index):
                raise failure(
                    40423,
                    f"BSON array field '{root}.{name}' has a non-sequential value '{key}' "
                    f"for an array field name, expected value '{index}'.",
                )
        value = list(value.values())
    elif not isinstance(value, list):
        raise failure(10065, f"invalid parameter: expected an object ({name.rpartition('.')[2]})")
    for index, item in enumerate(value):
        if item is not None and not isinstance(item, Mapping):
            raise type_mismatch(f"{root}.{name}.{index}", item, "object")
    return [item for item in value if item is not None]


class SessionInfo(NamedTuple):
    """The generic session fields of one command, parsed but not yet judged."""

    lsid: ClientLsid | None = None
    txn_number: int | None = None
    autocommit: bool | None = None
    start_transaction: bool | None = None


_ROOT: Final = "OperationSessionInfo"


def parse_session_info(body: Mapping[str, Any]) -> SessionInfo:
    """The types of ``lsid``, ``txnNumber``, ``autocommit`` and ``startTransaction``.

    Raises:
        CommandError: 14, 40414, 40415, 207 or 12, for the first that is wrong.
    """
    found: dict[str, Any] = {}
    for name, value in body.items():
        if value is None:
            continue
        if name == "lsid":
            if not isinstance(value, Mapping):
                raise type_mismatch(f"{_ROOT}.lsid", value, "object")
            found[name] = parse_lsid(f"{_ROOT}.lsid", value)
        elif name == "txnNumber":
            if not isinstance(value, Int64):
                raise type_mismatch(f"{_ROOT}.txnNumber", value, "long")
            found[name] = int(value)
        elif name in ("autocommit", "startTransaction"):
            if not isinstance(value, bool):
                raise type_mismatch(f"{_ROOT}.{name}", value, "bool")
            found[name] = value
    return SessionInfo(
        found.get("lsid"),
        found.get("txnNumber"),
        found.get("autocommit"),
        found.get("startTransaction"),
    )


def judge_transaction_fields(info: SessionInfo, *, replica_set: bool) -> None:
    """What ``txnNumber``, ``autocommit`` and ``startTransaction`` require of each other.

    Raises:
        CommandError: 72; 20 on a standalone.
    """
    if info.txn_number is not None:
        if info.lsid is None:
            raise failure(72, "Transaction number requires a session ID to also be specified")
        if not replica_set:
            raise failure(
                20, "Transaction numbers are only allowed on a replica set member or mongos"
            )
        if info.txn_number < 0:
            raise failure(72, "Transaction number cannot be negative")
    elif info.autocommit is not None:
        raise failure(72, "'autocommit' field requires a transaction number to also be specified")
    if info.autocommit:
        raise failure(72, "Specifying autocommit=true is not allowed.")
    if info.start_transaction is not None:
        if info.autocommit is None:
            raise failure(
                72, "'startTransaction' field requires 'autocommit' field to also be specified"
            )
        if not info.start_transaction:
            raise failure(72, "Specifying startTransaction=false is not allowed.")
