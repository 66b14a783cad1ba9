"""A shell makes the first user of a deployment, in one implicit session from before to after."""

from __future__ import annotations

import pytest
from bson import Binary

from tests.embedded.support import USERS, node
from tests.proxied import UPSTREAM, ProxiedClient, Proxy

LSID = {"id": Binary(b"s" * 16, 4)}
FIRST = {"createUser": "root", "pwd": "pw", "roles": ["root"], "lsid": LSID, "$db": "admin"}


def before_there_are_users(proxy: Proxy, probe: dict[str, object]) -> ProxiedClient:
    """A shell that has used its session already, as it does when it connects."""
    proxy.upstreams.probed(UPSTREAM, probe, {"ok": 0.0, "code": 13})
    shell = proxy.connect()
    shell.ask({"hello": 1, "lsid": LSID, "$db": "admin"})
    shell.ask({"ping": 1, "lsid": LSID, "$db": "admin"})
    shell.ask({"listDatabases": 1, "lsid": LSID, "$db": "admin"})
    return shell


@pytest.mark.parametrize(
    "probe", [{"ok": 1.0}, {"ok": 0.0, "code": 13}], ids=["localhost exception", "13"]
)
def test_the_session_goes_on_as_the_first_users(probe: dict[str, object]) -> None:
    proxy = Proxy(node(authorization=True, users=[]))
    shell = before_there_are_users(proxy, probe)
    assert shell.ask(FIRST)["ok"] == 1.0
    assert len(proxy.sessions.store) == 0
    assert shell.log_in("root", "admin")["done"]
    for _ in range(2):
        found = shell.ask({"find": "c", "lsid": LSID, "$db": "shop"})
        assert found["ok"] == 1.0, found
    assert len(proxy.sessions.store) == 1


def test_a_login_does_not_end_the_session_of_before() -> None:
    proxy = Proxy(node(authorization=True, users=USERS))
    driver = proxy.connect()
    for command in ("hello", "ping"):
        driver.ask({command: 1, "lsid": LSID, "$db": "admin"})
    assert driver.log_in("alice", "app")["done"]
    assert driver.ask({"find": "things", "lsid": LSID, "$db": "app"})["ok"] == 1.0


def test_who_logs_in_before_a_restart_is_noticed_keeps_the_session() -> None:
    proxy = Proxy(node(authorization=False, users=USERS, version="4.4"))
    proxy.server = node(authorization=True, users=USERS, version="4.4")
    driver = proxy.connect()
    driver.ask({"hello": 1, "$db": "admin"})
    assert proxy.recorder.only("another process") == [()]
    assert driver.log_in("alice", "app")["done"]
    for _ in range(2):
        found = driver.ask({"find": "things", "lsid": LSID, "$db": "app"})
        assert found["ok"] == 1.0, found
        assert [one.owner.name for one in proxy.sessions.store.with_id(b"s" * 16)] == ["alice@app"]
        proxy.look()
    assert driver.conversation.desk.upstream_facts.ran_open


def test_a_restart_that_changes_nothing_is_found_out_too() -> None:
    proxy = Proxy(node(authorization=False, users=USERS, version="4.4"))
    proxy.server = node(authorization=False, users=USERS, version="4.4")
    driver = proxy.connect()
    for _ in range(2):
        driver.ask({"hello": 1, "$db": "admin"})
    assert proxy.recorder.only("another process") == [()]
    # Who does not log in may do what it lets everybody do.
    assert driver.ask({"killAllSessions": [], "$db": "admin"})["ok"] == 1.0
    assert driver.log_in("alice", "app")["done"]
    assert driver.conversation.desk.upstream_facts.authorization is None
    proxy.look()
    assert driver.conversation.desk.upstream_facts.authorization is False
    assert proxy.connect().ask({"hello": 1, "$db": "admin"})["ok"] == 1.0
    assert proxy.recorder.only("another process") == [()]


@pytest.mark.parametrize("version", ["4.2", "4.4"])
def test_who_demanded_logins_still_does_after_a_restart(version: str) -> None:
    proxy = Proxy(node(authorization=True, users=USERS, version=version))
    proxy.server = node(authorization=True, users=USERS, version=version)
    driver = proxy.connect()
    driver.ask({"isMaster": 1, "$db": "admin"})
    assert driver.conversation.desk.upstream_facts.authorization is True


def test_sessions_from_before_authorization_was_turned_on_end_all_the_same() -> None:
    proxy = Proxy(node(authorization=False, users=USERS))
    anybody = proxy.connect()
    assert anybody.ask({"find": "things", "lsid": LSID, "$db": "app"})["ok"] == 1.0
    proxy.server.authorization = True
    proxy.look()
    driver = proxy.connect()
    assert driver.log_in("alice", "app")["done"]
    refused = driver.ask({"find": "things", "lsid": LSID, "$db": "app"})
    assert (refused["code"], "has no owner" in refused["errmsg"]) == (13, True)


def test_the_first_user_is_really_made() -> None:
    proxy = Proxy(node(authorization=True, users=[]))
    assert before_there_are_users(proxy, {"ok": 1.0}).ask(FIRST)["ok"] == 1.0
    assert [user.name for user in proxy.server.users] == ["root"]
