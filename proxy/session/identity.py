"""Who is asking, in upstream's own words (the reply to ``connectionStatus``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import bson
from bson.errors import BSONError

#: SHA-256 of the empty string: the owner's digest where nobody owns a session.
NO_OWNER = hashlib.sha256(b"").digest()

#: In place of a digest: whoever may act for everybody.
EVERYBODY = b""


def user_digest(user: str, database: str) -> bytes:
    """A session owner's uid: SHA-256 over the bytes of ``user@db`` as stored, 32 bytes."""
    if not user and not database:
        return NO_OWNER
    return hashlib.sha256(f"{user}@{database}".encode("utf-8", "surrogateescape")).digest()


@dataclass(frozen=True, slots=True)
class Identity:
    """The users authenticated on one upstream connection, with what they may do.

    ``users`` and ``roles`` are (name, database) pairs in upstream's order. ``cluster_actions``
    are the actions granted on the cluster resource (``killAnySession``, ``listSessions``,
    ``impersonate`` decide here).
    """

    users: tuple[tuple[str, str], ...] = ()
    roles: tuple[tuple[str, str], ...] = ()
    cluster_actions: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """``user@db`` of everybody authenticated, comma-separated; empty for nobody."""
        return ",".join(f"{user}@{database}" for user, database in self.users)


NOBODY = Identity()

#: What is asked.
CONNECTION_STATUS: Mapping[str, Any] = {
    "connectionStatus": 1,
    "showPrivileges": True,
    "$db": "admin",
}


class IdentityUnknownError(Exception):
    """Upstream's answer does not say who is authenticated."""


def read_connection_status(body: bytes) -> Identity:
    """The identity in a ``connectionStatus`` reply document (BSON).

    Raises:
        IdentityUnknownError: not ``ok``, or not of the shape every server since 3.6 sends.
    """
    try:
        reply = bson.decode(body)
    except BSONError as error:
        raise IdentityUnknownError(str(error)) from error
    if reply.get("ok") != 1:
        raise IdentityUnknownError(f"{reply.get('code')}: {reply.get('errmsg')}")
    try:
        info = reply["authInfo"]
        users = tuple((str(user["user"]), str(user["db"])) for user in info["authenticatedUsers"])
        roles = tuple((str(r["role"]), str(r["db"])) for r in info["authenticatedUserRoles"])
        actions: set[str] = set()
        for privilege in info.get("authenticatedUserPrivileges", ()):
            if (
                privilege["resource"].get("cluster") is True
                or "anyResource" in privilege["resource"]
            ):
                actions.update(privilege["actions"])
    except (KeyError, TypeError, AttributeError) as error:
        raise IdentityUnknownError(f"unexpected shape: {error!r}") from error
    return Identity(users, roles, frozenset(actions))
