"""Who sends a request, as far as sessions are concerned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.session import refusals
from proxy.session.identity import NO_OWNER, Identity, user_digest

if TYPE_CHECKING:
    from proxy.errors import CommandError

#: ``user@db`` of an owner must be shorter than this, in bytes (manual and server agree).
MAX_USER_NAME: Final = 10_000

#: maxWireVersion from which on (6.0) servers have sessions of their own below a client's.
_CHILDREN_FROM: Final = 17

_ANY_ACTION: Final = "anyAction"


def owner_name(user: str, database: str) -> str:
    """``user@db``; empty where both are, as the server prints an owner-less session."""
    return f"{user}@{database}" if user or database else ""


@dataclass(frozen=True, slots=True)
class Caller:
    """One connection's identity with what follows from it; make one whenever it changes.

    ``authorization`` is whether upstream enforces it, None where nobody could find out.
    ``has_transactions`` is whether upstream is a replica set member or mongos, None where
    unknown. ``digest`` is the uid of the caller's own sessions, None where there is none;
    then ``digest_error`` is what the server says to whoever needs it. ``users`` are the digests
    of everybody authenticated. ``name`` owns the sessions that the caller creates.
    ``wire_version`` is upstream's maxWireVersion, None where unknown.
    """

    identity: Identity
    authorization: bool | None
    has_transactions: bool | None
    digest: bytes | None
    digest_error: CommandError | None
    users: frozenset[bytes]
    name: str
    wire_version: int | None = None

    @classmethod
    def of(
        cls,
        identity: Identity,
        authorization: bool | None,
        has_transactions: bool | None = None,
        wire_version: int | None = None,
    ) -> Caller:
        """The caller behind ``identity``.

        With authorization off every digest is that of nobody, even for who has authenticated
        (reference 2.4); the name is kept, so that operators see who made a session.
        """
        users = frozenset(user_digest(user, database) for user, database in identity.users)
        digest: bytes | None = None
        error: CommandError | None = None
        name = identity.name
        if authorization is False or (authorization is None and not identity.users):
            digest = NO_OWNER
        elif not identity.users:
            error = refusals.NO_USERS
        elif len(identity.users) > 1:
            error = refusals.TOO_MANY_USERS
        elif len(name.encode("utf-8", "surrogateescape")) >= MAX_USER_NAME:
            error = refusals.NAME_TOO_LONG
        else:
            (digest,) = users
        return cls(
            identity,
            authorization,
            has_transactions,
            digest,
            error,
            users,
            name,
            wire_version,
        )

    def faces(self, wire_version: int) -> bool:
        """Whether upstream is known to be of this maxWireVersion or a later one."""
        return self.wire_version is not None and self.wire_version >= wire_version

    @property
    def anonymous(self) -> bool:
        """Nobody is authenticated although upstream demands it."""
        return self.authorization is True and not self.identity.users

    @property
    def is_server(self) -> bool:
        """A mongos or a member calls, which may use fields that no client may."""
        return "internal" in self.identity.cluster_actions or self.identity.users == (
            ("__system", "local"),
        )

    @property
    def knows_children(self) -> bool:
        """Whether upstream takes lsids of child sessions; where unknown, if a server sends them."""
        if self.wire_version is None:
            return self.is_server
        return self.wire_version >= _CHILDREN_FROM

    @property
    def may_use_children(self) -> bool:
        """Whether upstream takes them from this caller, as far as anybody knows."""
        return self.knows_children and (self.may("internal") or self.is_unasked)

    @property
    def is_unasked(self) -> bool:
        """Nobody is authenticated, and nobody knows whether upstream demands it."""
        return self.authorization is None and not self.identity.users

    def may(self, action: str) -> bool:
        """Whether the caller has ``action`` on the cluster resource."""
        granted = self.identity.cluster_actions
        # ``anyAction`` is how servers write what __system may do.
        return self.authorization is False or action in granted or _ANY_ACTION in granted

    def own_digest(self) -> bytes:
        """The uid of the caller's own sessions.

        Raises:
            CommandError: nobody or several are authenticated, or the name is too long.
        """
        if self.digest is None:
            raise (self.digest_error or refusals.NO_USERS).again()
        return self.digest

    def session_uid(self, uid: bytes | None, *actions: str) -> bytes:
        """The uid that an lsid with this ``uid`` (None: not given) stands for.

        ``actions`` allow somebody else's besides ``impersonate`` (reference 1.1).

        Raises:
            CommandError: as :meth:`own_digest`, or 13 for a uid the caller may not use.
        """
        if uid is None:
            return self.own_digest()
        if self.is_unasked:
            return uid
        if self.may("impersonate") or any(self.may(action) for action in actions):
            return uid
        if self.own_digest() != uid:
            raise refusals.FOREIGN_DIGEST.again()
        return uid
