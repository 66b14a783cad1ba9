from __future__ import annotations

from typing import Any

import pytest

from tests.embedded.support import USERS, Client, node


@pytest.fixture
def root() -> Client:
    client = Client(node(authorization=True, users=USERS))
    client.log_in("root", "admin")
    return client


def test_a_user_comes_changes_and_goes(root: Client) -> None:
    made = {"pwd": "pw", "roles": ["read", {"role": "readWrite", "db": "other"}]}
    assert root.run("createUser", "carol", db="app", **made)["ok"] == 1.0
    (shown,) = root.run("usersInfo", "carol", db="app")["users"]
    assert (shown["_id"], shown["user"], shown["db"]) == ("app.carol", "carol", "app")
    assert [role["role"] for role in shown["roles"]] == ["read", "readWrite"]
    (shown,) = root.run("usersInfo", "carol", db="app", showPrivileges=True)["users"]
    assert len(shown["inheritedPrivileges"]) == 4
    root.run("grantRolesToUser", "carol", db="app", roles=["dbAdmin"])
    root.run("revokeRolesFromUser", "carol", db="app", roles=["read"])
    (shown,) = root.run("usersInfo", {"user": "carol", "db": "app"})["users"]
    assert [role["role"] for role in shown["roles"]] == ["readWrite", "dbAdmin"]
    assert root.run("updateUser", "carol", db="app", pwd="new", roles=[])["ok"] == 1.0
    carol = Client(root.connection.node)
    assert carol.log_in("carol", "app")["code"] == 18
    assert root.run("dropUser", "carol", db="app")["ok"] == 1.0
    assert root.run("usersInfo", "carol", db="app")["users"] == []


def test_users_of_a_database_and_of_all(root: Client) -> None:
    names = [user["user"] for user in root.run("usersInfo", 1, db="app")["users"]]
    assert names == ["alice", "bob"]
    everybody = root.run("usersInfo", {"forAllDBs": True})["users"]
    assert len(everybody) == len(USERS)
    several = root.run("usersInfo", ["bob", {"user": "alice", "db": "other"}], db="app")["users"]
    assert [user["_id"] for user in several] == ["app.bob", "other.alice"]


def test_a_role_comes_and_goes(root: Client) -> None:
    privileges = [
        {"resource": {"db": "app", "collection": "c"}, "actions": ["find"]},
        {"resource": {"cluster": True}, "actions": ["listSessions"]},
        {"resource": {"anyResource": True}, "actions": ["collStats"]},
    ]
    roles = [{"role": "read", "db": "other"}]
    assert root.run("createRole", "r", privileges=privileges, roles=roles)["ok"] == 1.0
    (shown,) = root.run("rolesInfo", "r", showPrivileges=True)["roles"]
    assert (shown["role"], shown["isBuiltin"], shown["roles"]) == ("r", False, roles)
    assert len(shown["privileges"]) == 3
    assert len(shown["inheritedPrivileges"]) == 5
    listed = root.run("rolesInfo", 1)["roles"]
    assert [role["role"] for role in listed] == ["killer", "imp", "lister", "r"]
    assert root.run("rolesInfo", "root")["roles"][0]["isBuiltin"] is True
    assert root.run("dropRole", "r")["ok"] == 1.0
    assert root.run("rolesInfo", "r")["roles"] == []


def test_inherited_roles_count(root: Client) -> None:
    roles = [{"role": "readWrite", "db": "app"}]
    root.run("createRole", "inner", privileges=[], roles=roles)
    root.run("createRole", "outer", privileges=[], roles=["inner"])
    root.run("createUser", "carol", pwd="pw", roles=["outer"])
    carol = Client(root.connection.node)
    carol.log_in("carol", "admin")
    assert carol.run("insert", "c", db="app", documents=[{}])["n"] == 1
    assert carol.run("insert", "c", db="other", documents=[{}])["code"] == 13


@pytest.mark.parametrize(
    ("name", "value", "fields", "code"),
    [
        ("createUser", "root", {"pwd": "x", "roles": []}, 51003),
        ("createUser", "new", {"roles": []}, 2),
        ("createUser", "new", {"pwd": "x"}, 2),
        ("createUser", "new", {"pwd": "x", "roles": ["nix"]}, 31),
        ("createUser", "new", {"pwd": "x", "roles": [1]}, 2),
        ("createUser", "", {"pwd": "x", "roles": []}, 2),
        ("createUser", 1, {"pwd": "x", "roles": []}, 2),
        ("updateUser", "nobody", {"pwd": "x"}, 11),
        ("dropUser", "nobody", {}, 11),
        ("createRole", "killer", {"privileges": [], "roles": []}, 51002),
        ("createRole", "r", {"privileges": 1, "roles": []}, 2),
        ("createRole", "r", {"privileges": [{"resource": {}}], "roles": []}, 9),
        ("dropRole", "nix", {}, 31),
    ],
)
def test_refusals(root: Client, name: str, value: Any, fields: dict[str, Any], code: int) -> None:
    assert root.run(name, value, **fields)["code"] == code


def test_ordinary_users_see_only_themselves(root: Client) -> None:
    alice = Client(root.connection.node)
    alice.log_in("alice", "app")
    assert alice.run("usersInfo", "alice", db="app")["ok"] == 1.0
    assert alice.run("usersInfo", "bob", db="app")["code"] == 13
    assert alice.run("createUser", "x", db="app", pwd="x", roles=[])["code"] == 13


def test_only_the_first_user_comes_without_authentication() -> None:
    server = node(authorization=True)
    client = Client(server)
    first = {"pwd": "pw", "roles": ["root"]}
    assert client.run("createRole", "r", privileges=[], roles=[])["code"] == 13
    assert client.run("createUser", "root", **first)["ok"] == 1.0
    refused = client.run("createUser", "other", **first)
    assert refused["errmsg"] == "command createUser requires authentication"
    assert client.log_in("root", "admin")["done"] is True
