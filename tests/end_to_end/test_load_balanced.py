"""In front of the load balancer port of a mongos, which the embedded server plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest
import trio
from pymongo.errors import PyMongoError

from proxy.addresses import Address
from proxy.embedded import EmbeddedUpstream, EmbeddedUser
from proxy.process.server import Running
from proxy.wire.proxy_header import header_for
from tests.build import command
from tests.end_to_end.tools import Log, proxy_before, pymongo_at
from tests.running import Client, in_time
from tests.upstreams import document

ALICE = EmbeddedUser("alice", "admin", "wonderland", (("root", "admin"),))


@asynccontextmanager
async def before_mongos(
    log: Log | None = None, *, header: bool = True, **tables: Any
) -> AsyncIterator[tuple[EmbeddedUpstream, Running]]:
    mongos = EmbeddedUpstream(balanced=True, version="7.0", authorization=True, users=[ALICE])
    async with trio.open_nursery() as nursery:
        port = await nursery.start(mongos.serve)
        tables["upstream"] = {"proxy_protocol": header, **tables.get("upstream", {})}
        async with proxy_before(port, log=log or Log(), **tables) as running:
            yield mongos, running
        nursery.cancel_scope.cancel()


def uri(running: Running) -> str:
    return f"mongodb://alice:wonderland@{running.addresses[0]}/?loadBalanced=true"


@in_time
async def test_a_driver_with_load_balanced_works_and_pins_what_it_should() -> None:
    def work(client: pymongo.MongoClient[dict[str, Any]]) -> tuple[int, int, list[int]]:
        shop = client.shop.orders
        shop.insert_many([{"_id": number} for number in range(50)])
        open_ones = [shop.find(batch_size=5) for _ in range(3)]
        begun = [next(one)["_id"] for one in open_ones]
        with client.start_session() as session, session.start_transaction():
            shop.insert_one({"_id": "in a transaction"}, session=session)
            found = shop.count_documents({}, session=session)
        counts = [len(list(one)) for one in open_ones]
        return found, begun[0], counts

    async with before_mongos() as (mongos, running), pymongo_at(uri(running)) as driver:
        assert await driver.run(work) == (51, 0, [49, 49, 49])
        # Cursors and transactions stay on the connection on which they began.
        assert driver.client.topology_description.topology_type_name == "LoadBalanced"
        drivers = {client.address for client in mongos.node.clients.values() if client.users}
        shown = {row["client"] for row in running.server.connections() if row["user"]}
        assert drivers == shown
        assert len(drivers) >= 4


@in_time
async def test_a_hello_through_a_balancer_passes_as_it_is() -> None:
    async with before_mongos() as (mongos, running):
        client = await Client.connect(running)
        answer = await client.ask(command({"hello": 1, "loadBalanced": True, "$db": "admin"}, 1))
        assert answer is not None
        said = document(answer)
        assert said["serviceId"] == mongos.node.service_id
        assert said["msg"] == "isdbgrid"
        assert "hosts" not in said
        await client.close()
        plain = await Client.connect(running)
        answer = await plain.ask(command({"hello": 1, "$db": "admin"}, 1))
        assert answer is not None
        assert document(answer)["code"] == 354
        await plain.close()


@in_time
async def test_upstream_sees_the_client_that_a_balancer_names(tmp_path: Path) -> None:
    """One header comes in, and the same client goes on, also through a unix socket."""
    path = str(tmp_path / "proxy.sock")
    seen = Address("2001:db8::7", 50_001)
    reached = Address("192.0.2.9", 27_017)
    for listen in ({}, {"address": path}):
        tables = {"listen": {"proxy_protocol": "require", **listen}}
        async with before_mongos(**tables) as (mongos, running):
            if listen:
                client = Client(await trio.open_unix_socket(path))
            else:
                client = await Client.connect(running)
            await client.send(header_for(seen, reached))
            hello = {"hello": 1, "loadBalanced": True, "$db": "admin"}
            assert await client.ask(command(hello, 1))
            known = [one.address for one in mongos.node.clients.values()]
            assert str(seen) in known
            await client.close()


@in_time
async def test_without_the_setting_both_sides_say_what_is_wrong() -> None:
    log = Log()
    async with before_mongos(log, header=False, upstream={"hello": "pass"}) as (_, running):
        line = await log.line("member")
        assert "PROXY header" in line["problem"]
        client = await Client.connect(running)
        assert await client.ask(command({"hello": 1, "$db": "admin"}, 1)) is None
        line = await log.line("wrong protocol", side="upstream", protocol="nothing")
        assert "PROXY header" in line["problem"]
        await client.close()


@in_time
async def test_a_driver_that_does_not_know_of_it_is_told_by_upstream() -> None:
    async with before_mongos() as (_, running):
        where = uri(running).replace("loadBalanced=true", "serverSelectionTimeoutMS=300")
        async with pymongo_at(where, serverSelectionTimeoutMS=300) as driver:
            with pytest.raises(PyMongoError, match="load balanc"):
                await driver.command("ping")
