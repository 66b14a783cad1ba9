"""Which users exist and which roles they hold, as far as connections have shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from proxy.session.identity import user_digest

if TYPE_CHECKING:
    from proxy.session.identity import Identity

Role = tuple[str, str]
#: A user's digest, name and roles.
User = tuple[bytes, str, list[Role]]

#: Users remembered, and bytes that they and their roles take, about; the ones seen longest ago are
#: dropped first.
# Not Final, as tests set them.
_MAX_USERS = 100_000
_MAX_BYTES = 128 << 20

#: What one user takes beside the name, and one role beside its names.
_USER: Final = 500
_ROLE: Final = 250

#: Users that are told of at a time, and how many roles: more only where one has them.
_TOLD_AT_ONCE: Final = 500
_ROLES_AT_ONCE: Final = 2_000


class KnownUsers:
    """Names and roles by owner digest, learnt from each identity that was bound to a connection."""

    def __init__(self) -> None:
        self._roles: dict[bytes, frozenset[Role]] = {}
        self._names: dict[bytes, str] = {}
        #: Bytes that all of it takes, about.
        self.size = 0

    def seen(self, identity: Identity) -> None:
        """Remember who has authenticated. Of several on one connection nobody can tell whose
        roles are whose, so they are remembered without."""
        roles = frozenset(identity.roles) if len(identity.users) == 1 else frozenset()
        for user, database in identity.users:
            self.learn(user_digest(user, database), f"{user}@{database}", roles)

    def learn(self, uid: bytes, name: str, roles: frozenset[Role]) -> bool:
        """Remember one, or what roles somebody has now; whether that says anything new."""
        before = self._forget(uid)
        self._roles[uid] = roles = roles or before or frozenset()
        self._names[uid] = name
        self.size += _size(name, roles)
        while len(self._roles) > _MAX_USERS or self.size > _MAX_BYTES:
            self._forget(next(iter(self._roles)))
        return before != roles

    def _forget(self, uid: bytes) -> frozenset[Role] | None:
        """Remember one no longer; the roles that were known."""
        roles = self._roles.pop(uid, None)
        if roles is not None:
            self.size -= _size(self._names.pop(uid), roles)
        return roles

    def name_of(self, uid: bytes) -> str:
        """``user@db`` of the owner with this digest; "" where nobody of that digest was seen."""
        return self._names.get(uid, "")

    def roles(self) -> Mapping[bytes, frozenset[Role]]:
        """The roles of everybody seen, by digest."""
        return self._roles

    def holding(self, roles: Iterable[Role]) -> frozenset[bytes]:
        """The digests of the users known to hold any of ``roles``."""
        wanted = frozenset(roles)
        return frozenset(uid for uid, held in self._roles.items() if held & wanted)

    def digests(self) -> frozenset[bytes]:
        """The digests of everybody seen."""
        return frozenset(self._roles)


def _size(name: str, roles: frozenset[Role]) -> int:
    """Bytes that one user takes, about."""
    return _USER + len(name) + sum(_ROLE + len(role) + len(db) for role, db in roles)


class SharedUsers(KnownUsers):
    """Users that are known wherever they have logged in."""

    def __init__(self) -> None:
        super().__init__()
        self._news: dict[bytes, None] = {}

    def learn(self, uid: bytes, name: str, roles: frozenset[Role]) -> bool:
        new = super().learn(uid, name, roles)
        if new:
            self._news[uid] = None
        return new

    def news(self, most: int = _TOLD_AT_ONCE) -> list[User]:
        """Who is new or has other roles, since the last time; a part of them where it is many."""
        known, roles = self.roles(), 0
        told: list[bytes] = []
        for uid in islice(self._news, most):
            roles += len(known.get(uid, ()))
            if told and roles > _ROLES_AT_ONCE:
                break
            told.append(uid)
        for uid in told:
            del self._news[uid]
        return self._told(told)

    def everybody(self) -> list[User]:
        """All that are known."""
        return self._told(list(self.roles()))

    def _told(self, uids: Iterable[bytes]) -> list[User]:
        roles = self.roles()
        return [(uid, self.name_of(uid), sorted(roles[uid])) for uid in uids if uid in roles]

    def take_in(self, told: Iterable[User]) -> None:
        """Learn from what another process has told."""
        for uid, name, roles in told:
            super().learn(uid, name, frozenset((role, database) for role, database in roles))
