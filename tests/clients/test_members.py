"""PyMongo follows a replica set of several members through the proxy, and never around it."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pymongo
import trio
from pymongo.read_preferences import Secondary

from proxy.process.server import serve
from proxy.settings.config import Config
from tests.clients.fake_set import FakeSet, name_of
from tests.patience import PATIENCE


@asynccontextmanager
async def behind_the_proxy(*, seeds: int = 1, members: int = 3, prepare=lambda fake: None):
    """A set whose first member is primary, the proxy in front of it, and a client of that."""
    async with trio.open_nursery() as nursery:
        fake = FakeSet(nursery)
        for _ in range(members):
            await fake.add()
        fake.primary = fake.ports[0]
        prepare(fake)
        address = ",".join(name_of(port) for port in fake.ports[:seeds])
        settings = {
            "listen": {"address": "127.0.0.1:0"},
            "upstream": {"address": f"mongodb://{address}/?replicaSet=fake", "watch_seconds": 1},
            "admin": {"address": ""},
        }
        running = await nursery.start(serve, Config.model_validate(settings))
        # A driver finds all members from any of them.
        client = pymongo.MongoClient(
            f"mongodb://{running.addresses[0]}/?replicaSet=fake",
            heartbeatFrequencyMS=500,
            serverSelectionTimeoutMS=PATIENCE * 1000,
            # A busy machine makes no member too distant.
            localThresholdMS=60_000,
        )
        try:
            yield fake, client, int(running.addresses[0].rpartition(":")[2])
        finally:
            await trio.to_thread.run_sync(client.close)
            nursery.cancel_scope.cancel()


async def nodes(client, count: int, *, data_bearing: int | None = None) -> set[str]:
    """The addresses that the driver knows, as soon as it knows ``count`` and could use them."""
    usable = count if data_bearing is None else data_bearing
    with trio.fail_after(PATIENCE):
        while True:
            servers = client.topology_description.server_descriptions()
            known = [server for server in servers.values() if server.is_server_type_known]
            readable = [server for server in known if server.is_readable]
            if len(servers) == len(known) == count and len(readable) == usable:
                return {"{}:{}".format(*address) for address in servers}
            await trio.sleep(0.05)


async def found(client, preference) -> int:
    collection = client["app"]["c"].with_options(read_preference=preference)
    return (await trio.to_thread.run_sync(collection.find_one))["_id"]


async def test_all_members_are_found_at_the_proxy(nursery):
    async with behind_the_proxy() as (fake, client, first):
        await trio.to_thread.run_sync(client.admin.command, "ping")
        known = await nodes(client, 3)
        assert name_of(first) in known
        assert not known & set(map(name_of, fake.ports))
        assert client.primary == ("127.0.0.1", first)
        assert await found(client, pymongo.ReadPreference.PRIMARY) == fake.ports[0]
        reached = {await found(client, Secondary()) for _ in range(40)}
        assert reached == set(fake.ports[1:])


async def test_several_seeds_passives_arbiters_and_hidden_members(nursery):
    def prepare(fake):
        fake.passives = {fake.ports[1]}
        fake.arbiters = {fake.ports[2]}
        fake.hidden = {fake.ports[3]}

    async with behind_the_proxy(seeds=2, members=4, prepare=prepare) as (fake, client, first):
        await trio.to_thread.run_sync(client.admin.command, "ping")
        known = await nodes(client, 3, data_bearing=2)
        assert name_of(first) in known
        assert not known & set(map(name_of, fake.ports))
        assert len(client.arbiters) == 1
        assert {name_of(port) for _, port in client.arbiters} < known
        assert await found(client, Secondary()) == fake.ports[1]


async def test_an_election_is_followed(nursery):
    async with behind_the_proxy() as (fake, client, _):
        insert = client["app"]["c"].insert_one
        await trio.to_thread.run_sync(insert, {"_id": 1})
        await nodes(client, 3)
        for port in (fake.ports[1], fake.ports[2], fake.ports[0]):
            fake.elect(port)
            await trio.to_thread.run_sync(insert, {"_id": port})
            assert await found(client, pymongo.ReadPreference.PRIMARY) == port


async def test_members_come_and_go(nursery):
    async with behind_the_proxy(members=2) as (fake, client, _):
        await trio.to_thread.run_sync(client.admin.command, "ping")
        before = await nodes(client, 2)
        port = await fake.add()
        fake.version += 1
        fake.changed()
        after = await nodes(client, 3)
        assert before < after
        assert name_of(port) not in after
        reached = {await found(client, Secondary()) for _ in range(40)}
        assert reached == set(fake.ports[1:])
        await fake.remove(port)
        assert await nodes(client, 2) == before
