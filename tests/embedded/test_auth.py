from __future__ import annotations

from typing import Any

import pytest

from tests.embedded.support import USERS, Client, node, scram_final


@pytest.fixture
def client() -> Client:
    return Client(node(authorization=True, users=USERS))


def who(client: Client) -> list[str]:
    info = client.run("connectionStatus")["authInfo"]
    return [f"{user['user']}@{user['db']}" for user in info["authenticatedUsers"]]


def test_one_user_per_database(client: Client) -> None:
    client.log_in("alice", "app")
    client.log_in("alice", "other")
    assert who(client) == ["alice@app", "alice@other"]
    client.log_in("bob", "app")
    assert who(client) == ["bob@app", "alice@other"]


def test_logout_is_by_database(client: Client) -> None:
    client.log_in("alice", "app")
    client.log_in("alice", "other")
    assert client.run("logout", db="app")["ok"] == 1.0
    assert who(client) == ["alice@other"]
    assert client.run("logout", db="nowhere")["ok"] == 1.0
    assert who(client) == ["alice@other"]


def test_a_started_exchange_is_nobody(client: Client) -> None:
    fields = {"mechanism": "SCRAM-SHA-256", "payload": b"n,,n=root,r=x"}
    started = client.run("saslStart", **fields)
    assert (started["ok"], started["done"]) == (1.0, False)
    assert who(client) == []
    assert client.run("find", "c", db="app")["errmsg"] == "command find requires authentication"


def test_without_skip_empty_exchange_there_are_three_rounds(client: Client) -> None:
    first = "n=root,r=x"
    start = {"mechanism": "SCRAM-SHA-256", "payload": b"n,," + first.encode()}
    started = client.run("saslStart", **start)
    final = scram_final("SCRAM-SHA-256", "root", first, started["payload"].decode())
    second = client.run("saslContinue", conversationId=1, payload=final)
    assert second["done"] is False
    assert who(client) == []
    assert client.run("saslContinue", conversationId=1, payload=b"")["done"] is True
    assert who(client) == ["root@admin"]


def test_a_payload_may_be_base64_text(client: Client) -> None:
    fields = {"mechanism": "SCRAM-SHA-256", "payload": "biwsbj1yb290LHI9eA=="}
    assert client.run("saslStart", **fields)["ok"] == 1.0


@pytest.mark.parametrize(
    ("name", "db", "fields", "code"),
    [
        ("saslStart", "app", {"mechanism": "NIX", "payload": b""}, 334),
        ("saslStart", "app", {"payload": b""}, 334),
        ("saslStart", "app", {"mechanism": "PLAIN", "payload": b"\0alice\0pw"}, 334),
        ("saslStart", "$external", {"mechanism": "PLAIN", "payload": b"\0alice\0pw"}, 18),
        ("saslStart", "$external", {"mechanism": "PLAIN", "payload": b"alice"}, 18),
        ("saslStart", "app", {"mechanism": "SCRAM-SHA-1", "payload": 1}, 14),
        ("saslStart", "app", {"mechanism": "SCRAM-SHA-1", "payload": "***"}, 18),
        ("saslStart", "app", {"mechanism": "SCRAM-SHA-1", "payload": b"n,,n=nobody,r=x"}, 18),
        ("saslContinue", "app", {"conversationId": 1, "payload": b""}, 17),
        ("authenticate", "$external", {"mechanism": "MONGODB-X509"}, 334),
    ],
)
def test_refusals(client: Client, name: str, db: str, fields: dict[str, Any], code: int) -> None:
    assert client.run(name, db=db, **fields)["code"] == code
    assert who(client) == []


@pytest.mark.parametrize(("db", "conversation"), [("other", 1), ("app", 2)])
def test_an_exchange_stays_where_it_began(client: Client, db: str, conversation: int) -> None:
    fields = {"mechanism": "SCRAM-SHA-256", "payload": b"n,,n=alice,r=x"}
    client.run("saslStart", db="app", **fields)
    reply = client.run("saslContinue", db=db, conversationId=conversation, payload=b"")
    assert reply["code"] == 17


def test_a_failure_ends_the_exchange(client: Client) -> None:
    fields = {"mechanism": "SCRAM-SHA-256", "payload": b"n,,n=alice,r=x"}
    client.run("saslStart", db="app", **fields)
    assert client.run("saslContinue", db="app", conversationId=1, payload=b"x")["code"] == 18
    assert client.run("saslContinue", db="app", conversationId=1, payload=b"x")["code"] == 17


def test_privileges_only_where_asked_for(client: Client) -> None:
    client.log_in("killer", "admin")
    plain = client.run("connectionStatus")["authInfo"]
    assert "authenticatedUserPrivileges" not in plain
    full = client.run("connectionStatus", showPrivileges=True)["authInfo"]
    assert full["authenticatedUserPrivileges"] == [
        {"resource": {"cluster": True}, "actions": ["killAnySession"]}
    ]


def test_a_dropped_user_cannot_log_in(client: Client) -> None:
    root = Client(client.connection.node)
    root.log_in("root", "admin")
    assert root.run("dropUser", "alice", db="app")["ok"] == 1.0
    assert client.log_in("alice", "app")["code"] == 18
