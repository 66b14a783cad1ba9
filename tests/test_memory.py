"""What is left behind, and what the process is set to."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from tests.patience import until
from tests.running import Client, in_time, ping, recording


@in_time
async def go_through(how: str) -> None:
    async with recording() as (_, running):
        server = running.server

        async def one() -> None:
            client = await Client.connect(running)
            await client.ping("x")
            if how == "half":
                await client.send(ping("y")[:20])
            if how == "reset":
                client.reset()
            else:
                await client.close()
            await until(lambda: not list(server.connections()))

        await one()
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(5):
                await one()
            gc.collect()
            left = {type(thing).__module__ for thing in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.enable()
            gc.garbage.clear()
        assert not {module for module in left if module.startswith("proxy")}, left


@pytest.mark.parametrize("how", ["closed", "reset", "half"])
async def test_a_connection_leaves_nothing_to_collect(how):
    await go_through(how)


def test_full_collections_are_put_off():
    program = """if True:
        import gc
        from proxy import memory
        memory.settle()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[2] >= 1_000_000
        """
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
