from __future__ import annotations

import pytest

from proxy.embedded.roles import ANY, CLUSTER, Resource, built_in, collection, covers, merged


@pytest.mark.parametrize(
    ("role", "database", "resource", "action", "granted"),
    [
        ("read", "app", collection("app", "c"), "find", True),
        ("read", "app", collection("app", "c"), "insert", False),
        ("read", "app", collection("other", "c"), "find", False),
        ("read", "app", collection("app", "system.js"), "find", True),
        ("read", "app", collection("app", "system.users"), "find", False),
        ("readWrite", "app", collection("app", "c"), "insert", True),
        ("readWrite", "app", collection("app", "c"), "dropDatabase", False),
        ("dbAdmin", "app", collection("app", ""), "dropDatabase", True),
        ("dbAdmin", "app", collection("app", "c"), "insert", False),
        ("dbOwner", "app", collection("app", "c"), "insert", True),
        ("dbOwner", "app", collection("app", ""), "createUser", True),
        ("userAdmin", "app", collection("app", ""), "createUser", True),
        ("userAdmin", "app", collection("app", "c"), "find", False),
        ("readAnyDatabase", "admin", collection("x", "c"), "find", True),
        ("readAnyDatabase", "admin", collection("x", "c"), "insert", False),
        ("readWriteAnyDatabase", "admin", collection("x", "c"), "insert", True),
        ("dbAdminAnyDatabase", "admin", collection("x", "c"), "collMod", True),
        ("userAdminAnyDatabase", "admin", collection("x", ""), "createUser", True),
        ("clusterMonitor", "admin", CLUSTER, "serverStatus", True),
        ("clusterMonitor", "admin", CLUSTER, "listSessions", True),
        ("clusterMonitor", "admin", CLUSTER, "killAnySession", False),
        ("clusterManager", "admin", CLUSTER, "listSessions", True),
        ("hostManager", "admin", CLUSTER, "killAnySession", True),
        ("hostManager", "admin", CLUSTER, "listSessions", False),
        ("clusterAdmin", "admin", CLUSTER, "killAnySession", True),
        ("clusterAdmin", "admin", CLUSTER, "listSessions", True),
        ("backup", "admin", collection("x", "c"), "listIndexes", True),
        ("restore", "admin", collection("x", "c"), "insert", True),
        ("root", "admin", CLUSTER, "killAnySession", True),
        ("root", "admin", CLUSTER, "impersonate", False),
        ("root", "admin", collection("x", "c"), "remove", True),
    ],
)
def test_built_in_roles(
    role: str, database: str, resource: Resource, action: str, granted: bool
) -> None:
    privileges = built_in(role, database)
    assert privileges is not None
    assert covers(privileges, resource, action) is granted


@pytest.mark.parametrize(("role", "database"), [("nix", "admin"), ("root", "app"), ("", "")])
def test_no_such_role(role: str, database: str) -> None:
    assert built_in(role, database) is None


def test_any_resource_covers_all_and_the_cluster() -> None:
    privileges = {ANY: frozenset(("find", "killAnySession"))}
    assert covers(privileges, collection("a", "b"), "find")
    assert covers(privileges, CLUSTER, "killAnySession")
    assert not covers(privileges, CLUSTER, "listSessions")


def test_merging_unites_actions_of_one_resource() -> None:
    one, other = {CLUSTER: frozenset(("a",))}, {CLUSTER: frozenset(("b",))}
    assert merged((one, other)) == {CLUSTER: {"a", "b"}}
