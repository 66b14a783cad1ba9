from __future__ import annotations

import pytest

from proxy.embedded.roles import ANY, CLUSTER, collection
from proxy.embedded.users import EmbeddedRole, EmbeddedUser, User, UserStore
from proxy.errors import CommandError


def test_custom_roles_inherit() -> None:
    inner = EmbeddedRole("inner", "app", (({"db": "app", "collection": "c"}, ("find",)),))
    outer = EmbeddedRole(
        "outer",
        "admin",
        (({"cluster": True}, ("killop",)), ({"anyResource": True}, ("collStats",))),
        (("inner", "app"), ("outer", "admin"), ("unknown", "app")),
    )
    store = UserStore(roles=[inner, outer])
    assert store.privileges([("outer", "admin")]) == {
        CLUSTER: {"killop"},
        ANY: {"collStats"},
        collection("app", "c"): {"find"},
    }
    assert store.custom_roles("app") == [("inner", "app")]
    assert store.known(("inner", "app"))
    assert store.known(("root", "admin"))
    assert not store.known(("root", "app"))


def test_a_resource_has_to_be_one() -> None:
    with pytest.raises(CommandError) as wrong:
        UserStore(roles=[EmbeddedRole("r", "app", (({"db": "app"}, ("find",)),))])
    assert wrong.value.code == 9


def test_users_are_told_apart_by_database() -> None:
    users = [EmbeddedUser("alice", "app", "1"), EmbeddedUser("alice", "other", "2")]
    store = UserStore(users)
    assert [user.full_name for user in store] == ["alice@app", "alice@other"]
    assert store.get("alice", "other").password == "2"
    with pytest.raises(CommandError, match='Could not find user "alice" for db "admin"'):
        store.get("alice", "admin")


def test_credentials_are_of_the_users_mechanisms() -> None:
    user = User("alice", "app", "pw", (), ("SCRAM-SHA-1", "PLAIN"))
    assert list(user.credentials) == ["SCRAM-SHA-1"]
    assert user.credentials is user.credentials
