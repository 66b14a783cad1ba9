"""Clients with ``loadBalanced=true`` work before the load balancer port of a mongos."""

from __future__ import annotations

from pathlib import Path

import trio

from proxy.embedded import EmbeddedUpstream
from tests.clients.test_pasted import NODE, PYMONGO, SHELL, all_pasted
from tests.end_to_end.tools import proxy_before


async def test_before_the_port_of_a_balancer(tmp_path: Path) -> None:
    mongos = EmbeddedUpstream(balanced=True, version="8.0")
    async with trio.open_nursery() as nursery:
        port = await nursery.start(mongos.serve)
        async with proxy_before(port, upstream={"proxy_protocol": True}) as running:
            uri = f"mongodb://{running.addresses[0]}/?loadBalanced=true"
            await all_pasted((PYMONGO, NODE, SHELL), uri, tmp_path)
        nursery.cancel_scope.cancel()
