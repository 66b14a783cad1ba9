"""Servers of every version behind the proxy, as a driver and as bare clients see them."""

from __future__ import annotations

import pytest
import trio
from bson import Binary, Int64

from proxy.embedded import EmbeddedUpstream
from proxy.embedded.versions import VERSIONS
from tests.embedded.support import USERS, node
from tests.embedded.test_drivers import ALICE, SUPPORTED, converse, converse_strictly
from tests.embedded.versions import SYSTEM, since
from tests.proxied import ProxiedClient, Proxy
from tests.running import in_time, port_of, proxied

LSID = {"id": Binary(b"a" * 16, 4)}
CHILD = {**LSID, "txnUUID": Binary(b"t" * 16, 4)}
TRANSACTION = {"txnNumber": Int64(1), "autocommit": False}


@pytest.mark.parametrize("version", SUPPORTED)
@in_time
async def test_pymongo_feels_at_home_through_the_proxy(version: str) -> None:
    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream(version=version, authorization=True, users=(ALICE,))
        port = await nursery.start(upstream.serve)
        async with proxied(port) as running:
            await trio.to_thread.run_sync(converse, port_of(running), version)
            if VERSIONS[version].api_repeated:
                await trio.to_thread.run_sync(converse_strictly, port_of(running))
        nursery.cancel_scope.cancel()


def logged_in(proxy: Proxy, name: str, database: str) -> ProxiedClient:
    client = proxy.connect()
    assert client.log_in(name, database)["done"]
    return client


@pytest.mark.parametrize("version", since("7.0"))
@pytest.mark.parametrize("native", [True, False], ids=["native", "emulated"])
def test_a_login_that_expires(version: str, native: bool) -> None:
    proxy = Proxy(node(authorization=True, users=USERS, version=version), native=native)
    alice = logged_in(proxy, "alice", "app")
    assert alice.run("find", "c", db="app", lsid=LSID)["ok"]
    assert proxy.server.expire_logins("alice@app")
    for name, value in (("find", "c"), ("killSessions", [LSID]), ("refreshSessions", [LSID])):
        reply = alice.run(name, value, db="app", lsid=LSID)
        assert (name, reply.get("code")) == (name, 391)
    assert alice.log_in("bob", "app")["code"] == 5626701
    assert alice.log_in("alice", "app")["done"]
    for name, value in (("find", "c"), ("killSessions", [LSID]), ("refreshSessions", [LSID])):
        assert alice.run(name, value, db="app", lsid=LSID)["ok"]


@pytest.mark.parametrize("native", [True, False], ids=["native", "emulated"])
@pytest.mark.parametrize("every", [2, 3, 5])
def test_requests_refused_by_rate(native: bool, every: int) -> None:
    proxy = Proxy(node(authorization=True, users=USERS, version="8.2"), native=native)
    alice = logged_in(proxy, "alice", "app")
    proxy.server.reject_every = every
    asked = (("find", "c"), ("killSessions", [LSID]), ("startSession", 1), ("ping", 1))
    codes = {
        alice.run(name, value, db="app").get("code") for _ in range(12) for name, value in asked
    }
    assert codes == {None, 462}
    proxy.server.reject_every = 0
    assert alice.run("killSessions", [LSID])["ok"]


@pytest.mark.parametrize("version", since("6.0"))
def test_child_sessions_of_other_servers(version: str) -> None:
    proxy = Proxy(node(authorization=True, users=(*USERS, SYSTEM), version=version), native=True)
    system = logged_in(proxy, "__system", "local")
    insert = {"documents": [{"_id": 1}], "db": "app"}
    begun = {**TRANSACTION, "startTransaction": True}
    assert system.run("insert", "c", **insert, lsid=CHILD, **begun)["ok"]
    assert system.run("commitTransaction", lsid=CHILD, **TRANSACTION)["ok"]
    assert system.run("count", "c", db="app")["n"] == 1
    reply = logged_in(proxy, "alice", "app").run("find", "c", db="app", lsid=CHILD, **begun)
    assert (reply["code"], reply["errmsg"]) == (
        72,
        "Internal sessions are only allowed for internal clients",
    )
    # As mongos passes on a killSessions of somebody.
    again = {**begun, "txnNumber": Int64(2)}
    insert["documents"] = [{"_id": 2}]
    assert system.run("insert", "c", **insert, lsid=CHILD, **again)["ok"]
    caller = {"users": [{"user": "alice", "db": "app"}], "roles": []}
    (mine,) = proxy.server.sessions.matching(lambda key: key.id == bytes(LSID["id"]))
    pattern = {"lsid": {**LSID, "uid": Binary(mine.key.uid, 0)}, **caller}
    assert system.run("killAllSessionsByPattern", [pattern])["ok"]
    ended = system.run("commitTransaction", lsid=CHILD, autocommit=False, txnNumber=Int64(2))
    assert ended["code"] == 251
