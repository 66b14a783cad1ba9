"""Requests rest in the new process by the old one's word, and that hears who reads through it."""

from __future__ import annotations

from typing import Any

import bson
import trio
from bson import Binary, Int64

from proxy.embedded import EmbeddedUpstream
from proxy.process.found import Found
from proxy.process.takeover import help_predecessor
from tests.build import command
from tests.channels import pair
from tests.patience import until
from tests.running import Client, in_time, proxied

METADATA = {"application": {"name": "shop"}, "driver": {"name": "raw", "version": "1"}}
LSID = {"id": Binary(bytes(16), 4)}


async def ask(client: Client, document: dict[str, Any]) -> dict[str, Any]:
    answer = await client.ask(command({**document, "$db": document.get("$db", "shop")}, 1))
    assert answer is not None, "closed"
    return bson.decode(answer[21:])


@in_time
async def test_who_reads_is_said_and_nothing_new_begins_meanwhile() -> None:
    found = Found()
    with pair() as (ours, theirs):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(EmbeddedUpstream().serve)
            async with proxied(port) as running:
                clusters = running.server.clusters
                nursery.start_soon(found.hear, ours)
                nursery.start_soon(help_predecessor, theirs, clusters, lambda: False)
                client, other, watching = [await Client.connect(running) for _ in range(3)]
                for one in (client, other, watching):
                    await ask(one, {"hello": 1, "client": METADATA, "$db": "admin"})
                for one in (client, other):
                    await ask(one, {"insert": "c", "documents": [{}] * 5})
                cursor = (await ask(client, {"find": "c", "batchSize": 2, "lsid": LSID}))["cursor"][
                    "id"
                ]
                assert cursor
                (session,) = [one for some in clusters[0].store.active() for one in some]
                await until(lambda: found.since("", session.origin, 0.0, 0))
                there = await found.look_there("", {session.origin})
                assert there is not None
                reads, _ = there
                assert reads.keys() == {session.origin}

                answered: list[dict[str, Any]] = []

                async def find() -> None:
                    answered.append(await ask(other, {"find": "c"}))

                nursery.start_soon(find)
                more = {"getMore": Int64(cursor), "collection": "c", "lsid": LSID}
                assert (await ask(client, more))["cursor"]["id"] == 0
                there = await found.look_there("", {session.origin})
                assert there is not None
                assert there[0] == {}, "it was read to the end, and nothing was begun"
                assert answered == []
                await found.look_there("", frozenset())
                await until(lambda: answered)
                assert answered[0]["ok"] == 1
                for one in (client, other, watching):
                    await one.close()
                ours.close()
            nursery.cancel_scope.cancel()
