"""Clients of servers of one version or another."""

from __future__ import annotations

from typing import Any

from bson import Binary

from proxy.embedded.users import EmbeddedRole, EmbeddedUser
from proxy.embedded.versions import VERSIONS
from tests.embedded.support import PASSWORD, ROLES, USERS, Client, node

ALL = tuple(VERSIONS)
LSID = {"id": Binary(bytes(15) + b"\1", 4)}
ID = LSID["id"]
CHILD_UUID = Binary(bytes(15) + b"\7", 4)
CHILD = {**LSID, "txnUUID": CHILD_UUID}
SYSTEM = EmbeddedUser("__system", "local", PASSWORD, (("__system", "admin"),))
INTERNAL = EmbeddedRole("internal", "admin", (({"cluster": True}, ("internal",)),))
RUNNER = EmbeddedUser("runner", "admin", PASSWORD, (("internal", "admin"), ("root", "admin")))


def since(first: str) -> list[str]:
    """The versions from ``first`` on."""
    return list(ALL[ALL.index(first) :])


def before(first: str) -> list[str]:
    return list(ALL[: ALL.index(first)])


def client(version: str, user: tuple[str, str] | None = None, **settings: Any) -> Client:
    """A connection to a server of this version, logged in as ``user``."""
    if user is not None:
        settings = {
            "authorization": True,
            "users": (*USERS, SYSTEM, RUNNER),
            "roles": (*ROLES, INTERNAL),
            **settings,
        }
    made = Client(node(version=version, **settings))
    if user is not None:
        assert made.log_in(*user)["done"]
    return made


def another(first: Client, user: tuple[str, str]) -> Client:
    """One more connection to the same server."""
    made = Client(first.connection.node)
    assert made.log_in(*user)["done"]
    return made


def outcome(reply: dict[str, Any]) -> Any:
    """A reply's code, or "ok"."""
    return "ok" if reply["ok"] else reply["code"]
