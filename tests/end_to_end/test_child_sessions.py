"""Child sessions through the proxy, in front of servers of every version."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.embedded.transactions import State
from proxy.listing import TRANSACTIONS, open_transactions, transaction_row
from proxy.session.identity import NO_OWNER, user_digest
from proxy.session.ids import LogicalSessionId
from tests.embedded.support import NOW, USERS, node
from tests.embedded.versions import SYSTEM, before, since
from tests.proxied import ProxiedClient, Proxy

ID = Binary(b"a" * 16, 4)
UID = Binary(user_digest("alice", "app"))
LSID = {"id": ID, "uid": UID}
CHILD = {**LSID, "txnUUID": Binary(b"t" * 16, 4)}
RETRIED = {**LSID, "txnNumber": Int64(7), "txnUUID": Binary(b"u" * 16, 4)}
TXN = {"txnNumber": Int64(0), "autocommit": False}
BEGIN = {**TXN, "startTransaction": True}
PARENT = LogicalSessionId(bytes(ID), bytes(UID))


def behind(version: str, *, authorization: bool = True, **how: Any) -> Proxy:
    users = (*USERS, SYSTEM) if authorization else ()
    return Proxy(node(authorization=authorization, users=users, version=version), **how)


def logged_in(proxy: Proxy, name: str, database: str) -> ProxiedClient:
    client = proxy.connect()
    assert client.log_in(name, database)["done"]
    return client


def in_progress(proxy: Proxy) -> list[Any]:
    return [one for some in open_transactions(proxy.sessions.store) for one in some]


def rows(proxy: Proxy) -> list[dict[str, Any]]:
    return [transaction_row(one, NOW) for one in in_progress(proxy)]


def states(proxy: Proxy) -> list[State]:
    return [
        one.state for s in proxy.server.sessions for one in (s.transaction, *s.children.values())
    ]


def insert(client: ProxiedClient, key: str, lsid: dict[str, Any], **more: Any) -> dict[str, Any]:
    return client.run("insert", "c", db="app", documents=[{"_id": key}], lsid=lsid, **more)


@pytest.mark.parametrize("version", since("6.0"))
def test_each_open_transaction_is_one_row(version: str) -> None:
    proxy = behind(version)
    system = logged_in(proxy, "__system", "local")
    logged_in(proxy, "alice", "app")
    parents = {"txnNumber": Int64(5), "autocommit": False}
    assert insert(system, "p", LSID, **parents, startTransaction=True)["ok"]
    assert insert(system, "c", CHILD, **BEGIN, stmtIds=[-1])["ok"]
    assert insert(system, "r", RETRIED, **BEGIN, stmtId=0)["ok"]
    store = proxy.sessions.store
    assert (len(store), store.open_transactions) == (1, 3)
    found = rows(proxy)
    assert {row["session"] for row in found} == {"61616161-6161-6161-6161-616161616161"}
    assert {row["owner"] for row in found} == {"alice@app"}
    tee, you = "74747474-7474-7474-7474-747474747474", "75757575-7575-7575-7575-757575757575"
    assert [(row["child"], row["txn_number"], row["statements"]) for row in found] == [
        (None, 5, 1),
        (f" - {tee}", 0, 1),
        (f"7 - {you}", 0, 1),
    ]
    items = in_progress(proxy)
    assert len({TRANSACTIONS.identity(one) for one in items}) == 3
    assert system.run("commitTransaction", lsid=CHILD, **TXN)["ok"]
    assert system.run("abortTransaction", lsid=RETRIED, **TXN)["ok"]
    assert [row["child"] for row in rows(proxy)] == [None]
    assert insert(system, "r", RETRIED, **{**BEGIN, "txnNumber": Int64(1)})["ok"]
    assert [row["txn_number"] for row in rows(proxy)] == [5, 1]
    # Nothing of this was out of order, or wrong.
    assert [
        one for one in proxy.recorder.seen if one[0] in ("incident", "malformed", "ruled")
    ] == []


@pytest.mark.parametrize("version", since("6.0"))
@pytest.mark.parametrize(
    ("by", "command", "argument"),
    [
        ("alice@app", "killSessions", [{"id": ID}]),
        ("alice@app", "killSessions", []),
        ("alice@app", "killAllSessions", [{"user": "alice", "db": "app"}]),
        ("killer@admin", "killAllSessions", []),
        ("killer@admin", "killAllSessionsByPattern", [{"uid": UID}]),
        ("killer@admin", "killAllSessionsByPattern", [{"lsid": LSID}]),
        ("__system@local", "killAllSessionsByPattern", [{"lsid": LSID, "users": [], "roles": []}]),
    ],
)
def test_they_die_with_their_parents(
    version: str, by: str, command: str, argument: list[Any]
) -> None:
    proxy = behind(version)
    system = logged_in(proxy, "__system", "local")
    assert insert(system, "c", CHILD, **BEGIN)["ok"]
    assert insert(system, "r", RETRIED, **BEGIN)["ok"]
    killer = system if by == "__system@local" else logged_in(proxy, *by.split("@"))
    assert proxy.sessions.store.open_transactions == 2
    assert killer.run(command, argument)["ok"]
    assert proxy.sessions.store.open_transactions == 0
    assert states(proxy).count(State.ABORTED) == 2
    assert State.OPEN not in states(proxy)


@pytest.mark.parametrize("version", since("6.0"))
@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("killSessions", [CHILD]),
        ("killSessions", [CHILD, RETRIED, {"id": Binary(b"x" * 16, 4)}]),
        ("killSessions", [{"id": ID, "txnUUID": Binary(b"t" * 16, 4)}]),
    ],
)
def test_to_kill_a_child_kills_nobody(version: str, command: str, argument: list[Any]) -> None:
    proxy = behind(version)
    system = logged_in(proxy, "__system", "local")
    assert insert(system, "c", CHILD, **BEGIN)["ok"]
    assert insert(system, "p", LSID, **BEGIN)["ok"]
    alice = logged_in(proxy, "alice", "app")
    direct = [alice.run(command, argument), logged_in(proxy, "alice", "app").run("ping")]
    assert [one["ok"] for one in direct] == [1.0, 1.0]
    assert proxy.sessions.store.open_transactions == 2
    assert states(proxy).count(State.OPEN) == 2


@pytest.mark.parametrize("version", since("6.0"))
@pytest.mark.parametrize("native", [True, False], ids=["native", "emulated"])
def test_child_ids_in_lists(version: str, native: bool) -> None:
    proxy = behind(version, native=native)
    alice = logged_in(proxy, "alice", "app")
    ended = alice.run("endSessions", [{"id": ID}, CHILD])
    assert ended["code"] == 72
    assert ended["errmsg"].startswith("Cannot specify a child session id 61616161-")
    assert ended["errmsg"].endswith(" -  - 74747474-7474-7474-7474-747474747474")
    alone = {"id": ID, "txnNumber": Int64(1)}
    for command in ("endSessions", "refreshSessions", "killSessions"):
        reply = alice.run(command, [alone])
        words = "Cannot specify txnNumber in lsid without specifying txnUUID"
        assert (reply["code"], reply["errmsg"]) == (72, words)
    assert alice.run("refreshSessions", [CHILD, RETRIED])["ok"]
    assert PARENT in proxy.sessions.store
    assert len(proxy.sessions.store) == 1
    killer = logged_in(proxy, "killer", "admin")
    reply = killer.run("killAllSessionsByPattern", [{"lsid": CHILD}])
    assert (reply["code"], reply["errmsg"]) == (72, "Cannot kill a child session")


@pytest.mark.parametrize("version", since("6.0"))
@pytest.mark.parametrize("early", [False, True], ids=["upstream's", "the proxy's"])
@pytest.mark.parametrize(
    ("lsid", "more", "words"),
    [
        (CHILD, BEGIN, "Internal sessions are only allowed for internal clients"),
        (RETRIED, BEGIN, "Internal sessions are only allowed for internal clients"),
        (CHILD, {}, "Internal sessions are only allowed for internal clients"),
        (
            {**LSID, "txnNumber": Int64(7)},
            BEGIN,
            "Cannot specify txnNumber in lsid without specifying txnUUID",
        ),
        (
            LSID,
            {**BEGIN, "txnRetryCounter": 1},
            "txnRetryCounter is only allowed for internal clients",
        ),
    ],
)
def test_they_are_for_servers(
    version: str, early: bool, lsid: dict[str, Any], more: dict[str, Any], words: str
) -> None:
    proxy = behind(version)
    proxy.sessions.refuse_early = early
    alice = logged_in(proxy, "alice", "app")
    reply = insert(alice, "x", lsid, **more)
    assert (reply["code"], reply["codeName"], reply["errmsg"]) == (72, "InvalidOptions", words)
    assert proxy.sessions.store.open_transactions == 0
    assert proxy.recorder.only("malformed") == [(72,)]
    assert proxy.recorder.only("surprised") == []
    if "txnRetryCounter" not in more:
        assert len(proxy.sessions.store) == 0
    # The connection is as good as ever.
    assert insert(alice, "y", {"id": ID})["ok"]


@pytest.mark.parametrize("version", before("6.0"))
@pytest.mark.parametrize("lsid", [CHILD, RETRIED, {**LSID, "txnNumber": Int64(7)}])
def test_older_servers_know_none(version: str, lsid: dict[str, Any]) -> None:
    proxy = behind(version)
    alice = logged_in(proxy, "alice", "app")
    reply = alice.run("find", "c", db="app", lsid=lsid, **BEGIN)
    assert reply["code"] == 40415
    assert reply["errmsg"].endswith("' is an unknown field.")
    assert proxy.recorder.only("malformed") == [(40415,)]
    assert proxy.sessions.store.open_transactions == 0


@pytest.mark.parametrize("version", since("6.0"))
def test_without_authorization_everybody_may_use_them(version: str) -> None:
    proxy = behind(version, authorization=False)
    client = proxy.connect()
    bare = {"id": ID, "txnUUID": Binary(b"t" * 16, 4)}
    assert insert(client, "c", bare, **BEGIN, stmtIds=[-1])["ok"]
    two = client.run(
        "insert", "c", db="app", documents=[{}, {}], lsid=bare, **TXN, stmtIds=[-1, -1]
    )
    assert two["ok"]
    [row] = rows(proxy)
    assert row["uid"] == NO_OWNER.hex()
    assert proxy.recorder.seen == [one for one in proxy.recorder.seen if one[0] != "malformed"]
    # As strict as ever to everybody else, and to what servers never send.
    for lsid, ids in (({"id": ID}, [-1]), ({"id": ID}, [0, 0]), (bare, [3, 3]), (bare, [-2])):
        documents = [{} for _ in ids]
        refused = client.run(
            "insert", "c", db="app", documents=documents, lsid=lsid, **TXN, stmtIds=ids
        )
        assert (refused["code"], refused["codeName"]) == (2, "BadValue")
    assert client.run("commitTransaction", lsid=bare, **TXN)["ok"]
    assert rows(proxy) == []


@pytest.mark.parametrize("version", since("6.0"))
def test_statement_ids_of_servers_are_left_alone(version: str) -> None:
    proxy = behind(version)
    system = logged_in(proxy, "__system", "local")
    for number, (lsid, ids) in enumerate(((CHILD, [-1, -1]), (RETRIED, [-1, -1]), (LSID, [-1, 4]))):
        fields = {"txnNumber": Int64(number), "autocommit": False, "startTransaction": True}
        documents = [{"_id": f"{number}{n}"} for n in range(2)]
        reply = system.run(
            "insert", "c", db="app", documents=documents, lsid=lsid, stmtIds=ids, **fields
        )
        assert reply["ok"], reply
    alice = logged_in(proxy, "alice", "app")
    for ids in ([-1], [-1, -1], [0, 0], [1, 0]):
        documents = [{} for _ in ids]
        txn = {"txnNumber": Int64(9)}
        reply = alice.run(
            "insert", "c", db="app", documents=documents, lsid={"id": ID}, stmtIds=ids, **txn
        )
        assert (reply["code"], reply["codeName"]) == (2, "BadValue")
