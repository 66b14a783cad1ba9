"""Late transactions of users who have left end through who may act for everybody."""

from __future__ import annotations

from typing import Any

import pymongo
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from proxy.embedded import EmbeddedUpstream, EmbeddedUser
from tests.end_to_end.tools import proxy_before, pymongo_at
from tests.patience import until
from tests.running import in_time

ALICE = EmbeddedUser("alice", "app", "wonderland", (("readWrite", "app"),))
ADMIN = EmbeddedUser("olivia", "admin", "operations", (("clusterAdmin", "admin"),))
ROUTER = EmbeddedUser("router", "admin", "shards", (("__system", "admin"),))
GUARD = {"transaction_guard": {"total_seconds": 60.0}}


def login(who: EmbeddedUser) -> dict[str, Any]:
    return {"username": who.name, "password": who.password, "authSource": who.database}


def leave_one_open(client: pymongo.MongoClient[dict[str, Any]]) -> None:
    client.app.create_collection("c")
    session = client.start_session()
    session.start_transaction()
    client.app.c.insert_one({"_id": 1}, session=session)
    # Only the driver forgets it.
    session._transaction.reset()


def count(client: pymongo.MongoClient[dict[str, Any]]) -> int:
    client.app.c.update_one({"_id": 2}, {"$set": {"a": 1}}, upsert=True)
    return client.app.c.count_documents({})


@in_time
async def test_the_guard_asks_a_router_where_the_owner_has_no_connection(clock: MockClock) -> None:
    users = (ALICE, ADMIN, ROUTER)
    upstream = EmbeddedUpstream(authorization=True, users=users, version="7.0")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(upstream.serve, "127.0.0.1", 0)
        async with proxy_before(port, policies=GUARD) as running:
            store = running.server.clusters[0].sessions_shared.store
            async with pymongo_at(running, **login(ALICE)) as alice:
                await alice.run(leave_one_open)
            assert store.open_transactions == 1
            # An administrator may kill what is others', not speak for them.
            async with pymongo_at(running, **login(ADMIN)) as admin:
                await admin.command("ping")
                clock.jump(60)
                for _ in range(5):
                    clock.jump(1)
                    await wait_all_tasks_blocked(0.01)
                assert store.open_transactions == 1
                assert not upstream.node.counters["abortTransaction"]
            async with pymongo_at(running, **login(ROUTER)) as router:
                await router.command("ping")
                clock.jump(1)
                await until(lambda: not store.open_transactions)
                assert upstream.node.counters["abortTransaction"] == 1
                assert await router.run(count) == 1
        nursery.cancel_scope.cancel()
