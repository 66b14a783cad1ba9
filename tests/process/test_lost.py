"""Upstream is started anew between two looks at it."""

from __future__ import annotations

import trio

from proxy.addresses import Address
from proxy.embedded import EmbeddedUpstream
from tests.patience import until
from tests.running import Client, in_time, ping, proxied


@in_time
async def test_an_upstream_that_ends_its_connections_is_looked_at_at_once(
    nursery: trio.Nursery,
) -> None:
    scope, port = await nursery.start(_serving, False, 0)
    slow = {"address": f"127.0.0.1:{port}", "watch_seconds": 3_600.0}
    async with proxied(port, upstream=slow) as running:
        upstreams = running.server.clusters[0].upstreams
        at = Address("127.0.0.1", port)
        await until(lambda: upstreams.of(at).authorization is False)
        client = await Client.connect(running)
        assert await client.ask(ping(1)) is not None
        scope.cancel()
        assert await client.receive() is None
        await until(lambda: not running.server.clusters[0].watcher.up()[at])
        await nursery.start(_serving, True, port)
        other = await Client.connect(running)
        assert await other.ask(ping(2)) is not None
        await until(lambda: upstreams.of(at).authorization is True)
        assert upstreams.of(at).ran_open
        await client.close()
        await other.close()
    nursery.cancel_scope.cancel()


async def _serving(
    authorization: bool,
    port: int,
    *,
    task_status: trio.TaskStatus[tuple[trio.CancelScope, int]],
) -> None:
    """An upstream until it is cancelled; it can be asked for logins or not."""
    upstream = EmbeddedUpstream(authorization=authorization, set_name=None)
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(upstream.serve, "127.0.0.1", port)
        task_status.started((nursery.cancel_scope, bound))
