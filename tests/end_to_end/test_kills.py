"""What survives a kill: two users, each with an open cursor in a session of their own."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.session.identity import user_digest
from tests.embedded.support import USERS, node
from tests.proxied import ProxiedClient, Proxy

ALICE, BOB = Binary(b"a" * 16, 4), Binary(b"b" * 16, 4)
ALICES, BOBS = (Binary(user_digest(name, "app"), 0) for name in ("alice", "bob"))
NAMED = {"alice": {"user": "alice", "db": "app"}, "bob": {"user": "bob", "db": "app"}}
NOBODYS_ROLE = {"role": "a role nobody has", "db": "admin"}

ALIVE, KILLED = True, False
#: The oldest and the newest server, and one between that differs from both.
VERSIONS = ("4.2", "6.0", "8.2")


class Owner:
    """A user with an open cursor."""

    def __init__(self, proxy: Proxy, name: str, session: Binary) -> None:
        self.client = proxy.connect()
        assert self.client.log_in(name, "app")["done"]
        self.lsid = {"id": session}
        if not self.client.run("count", "things", db="app")["n"]:
            self.client.run("insert", "things", db="app", documents=[{"_id": n} for n in range(9)])
        opened = self.client.run("find", "things", db="app", batchSize=1, lsid=self.lsid)
        self.cursor = opened["cursor"]["id"]

    def alive(self) -> bool:
        reply = self.client.run(
            "getMore", self.cursor, db="app", collection="things", batchSize=1, lsid=self.lsid
        )
        assert reply["ok"] == 1.0 or reply["code"] == 43
        return reply["ok"] == 1.0


def logged_in(proxy: Proxy, name: str, database: str) -> ProxiedClient:
    client = proxy.connect()
    assert client.log_in(name, database)["done"]
    return client


@pytest.mark.parametrize(
    ("command", "argument", "by", "code", "alices", "bobs"),
    [
        ("killAllSessionsByPattern", [{"users": [NAMED["bob"]]}], "imp", None, ALIVE, KILLED),
        ("killAllSessionsByPattern", [{"roles": [NOBODYS_ROLE]}], "imp", None, ALIVE, ALIVE),
        (
            "killAllSessionsByPattern",
            [{"roles": [{"role": "readWrite", "db": "app"}]}],
            "imp",
            None,
            KILLED,
            KILLED,
        ),
        (
            "killAllSessionsByPattern",
            [{"uid": BOBS, "roles": [NOBODYS_ROLE]}],
            "imp",
            None,
            ALIVE,
            ALIVE,
        ),
        (
            "killAllSessionsByPattern",
            [{"uid": BOBS}, {"roles": [NOBODYS_ROLE]}],
            "imp",
            None,
            ALIVE,
            KILLED,
        ),
        ("killAllSessionsByPattern", [{"uid": BOBS}], "root", None, ALIVE, KILLED),
        (
            "killAllSessionsByPattern",
            [{"lsid": {"id": ALICE, "uid": ALICES}}],
            "root",
            None,
            KILLED,
            ALIVE,
        ),
        ("killAllSessionsByPattern", [{"lsid": {"id": ALICE}}], "root", None, KILLED, ALIVE),
        (
            "killAllSessionsByPattern",
            [{"lsid": {"id": ALICE}, "uid": BOBS}],
            "root",
            None,
            ALIVE,
            ALIVE,
        ),
        ("killAllSessionsByPattern", [{}], "root", None, KILLED, KILLED),
        ("killAllSessionsByPattern", [], "root", None, KILLED, KILLED),
        ("killAllSessionsByPattern", [{"users": [NAMED["bob"]]}], "root", 13, ALIVE, ALIVE),
        ("killAllSessions", [NAMED["bob"]], "root", None, ALIVE, KILLED),
        ("killAllSessions", [], "root", None, KILLED, KILLED),
        ("killSessions", [], "alice", None, KILLED, ALIVE),
        ("killSessions", [{"id": BOB}], "alice", None, ALIVE, ALIVE),
        ("killSessions", [{"id": BOB, "uid": BOBS}], "alice", 13, ALIVE, ALIVE),
        ("killSessions", [{"id": BOB, "uid": BOBS}], "root", None, ALIVE, KILLED),
        ("killAllSessions", [NAMED["alice"]], "alice", None, KILLED, ALIVE),
        ("killAllSessions", [NAMED["bob"]], "alice", 13, ALIVE, ALIVE),
        ("killAllSessions", [], "alice", 13, ALIVE, ALIVE),
        ("killAllSessionsByPattern", [{"uid": ALICES}], "alice", None, KILLED, ALIVE),
        ("killAllSessionsByPattern", [{"uid": BOBS}], "alice", 13, ALIVE, ALIVE),
        ("killAllSessionsByPattern", [{}], "alice", 13, ALIVE, ALIVE),
        ("killAllSessionsByPattern", [{"lsid": {"id": ALICE}}], "alice", None, KILLED, ALIVE),
        ("killAllSessionsByPattern", [{"lsid": {"id": BOB}}], "alice", None, ALIVE, ALIVE),
        ("killSessions", [None], "root", 14, ALIVE, ALIVE),
        ("killAllSessions", [None], "root", 14, ALIVE, ALIVE),
        ("killAllSessionsByPattern", [None], "root", 14, ALIVE, ALIVE),
        ("killSessions", [{"id": ALICE}, None], "root", 14, ALIVE, ALIVE),
        ("killSessions", {}, "root", 14, ALIVE, ALIVE),
        ("killAllSessions", {}, "root", 14, ALIVE, ALIVE),
        ("killAllSessionsByPattern", {}, "root", 14, ALIVE, ALIVE),
        ("endSessions", [{"id": ALICE}], "alice", None, ALIVE, ALIVE),
    ],
)
@pytest.mark.parametrize("native", [True, False], ids=["native", "emulated"])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_survives(
    command: str,
    argument: Any,
    by: str,
    code: int | None,
    alices: bool,
    bobs: bool,
    native: bool,
    version: str,
) -> None:
    proxy = Proxy(node(authorization=True, users=USERS, version=version), native=native)
    alice, bob = Owner(proxy, "alice", ALICE), Owner(proxy, "bob", BOB)
    caller = logged_in(proxy, by, "app" if by == "alice" else "admin")
    reply = caller.run(command, argument, lsid={"id": Binary(b"k" * 16, 4)})
    assert reply.get("code") == code
    assert (alice.alive(), bob.alive()) == (alices, bobs)


@pytest.mark.parametrize("native", [True, False], ids=["native", "emulated"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_killed_transaction_is_gone_and_its_session_goes_on(native: bool, version: str) -> None:
    proxy = Proxy(node(authorization=True, users=USERS, version=version), native=native)
    alice = logged_in(proxy, "alice", "app")
    lsid = {"id": ALICE}
    started = {"lsid": lsid, "txnNumber": Int64(1), "autocommit": False}
    alice.run("insert", "things", db="app", documents=[{"_id": 1}])
    alice.run(
        "insert", "things", db="app", documents=[{"_id": 2}], startTransaction=True, **started
    )
    assert logged_in(proxy, "root", "admin").run("killAllSessions", [NAMED["alice"]])["ok"]
    gone = alice.run("commitTransaction", **started)
    assert (gone["code"], gone["errorLabels"]) == (251, ["TransientTransactionError"])
    assert alice.run("count", "things", db="app")["n"] == 1
    again = {**started, "txnNumber": Int64(2)}
    alice.run("insert", "things", db="app", documents=[{"_id": 3}], startTransaction=True, **again)
    assert alice.run("commitTransaction", **again)["ok"]
    assert alice.run("count", "things", db="app")["n"] == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_two_users_with_one_uuid_never_meet(version: str) -> None:
    proxy = Proxy(node(authorization=True, users=USERS, version=version))
    alice, bob = Owner(proxy, "alice", ALICE), Owner(proxy, "bob", ALICE)
    stolen = bob.client.run(
        "getMore", alice.cursor, db="app", collection="things", lsid={"id": ALICE}
    )
    assert stolen["code"] == 13
    assert bob.client.run("killSessions", [{"id": ALICE}])["ok"]
    assert alice.alive()
    assert not bob.alive()
    listed = bob.client.run("aggregate", 1, pipeline=[{"$listLocalSessions": {}}], cursor={})
    owners = {entry["user"] for entry in listed["cursor"]["firstBatch"]}
    assert owners == {"bob@app"}
