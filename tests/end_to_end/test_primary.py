"""One address that follows the primary."""

from __future__ import annotations

import pytest
from pymongo.errors import OperationFailure

from tests.end_to_end.members import Deployment
from tests.end_to_end.tools import Log, proxy_before, pymongo_at
from tests.patience import until
from tests.running import in_time


async def three(nursery) -> Deployment:
    fake = Deployment()
    for name in ("a", "b", "c"):
        await nursery.start(fake.add, name)
    fake.elect("b")
    return fake


def front(log: Log) -> str:
    [line] = log.lines("listening")
    uri = line["primary"]
    assert uri.endswith("/?directConnection=true")
    return uri.partition("?")[0]


@pytest.mark.parametrize(
    "options",
    [{"directConnection": True}, {}, {"replicaSet": "rs"}],
    ids=["direct", "plain", "replicaSet"],
)
@in_time
async def test_it_is_followed(nursery, options):
    fake, log = await three(nursery), Log()
    listen = {"primary": "127.0.0.1:0"}
    async with (
        proxy_before(fake.members["a"].address, log=log, listen=listen),
        pymongo_at(front(log), **options) as driver,
    ):
        for leader in ("b", "c", "a"):
            if fake.primary != leader:
                fake.elect(leader)
            before = fake.members[leader].writes
            await driver.run(lambda client: client.app.c.insert_one({}))
            assert fake.members[leader].writes == before + 1
            assert (await driver.command("whoami"))["name"] == leader
            [node] = driver.client.nodes
            shown = await driver.command("hello")
            assert shown["hosts"] == [shown["me"]] == ["{}:{}".format(*node)]
            assert shown["primary"] == shown["me"]
    nursery.cancel_scope.cancel()


@in_time
async def test_who_is_with_a_former_primary_is_let_go(nursery):
    fake, log = await three(nursery), Log()
    listen = {"primary": "127.0.0.1:0"}
    async with (
        proxy_before(fake.members["a"].address, log=log, listen=listen) as running,
        pymongo_at(front(log), directConnection=True) as driver,
    ):
        await driver.command("ping")
        former = fake.members["b"].address

        def with_the_former() -> bool:
            rows = running.server.clusters[0].connections()
            return any(row["upstream"] == former for row in rows)

        assert with_the_former()
        # Nobody leads for a while: the former says that it does not.
        fake.elect(None)
        await until(lambda: not with_the_former())
        fake.elect("c")
        assert (await driver.command("whoami"))["name"] == "c"
    nursery.cancel_scope.cancel()


@in_time
async def test_without_a_primary_it_says_so(nursery):
    fake, log = await three(nursery), Log()
    fake.elect(None)
    how = {"listen": {"primary": "127.0.0.1:0"}, "upstream": {"connect_seconds": 0.3}}
    async with (
        proxy_before(fake.members["a"].address, log=log, **how),
        pymongo_at(front(log), directConnection=True) as driver,
    ):
        driver.client._topology_settings._server_selection_timeout = 1
        with pytest.raises(Exception, match="Could not find host matching read preference"):
            await driver.run(lambda client: client.admin.command("ping"))
    nursery.cancel_scope.cancel()


@in_time
async def test_a_standalone_leads_itself(nursery):
    from proxy.embedded import EmbeddedUpstream

    port = await nursery.start(EmbeddedUpstream(set_name=None).serve, "127.0.0.1", 0)
    log = Log()
    async with (
        proxy_before(port, log=log, listen={"primary": "127.0.0.1:0"}),
        pymongo_at(front(log)) as driver,
    ):
        assert (await driver.command("ping"))["ok"] == 1
        with pytest.raises(OperationFailure):
            await driver.command("nonsense")
    nursery.cancel_scope.cancel()
