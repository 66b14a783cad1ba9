"""Which users exist and which roles they hold, as far as connections have shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from proxy.session.identity import user_digest

if TYPE_CHECKING:
    from proxy.session.identity import Identity

Role = tuple[str, str]

#: Users remembered; the ones seen longest ago are dropped first.
_MAX_USERS: Final = 100_000


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
            uid = user_digest(user, database)
            known = self._roles.pop(uid, frozenset())
            self._roles[uid] = roles or known
            self._names[uid] = f"{user}@{database}"
            if len(self._roles) > _MAX_USERS:
                oldest = next(iter(self._roles))
                del self._roles[oldest], self._names[oldest]

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
