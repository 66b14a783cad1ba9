"""The API parameters of a transaction's first command, in the aborts that the proxy makes."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from bson import Int64
from trio.testing import MockClock, wait_all_tasks_blocked

from proxy.embedded import EmbeddedUpstream
from proxy.embedded.transactions import State
from proxy.embedded.versions import VERSIONS
from tests.embedded.support import USERS, node
from tests.end_to_end.test_sessions_live import new_lsid, run
from tests.end_to_end.tools import Log, proxy_before
from tests.patience import until
from tests.proxied import ProxiedClient, Proxy
from tests.running import Client, in_time

FORMS: list[dict[str, Any]] = [
    {},
    {"apiVersion": "1"},
    {"apiVersion": "1", "apiStrict": False},
    {"apiStrict": True, "apiVersion": "1"},
    {"apiDeprecationErrors": True, "apiStrict": True, "apiVersion": "1"},
    {"apiVersion": "1", "apiStrict": None, "apiDeprecationErrors": False},
]
#: All that know the parameters, and one that does not.
ASKED = [name for name in VERSIONS if VERSIONS[name].stable_api]
GUARD = {"transaction_guard": {"total_seconds": 60.0}}


def begin(client: ProxiedClient, lsid: dict[str, Any], **api: Any) -> None:
    reply = client.run(
        "find", "c", db="app", lsid=lsid, txnNumber=Int64(1), autocommit=False,
        startTransaction=True, **api,
    )  # fmt: skip
    assert reply["ok"], reply


def test_the_versions_that_are_tried() -> None:
    assert {"4.9", "5.0", "6.0", "7.0", "8.0", "8.2"} <= set(ASKED)


@pytest.mark.parametrize("version", ASKED)
@pytest.mark.parametrize("required", [False, True], ids=["", "required"])
def test_an_emulated_kill_repeats_what_the_transaction_began_with(
    version: str, required: bool
) -> None:
    # 4.9 can continue no transaction where parameters are demanded, nor abort one.
    if required and not VERSIONS[version].api_repeated:
        pytest.skip("4.9 cannot do this")
    proxy = Proxy(node(authorization=True, users=USERS, version=version), native=False)
    alice = proxy.connect()
    assert alice.log_in("alice", "app")["done"]
    lsids = []
    for api in FORMS[required:]:
        lsids.append(new_lsid())
        begin(alice, lsids[-1], **api)
    proxy.server.parameters["requireApiVersion"] = required
    if required:
        proxy.look()
    store = proxy.sessions.store
    assert store.open_transactions == len(lsids)
    strictly = {"apiVersion": "1"} if required else {}
    assert alice.run("killSessions", lsids, **strictly)["ok"]
    assert store.open_transactions == 0
    left = [one.transaction.state for one in proxy.server.sessions]
    assert State.OPEN not in left
    assert left.count(State.ABORTED) == len(lsids)


@pytest.mark.parametrize("version", ["4.4", *ASKED])
@in_time
async def test_the_guard_ends_transactions_of_every_form(version: str, clock: MockClock) -> None:
    upstream = EmbeddedUpstream(version=version)
    forms = FORMS if VERSIONS[version].stable_api else FORMS[:1]
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve, "127.0.0.1", 0)
        log = Log()
        async with proxy_before(port, log=log, policies=GUARD) as running:
            client = await Client.connect(running)
            store = running.server.clusters[0].sessions_shared.store
            for api in forms:
                txn = {"lsid": new_lsid(), "txnNumber": Int64(1), "autocommit": False}
                assert (await run(client, "find", "c", startTransaction=True, **txn, **api))["ok"]
            assert store.open_transactions == len(forms)
            clock.jump(60)
            await until(lambda: not store.open_transactions)
            ended = [one.transaction.state for one in upstream.node.sessions]
            assert ended.count(State.ABORTED) == len(forms)
            assert State.OPEN not in ended
            assert not log.lines("upstream does not let a late transaction be aborted")
            await client.close()
        nursery.cancel_scope.cancel()


@in_time
async def test_the_guard_gives_up_what_upstream_never_lets_end(clock: MockClock) -> None:
    upstream = EmbeddedUpstream(version="8.0")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve, "127.0.0.1", 0)
        log = Log()
        guard = {"transaction_guard": {"total_seconds": 5.0}}
        async with proxy_before(port, log=log, policies=guard) as running:
            client = await Client.connect(running)
            txn = {"lsid": new_lsid(), "txnNumber": Int64(1), "autocommit": False}
            assert (await run(client, "find", "c", startTransaction=True, **txn))["ok"]
            # From now on neither an abort with parameters is right nor one without.
            upstream.node.parameters["requireApiVersion"] = True
            message = "upstream does not let a late transaction be aborted"
            while not log.lines(message):
                clock.jump(1)
                await wait_all_tasks_blocked(0.002)
            for _ in range(20):
                clock.jump(1)
                await wait_all_tasks_blocked(0.002)
            [told] = log.lines(message)
            assert (told["code"], told["txn_number"]) == (498870, 1)
            assert upstream.node.counters["abortTransaction"] == 5
            await client.close()
        nursery.cancel_scope.cancel()
