"""Connections in use are limited by address and by user, with an error that costs nobody a pool."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from proxy import logs
from proxy.embedded import EmbeddedUpstream
from proxy.embedded.users import EmbeddedUser
from tests.build import command
from tests.end_to_end.test_authentication import PASSWORD, Raw, readers
from tests.end_to_end.tools import Log, proxy_before, pymongo_at
from tests.patience import until
from tests.process.test_probes import counted
from tests.running import Client, in_time, port_of
from tests.upstreams import RecordingUpstream, document

HELLO = command({"hello": 1, "$db": "admin"}, 3)
FIND = command({"find": "b", "$db": "a"}, 4)


async def asked(client: Client, frame: bytes = FIND) -> Any:
    answer = await client.ask(frame)
    assert answer is not None
    return document(answer)


@in_time
async def test_one_address_has_so_many_and_the_others_wait_for_room(
    nursery: trio.Nursery,
) -> None:
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    log = Log()
    limits = {"connections_per_address": 2}
    async with proxy_before(port, log=log, limits=limits) as running:
        logs.configure("json", "info", log)
        # Who watches does not count.
        watching = [await Client.connect(running) for _ in range(3)]
        for one in watching:
            assert (await asked(one, HELLO))["ok"] == 1
        first, second, third = [await Client.connect(running) for _ in range(3)]
        assert (await asked(first))["ok"] == 1
        assert (await asked(second))["ok"] == 1
        for _ in range(2):
            refused = await asked(third)
            assert (refused["ok"], refused["code"]) == (0, 462)
            assert refused["codeName"] == "IngressRequestRateLimitExceeded"
            assert refused["errmsg"].endswith("address 127.0.0.1 may have 2")
            assert set(refused["errorLabels"]) == {"SystemOverloadedError", "RetryableError"}
            assert (await asked(third, HELLO))["ok"] == 1
        [line] = log.lines("client refused")
        assert line["reason"] == "limits.connections_per_address"
        assert line["address"] == "127.0.0.1"
        name = 'client_connections_refused_total{reason="address"}'
        assert counted(running, name) == 1
        await first.close()
        await until(lambda: len(running.server.clusters[0].open_connections) == 5)
        assert (await asked(third))["ok"] == 1
        assert (await asked(watching[0]))["code"] == 462
        for one in (*watching, second, third):
            await one.close()
        await until(lambda: not running.server.clusters[0].open_connections)
        crowds = running.server.clusters[0].shared.crowds
        assert crowds.count(("address", "127.0.0.1")) == 0
    nursery.cancel_scope.cancel()


@in_time
async def test_behind_a_balancer_the_own_address_counts(nursery: trio.Nursery) -> None:
    upstream = RecordingUpstream()
    port = await nursery.start(upstream.serve)
    listen = {"proxy_protocol": "require"}
    async with proxy_before(port, listen=listen, limits={"connections_per_address": 1}) as running:
        told, clients = [], []
        for source in ("192.0.2.7", "192.0.2.8", "192.0.2.7"):
            client = await Client.connect(running)
            await client.send(f"PROXY TCP4 {source} 192.0.2.1 4711 27017\r\n".encode())
            told.append((await asked(client)).get("code", 0))
            clients.append(client)
        assert told == [0, 0, 462]
        for client in clients:
            await client.close()
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("limit", [0, 1])
@in_time
async def test_one_user_has_so_many(nursery: trio.Nursery, limit: int) -> None:
    users = [
        EmbeddedUser(name, "admin", "secret", roles=(("readWriteAnyDatabase", "admin"),))
        for name in "ab"
    ]
    upstream = EmbeddedUpstream(authorization=True, users=users)
    port = await nursery.start(upstream.serve, "127.0.0.1", 0)
    async with proxy_before(port, limits={"connections_per_user": limit}) as running:
        where = "mongodb://{}:secret@127.0.0.1:" + str(port_of(running)) + "/?maxPoolSize=1"
        async with (
            pymongo_at(where.format("a")) as one,
            pymongo_at(where.format("a")) as same,
            pymongo_at(where.format("b")) as other,
        ):
            for driver in (one, other):
                await driver.run(lambda client: client.a.b.insert_one({}))
            before = counted(running, "client_connections_accepted_total")
            for _ in range(3):
                if limit:
                    with pytest.raises(Exception, match="user a@admin may have 1") as caught:
                        await same.run(lambda client: client.a.b.insert_one({}))
                    assert getattr(caught.value, "code", 0) == 462
                else:
                    await same.run(lambda client: client.a.b.insert_one({}))
            # Its pool and its view of the server have stayed.
            await same.run(lambda client: client.admin.command("hello"))
            assert counted(running, "client_connections_accepted_total") - before <= 4
            assert counted(running, "client_connections_refused_total") == (1 if limit else 0)
            refusals = running.server.clusters[0].telemetry.refusals
            assert [
                (whose.user, whose.kind, refusals.row(whose)["bound"], count)
                for whose, count in refusals.most(9).items()
            ] == ([("a@admin", "refused", "connections_per_user", 1)] if limit else [])
            if limit:
                await one.run(lambda client: client.close())
                crowds = running.server.clusters[0].shared.crowds
                await until(lambda: not crowds.count(("user", "a@admin")))
                await same.run(lambda client: client.a.b.insert_one({}))
    nursery.cancel_scope.cancel()


@in_time
async def test_who_logs_in_later_counts_from_then_on(nursery: trio.Nursery) -> None:
    upstream = EmbeddedUpstream(authorization=True, users=readers("a", "b", password=PASSWORD))
    port = await nursery.start(upstream.serve, "127.0.0.1", 0)
    async with proxy_before(port, limits={"connections_per_user": 1}) as running:
        crowds = running.server.clusters[0].shared.crowds
        first, second = [Raw(await Client.connect(running), running) for _ in range(2)]
        for one in (first, second):
            # It is in use, by nobody.
            assert (await one.run("ping"))["ok"] == 1
        await first.log_in("a", "app")
        assert (await first.run("ping"))["ok"] == 1
        assert crowds.count(("user", "a@app")) == 1
        await second.log_in("a", "app")
        assert (await second.run("ping"))["code"] == 462
        # As somebody else the first makes room.
        await first.log_in("b", "app")
        assert (await first.run("ping"))["ok"] == 1
        assert (await second.run("ping"))["ok"] == 1
        assert [crowds.count(("user", name)) for name in ("a@app", "b@app")] == [1, 1]
        await first.close()
        await second.close()
    nursery.cancel_scope.cancel()
