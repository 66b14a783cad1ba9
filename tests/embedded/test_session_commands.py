"""What a kill kills: the table seen on a real server beside the transcripts."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.embedded import EmbeddedUser
from proxy.session.identity import user_digest
from tests.embedded.support import NOW, USERS, Client, answer, node

ALICE, BOB = user_digest("alice", "app"), user_digest("bob", "app")
IDS = {"alice": Binary(bytes(15) + b"\xa1", 4), "bob": Binary(bytes(15) + b"\xb0", 4)}
NAMED = {"alice": {"user": "alice", "db": "app"}, "bob": {"user": "bob", "db": "app"}}
NOBODYS_ROLE = {"role": "nobody has this", "db": "app"}


class Setting:
    """alice and bob of app, each with an open cursor and transaction in a session of their own."""

    def __init__(self) -> None:
        self.node = node(authorization=True, users=USERS)
        self.clients = {name: self.client(name, "app") for name in ("alice", "bob")}
        fill = [{"_id": number} for number in range(5)]
        self.clients["alice"].run("insert", "c", db="app", documents=fill)
        self.cursors = {}
        for name, client in self.clients.items():
            lsid = {"id": IDS[name]}
            found = client.run("find", "c", db="app", batchSize=1, lsid=lsid)
            self.cursors[name] = found["cursor"]["id"]

    def client(self, name: str, database: str) -> Client:
        made = Client(self.node)
        made.log_in(name, database)
        return made

    def alive(self, name: str) -> bool:
        reply = self.clients[name].run(
            "getMore",
            Int64(self.cursors[name]),
            db="app",
            collection="c",
            batchSize=1,
            lsid={"id": IDS[name]},
        )
        assert reply["ok"] or reply["code"] == 43
        return bool(reply["ok"])


@pytest.mark.parametrize(
    ("command", "argument", "who", "code", "alice", "bob"),
    [
        ("killAllSessionsByPattern", [{"users": [NAMED["bob"]]}], "imp", 0, False, False),
        ("killAllSessionsByPattern", [{"roles": [NOBODYS_ROLE]}], "imp", 0, False, False),
        (
            "killAllSessionsByPattern",
            [{"uid": BOB, "roles": [NOBODYS_ROLE]}],
            "imp",
            0,
            True,
            False,
        ),
        ("killAllSessionsByPattern", [{"uid": BOB}], "root", 0, True, False),
        (
            "killAllSessionsByPattern",
            [{"lsid": {"id": IDS["alice"], "uid": ALICE}}],
            "root",
            0,
            False,
            True,
        ),
        ("killAllSessionsByPattern", [], "root", 0, False, False),
        ("killAllSessionsByPattern", [{}], "root", 0, False, False),
        ("killAllSessionsByPattern", [{"users": []}], "root", 13, True, True),
        ("killAllSessionsByPattern", [{"lsid": 1}], "root", 14, True, True),
        ("killAllSessionsByPattern", [{"lsid": {"x": 1}}], "root", 40415, True, True),
        ("killAllSessionsByPattern", [{"roles": [{"role": "r"}]}], "root", 40414, True, True),
        ("killAllSessions", [NAMED["bob"]], "root", 0, True, False),
        ("killAllSessions", [], "root", 0, False, False),
        ("killAllSessions", [None], "root", 0, False, False),
        ("killAllSessions", {}, "root", 0, False, False),
        ("killSessions", [], "alice", 0, False, True),
        ("killSessions", [None], "alice", 0, False, True),
        ("killSessions", [{"id": IDS["bob"]}], "alice", 0, True, True),
        ("killSessions", [{"id": IDS["bob"], "uid": BOB}], "alice", 13, True, True),
        ("killSessions", [{"id": IDS["bob"], "uid": BOB}], "root", 0, True, False),
        ("killSessions", [{"id": IDS["bob"], "uid": BOB}], "imp", 0, True, False),
        ("killAllSessions", [NAMED["alice"]], "alice", 13, True, True),
        ("endSessions", [{"id": IDS["alice"]}], "alice", 0, True, True),
        ("refreshSessions", [{"id": IDS["bob"], "uid": BOB}], "alice", 13, True, True),
        ("refreshSessions", [{"id": IDS["bob"], "uid": BOB}], "imp", 0, True, True),
    ],
)
def test_what_a_kill_kills(
    command: str, argument: Any, who: str, code: int, alice: bool, bob: bool
) -> None:
    setting = Setting()
    killer = setting.client(who, "app" if who == "alice" else "admin")
    assert killer.run(command, argument).get("code", 0) == code
    assert (setting.alive("alice"), setting.alive("bob")) == (alice, bob)


def test_a_kill_aborts_the_transaction_and_leaves_the_session() -> None:
    setting = Setting()
    alice = setting.clients["alice"]
    inside = {"lsid": {"id": IDS["alice"]}, "txnNumber": Int64(1), "autocommit": False}
    write = {"documents": [{"_id": "t"}], **inside}
    assert alice.run("insert", "c", db="app", startTransaction=True, **write)["n"] == 1
    assert alice.run("killSessions", [{"id": IDS["alice"]}])["ok"] == 1.0
    reply = alice.run("commitTransaction", **inside)
    assert (reply["code"], reply["errorLabels"]) == (251, ["TransientTransactionError"])
    assert alice.run("count", "c", db="app", query={"_id": "t"})["n"] == 0
    again = {**inside, "txnNumber": Int64(2), "startTransaction": True}
    assert alice.run("insert", "c", db="app", documents=[{"_id": "t"}], **again)["n"] == 1


def test_a_kill_interrupts_what_is_running() -> None:
    setting = Setting()
    alice, root = setting.clients["alice"], setting.client("root", "admin")
    body = {"sleep": 1, "secs": 600, "lsid": {"id": IDS["alice"]}, "$db": "admin"}
    assert alice.step(body).wait_until == NOW + 600
    assert root.run("killAllSessions", [NAMED["alice"]])["ok"] == 1.0
    reply = answer(alice.connection.resume(NOW + 1))
    assert (reply["code"], reply["errmsg"]) == (11601, "operation was interrupted")
    assert alice.run("ping")["ok"] == 1.0


def test_without_authorization_everything_has_no_owner() -> None:
    client = Client(node())
    started = client.run("startSession")
    client.run("ping", lsid=started["id"])
    pipeline = [{"$listLocalSessions": {}}]
    listed = client.run("aggregate", 1, pipeline=pipeline, cursor={})["cursor"]["firstBatch"]
    assert [entry["_id"]["id"] for entry in listed] == [started["id"]["id"]]
    assert "user" not in listed[0]


@pytest.mark.parametrize("length", [9_999, 10_000])
def test_long_user_names(length: int) -> None:
    name = "x" * (length - len("@admin"))
    client = Client(node(authorization=True, users=[EmbeddedUser(name, "admin", "pw")]))
    client.log_in(name, "admin")
    lsid = {"id": IDS["alice"]}
    expected = 0 if length < 10_000 else 2
    for command, argument in (
        ("endSessions", [lsid]),
        ("refreshSessions", [lsid]),
        ("killSessions", [lsid]),
    ):
        assert client.run(command, argument).get("code", 0) == expected
    assert client.run("ping", lsid=lsid).get("code", 0) == expected
    assert client.run("startSession")["ok"] == 1.0
    assert client.run("killSessions", [])["ok"] == 1.0
    assert client.run("ping")["ok"] == 1.0


@pytest.mark.parametrize(
    "name",
    [
        "startSession",
        "refreshSessions",
        "endSessions",
        "killSessions",
        "killAllSessions",
        "killAllSessionsByPattern",
    ],
)
def test_nobody_is_anybody(name: str) -> None:
    reply = Client(node(authorization=True, users=USERS)).run(name, [])
    assert (reply["code"], reply["errmsg"]) == (13, f"command {name} requires authentication")


def test_a_session_in_use_is_renewed_even_by_a_refused_command() -> None:
    server = node(authorization=True, users=USERS)
    alice = Client(server)
    alice.log_in("alice", "app")
    lsid = {"id": IDS["alice"]}
    assert alice.run("find", "c", db="other", filter={}, lsid=lsid)["code"] == 13
    assert [session.user for session in server.sessions] == ["alice@app"]
