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

#: Users remembered; the ones seen longest ago are dropped first.
_MAX_USERS: Final = 100_000

#: And told of at a time.
_TOLD_AT_ONCE: Final = 500


class KnownUsers:
    """Names and roles by owner digest, learnt from each identity that was bound to a connection."""

    def __init__(self) -> None:
        self._roles: dict[bytes, frozenset[Role]] = {}
        self._names: dict[bytes, str] = {}

    def seen(self, identity: Identity) -> None:
        """Remember who has authenticated. Of several on one connection nobody can tell whose
        roles are whose, so they are remembered without."""
        roles = frozenset(identity.roles) if len(identity.users) == 1 else frozenset()
        for user, database in identity.users:
            self.learn(user_digest(user, database), f"{user}@{database}", roles)

    def learn(self, uid: bytes, name: str, roles: frozenset[Role]) -> bool:
        """Remember one, or what roles somebody has now; whether that says anything new."""
        before = self._roles.pop(uid, None)
        self._roles[uid] = roles or before or frozenset()
        self._names[uid] = name
        if len(self._roles) > _MAX_USERS:
            oldest = next(iter(self._roles))
            del self._roles[oldest], self._names[oldest]
        return before != self._roles.get(uid)

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
        told = list(islice(self._news, most))
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
