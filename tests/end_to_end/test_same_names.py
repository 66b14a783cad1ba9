"""Several proxies behind the same names, as Kubernetes' Services have them: one for each member."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import trio
from pymongo.errors import AutoReconnect

from tests.end_to_end.members import Deployment
from tests.end_to_end.tools import proxy_before, pymongo_at
from tests.ports import free_port
from tests.running import in_time

ROOT = Path(__file__).parent.parent.parent
SHOWN = ROOT / "deploy" / "kubernetes" / "replica-set" / "config.toml"
MEMBERS = ("a", "b", "c")


class Service:
    """A port that leads to one of several, each in its turn, past those where nobody is."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.chosen: list[int] = []
        self._turn = count()

    async def lead(self, stream: trio.SocketStream) -> None:
        turn = next(self._turn)
        for place in range(len(self.ports)):
            port = self.ports[(turn + place) % len(self.ports)]
            try:
                behind = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                continue
            self.chosen.append(port)
            async with stream, behind, trio.open_nursery() as nursery:
                nursery.start_soon(pump, stream, behind, nursery.cancel_scope)
                nursery.start_soon(pump, behind, stream, nursery.cancel_scope)
            return
        await stream.aclose()


async def pump(source: trio.SocketStream, sink: trio.SocketStream, done: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    done.cancel()


def settings(fake: Deployment, names: list[int], ports: list[int]) -> dict[str, Any]:
    """What the manifests tell each proxy, for members and names on this machine."""
    shown = tomllib.loads(SHOWN.read_text())["upstream"]
    members = [
        member
        | {
            "upstream": fake.members[name].address,
            "listen": f"127.0.0.1:{port}",
            "advertise": f"127.0.0.1:{front}",
        }
        for member, name, front, port in zip(shown["members"], MEMBERS, names, ports, strict=True)
    ]
    return {"members": members}


@asynccontextmanager
async def proxy(fake: Deployment, services: list[Service], names: list[int]) -> AsyncIterator[Any]:
    ports = [free_port() for _ in services]
    for service, port in zip(services, ports, strict=True):
        service.ports.append(port)
    seeds = ",".join(fake.addresses())
    behind = f"mongodb://{seeds}/?replicaSet=rs"
    async with proxy_before(behind, upstream=settings(fake, names, ports)) as running:
        yield running


@in_time
async def test_a_driver_sees_one_set_whichever_proxy_it_reaches(nursery: trio.Nursery) -> None:
    fake = Deployment()
    for name in MEMBERS:
        await nursery.start(fake.add, name)
    fake.elect("a")
    services = [Service() for _ in MEMBERS]
    names = []
    for service in services:
        listening = await nursery.start(partial(trio.serve_tcp, service.lead, 0, host="127.0.0.1"))
        names.append(listening[0].socket.getsockname()[1])
    uri = f"mongodb://127.0.0.1:{names[1]}/?replicaSet=rs"

    def write(client: Any) -> str:
        """Write, and say who took it. Connections that were cut may be noticed by this only."""
        for _ in range(10):
            with suppress(AutoReconnect):
                client.app.c.insert_one({})
                return client.app.c.find_one()["_id"]
        raise AssertionError("nobody takes it")

    def known(client: Any) -> set[int]:
        return {port for _, port in client.topology_description.server_descriptions()}

    async with proxy(fake, services, names), pymongo_at(uri) as driver:
        async with proxy(fake, services, names):
            # Pool by pool, monitors and all, half of the connections lead through each.
            for name in ("a", "b", "c"):
                fake.elect(name)
                assert await driver.run(write) == name
            assert known(driver.client) == set(names)
            assert all(set(service.chosen) == set(service.ports) for service in services)
        # One is gone; the same names lead to the other. Reads are tried again by the driver itself.
        assert await driver.run(lambda client: client.app.c.find_one()) == {"_id": "c"}
        for name in ("b", "a"):
            fake.elect(name)
            assert await driver.run(write) == name
        assert known(driver.client) == set(names)
    nursery.cancel_scope.cancel()
