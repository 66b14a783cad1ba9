"""Who is asking, in upstream's own words (the reply to ``connectionStatus``)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import bson
from bson.errors import BSONError

from proxy.errors import WireError
from proxy.session.steps import STEP, Steps, in_one_go
from proxy.wire.fields import ARRAY, DOCUMENT, Element, elements, walk

#: SHA-256 of the empty string: the owner's digest where nobody owns a session.
NO_OWNER = hashlib.sha256(b"").digest()

#: In place of a digest: whoever may act for everybody.
EVERYBODY = b""

#: A longer answer is read in steps: to decode this one takes 3 ms.
_AT_ONCE: Final = 65_536

#: Bytes of users, of roles and of one entry that anybody may have. Somebody who works with
#: thousands of databases has a role for each; privileges may be many more and are not kept.
_MOST_USERS: Final = 65_536
_MOST_ROLES: Final = 262_144
_LONGEST_ENTRY: Final = 65_536

_USERS: Final = b"authenticatedUsers"
_ROLES: Final = b"authenticatedUserRoles"

#: Actions on the cluster; servers know some two hundred.
_MOST_ACTIONS: Final = 1_000


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

#: What is asked, and the same as BSON.
CONNECTION_STATUS: Mapping[str, Any] = {
    "connectionStatus": 1,
    "showPrivileges": True,
    "$db": "admin",
}
QUESTION: Final = bson.encode(CONNECTION_STATUS)

#: Answers that are remembered, none of them longer than ``_AT_ONCE``.
_REMEMBERED: Final = 100


class IdentityUnknownError(Exception):
    """Upstream's answer does not say who is authenticated."""


class Identities:
    """Answers that were read lately, by their bytes: most are what they were the last time."""

    def __init__(self) -> None:
        self._known: dict[bytes, Identity] = {}

    def get(self, told: bytes) -> Identity | None:
        """Whom ``told`` (all of ``authInfo``) names; None where it was not read lately."""
        return self._known.get(told)

    def learn(self, told: bytes, identity: Identity) -> None:
        """Remember what was read."""
        if 0 < len(told) <= _AT_ONCE:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[told] = identity


def read_connection_status(body: bytes) -> Identity:
    """The identity in a ``connectionStatus`` reply document (BSON).

    Raises:
        IdentityUnknownError: not ``ok``, not of the shape every server since 3.6 sends, or more
            than anybody's is.
    """
    return in_one_go(reading_connection_status(body))


def reading_connection_status(body: bytes) -> Steps[Identity]:
    """:func:`read_connection_status` in steps; a short answer takes none."""
    try:
        if len(body) <= _AT_ONCE:
            reply = bson.decode(body)
            _check_ok(reply)
            info = reply["authInfo"]
            users, roles = info["authenticatedUsers"], info["authenticatedUserRoles"]
            privileges = info.get("authenticatedUserPrivileges", [])
            if not all(isinstance(one, list) for one in (users, roles, privileges)):
                raise TypeError("no array")
            return _identity(users, roles, _actions(privileges))
        return (yield from _reading_long(body))
    except (BSONError, WireError) as error:
        raise IdentityUnknownError(str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise IdentityUnknownError(f"unexpected shape: {error!r}") from error


def _reading_long(body: bytes) -> Steps[Identity]:
    fields = walk(body, 0, len(body))
    _check_ok(_decoded(body, fields[b"ok"]))
    info = fields[b"authInfo"]
    if info.type != DOCUMENT:
        raise TypeError("authInfo")
    parts = walk(body, info.value, info.end)
    if fields.duplicates or parts.duplicates:
        raise KeyError("twice the same")
    found: dict[bytes, list[Any]] = {}
    for name, most in (
        (_USERS, _MOST_USERS),
        (_ROLES, _MOST_ROLES),
    ):
        if parts[name].end - parts[name].value > most:
            raise IdentityUnknownError(f"{name.decode()}: more than {most} bytes")
        found[name] = []
        for entry in _entries(body, parts[name]):
            if entry is None:
                yield
            else:
                found[name].append(entry)
    actions: set[str] = set()
    privileges = parts.get(b"authenticatedUserPrivileges")
    if privileges is not None:
        for entry in _entries(body, privileges):
            if entry is None:
                yield
            else:
                actions |= _actions([entry])
                if len(actions) > _MOST_ACTIONS:
                    raise IdentityUnknownError(f"more than {_MOST_ACTIONS} actions")
    return _identity(found[_USERS], found[_ROLES], actions)


def _decoded(body: bytes, element: Element) -> dict[str, Any]:
    """One element as a document of its own."""
    if element.end - element.start > _LONGEST_ENTRY:
        raise IdentityUnknownError("an entry is too long")
    raw = body[element.start : element.end]
    return bson.decode((len(raw) + 5).to_bytes(4, "little") + raw + b"\0")


def _entries(body: bytes, array: Element) -> Iterator[Any]:
    """The values of an array, and None where others may have their turn."""
    if array.type != ARRAY:
        raise TypeError("no array")
    size = 0
    for number, (_, entry) in enumerate(elements(body, array.value, array.end)):
        size += entry.end - entry.start
        if number % STEP == STEP - 1 or size > _LONGEST_ENTRY:
            size = 0
            yield None
        if entry.type != DOCUMENT:
            raise TypeError("an entry is no document")
        (value,) = _decoded(body, entry).values()
        yield value


def _check_ok(reply: Mapping[str, Any]) -> None:
    if reply.get("ok") != 1:
        raise IdentityUnknownError(f"{reply.get('code')}: {reply.get('errmsg')}")


def _identity(users: Iterable[Any], roles: Iterable[Any], actions: set[str]) -> Identity:
    return Identity(
        tuple((str(user["user"]), str(user["db"])) for user in users),
        tuple((str(role["role"]), str(role["db"])) for role in roles),
        frozenset(actions),
    )


def _actions(privileges: Iterable[Any]) -> set[str]:
    """What privileges grant on the cluster."""
    actions: set[str] = set()
    for privilege in privileges:
        resource = privilege["resource"]
        if resource.get("cluster") is True or "anyResource" in resource:
            actions.update(privilege["actions"])
    return actions
