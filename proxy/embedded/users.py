"""The deployment's users and roles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from proxy.embedded.failures import failure
from proxy.embedded.roles import Privileges, Resource, built_in, merged, resource_of
from proxy.embedded.scram import MECHANISMS, Credential, credential

Role = tuple[str, str]


class EmbeddedUser(NamedTuple):
    """A user that exists from the start. ``roles`` are (role, database) pairs."""

    name: str
    database: str
    password: str
    roles: tuple[Role, ...] = ()


class EmbeddedRole(NamedTuple):
    """A custom role that exists from the start.

    ``privileges`` are (resource, actions) pairs, a resource being a document as in createRole:
    ``{"cluster": True}``, ``{"anyResource": True}`` or ``{"db": ..., "collection": ...}``.
    """

    name: str
    database: str
    privileges: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...] = ()
    roles: tuple[Role, ...] = ()


@dataclass
class User:
    """One user; credentials are derived when first asked for, as that takes milliseconds."""

    name: str
    database: str
    password: str
    roles: tuple[Role, ...]
    mechanisms: tuple[str, ...] = tuple(MECHANISMS)

    @property
    def full_name(self) -> str:
        """``user@db``, of which session owners' digests are made."""
        return f"{self.name}@{self.database}"

    @cached_property
    def credentials(self) -> dict[str, Credential]:
        """What the server stores of the password, by mechanism."""
        return {
            mechanism: credential(mechanism, self.name, self.password)
            for mechanism in self.mechanisms
            if mechanism in MECHANISMS
        }


class CustomRole(NamedTuple):
    """What a role grants by itself, and the roles that it inherits."""

    privileges: Privileges
    roles: tuple[Role, ...]


class UserStore:
    """Users and custom roles by (name, database)."""

    def __init__(
        self, users: Iterable[EmbeddedUser] = (), roles: Iterable[EmbeddedRole] = ()
    ) -> None:
        self._users: dict[tuple[str, str], User] = {}
        self._roles: dict[Role, CustomRole] = {}
        for role in roles:
            granted = merged(
                {resource_of(where): frozenset(actions)} for where, actions in role.privileges
            )
            self.add_role((role.name, role.database), granted, role.roles)
        for user in users:
            self.add(User(user.name, user.database, user.password, tuple(user.roles)))

    def __len__(self) -> int:
        return len(self._users)

    def __iter__(self) -> Iterator[User]:
        return iter(list(self._users.values()))

    def find(self, name: str, database: str) -> User | None:
        """The user; None where there is none."""
        return self._users.get((name, database))

    def get(self, name: str, database: str) -> User:
        """The user.

        Raises:
            CommandError: 11, with the text of 4.2.
        """
        user = self._users.get((name, database))
        if user is None:
            raise failure(11, f'Could not find user "{name}" for db "{database}"')
        return user

    def add(self, user: User) -> None:
        """Add a user, or replace the one of the same name."""
        self._users[user.name, user.database] = user

    def remove(self, name: str, database: str) -> None:
        """Remove a user.

        Raises:
            CommandError: 11.
        """
        if self._users.pop((name, database), None) is None:
            raise failure(11, f"User '{name}@{database}' not found")

    def add_role(self, role: Role, privileges: Privileges, roles: tuple[Role, ...]) -> None:
        """Add a custom role."""
        self._roles[role] = CustomRole(privileges, roles)

    def remove_role(self, role: Role) -> None:
        """Remove a custom role.

        Raises:
            CommandError: 31.
        """
        if self._roles.pop(role, None) is None:
            raise failure(31, f"Role '{role[0]}@{role[1]}' not found")

    def custom_role(self, role: Role) -> CustomRole | None:
        """The custom role; None where there is none, or a built-in one."""
        return self._roles.get(role)

    def custom_roles(self, database: str) -> list[Role]:
        """The custom roles of a database."""
        return [role for role in self._roles if role[1] == database]

    def known(self, role: Role) -> bool:
        """Whether there is such a role, custom or built in."""
        return role in self._roles or built_in(*role) is not None

    def privileges(self, roles: Iterable[Role]) -> Privileges:
        """What these roles grant together, inherited roles included."""
        parts: list[Mapping[Resource, frozenset[str]]] = []
        pending, seen = list(roles), set[Role]()
        while pending:
            role = pending.pop(0)
            if role in seen:
                continue
            seen.add(role)
            custom = self._roles.get(role)
            if custom is not None:
                parts.append(custom.privileges)
                pending += custom.roles
            else:
                parts.append(built_in(*role) or {})
        return merged(parts)
