"""Seeds of DNS, while the process runs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import trio

from proxy.addresses import Address, Srv
from proxy.errors import ConfigError, LookUpError
from proxy.process import seeds
from proxy.process.seeds import find_seeds, keep_seeds
from proxy.settings.upstream import Upstream
from proxy.upstream import srv
from proxy.upstream.srv import Found
from tests.clients.fake_set import FakeSet
from tests.end_to_end.tools import proxy_before, pymongo_at
from tests.nameserver import named
from tests.patience import until
from tests.running import in_time
from tests.upstreams import HELLO, RecordingUpstream, answered, document

SRV = Srv("set.shop.test")
A, B = Address("a.shop.test", 1), Address("b.shop.test", 1)


@pytest.fixture
def looked_up(monkeypatch):
    """What DNS answers, one after the other; and when it was asked."""
    answers, times = [], []

    async def hosts(_srv, _seconds):
        times.append(trio.current_time())
        answer = answers.pop(0) if answers else Found((A,))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(srv, "hosts", hosts)
    return answers, times


async def watched(kind: str, seconds: float) -> list[tuple[Address, ...]]:
    followed: list[tuple[Address, ...]] = []
    seeded = SimpleNamespace(seeds=(A,), topology=SimpleNamespace(kind=kind))

    def follow(found):
        seeded.seeds = found
        followed.append(found)

    seeded.follow = follow
    with trio.move_on_after(seconds):
        await keep_seeds(SRV, Upstream(watch_seconds=5), seeded)
    return followed


@pytest.mark.parametrize("kind", ["mongos", "unknown"])
async def test_changes_are_followed_and_failures_are_not(looked_up, autojump_clock, kind):
    answers, times = looked_up
    answers += [Found((A,)), LookUpError("gone"), Found((A, B), ("x.test",), 120), Found((B,))]
    assert await watched(kind, 250) == [(A, B), (B,)]
    start = times[0] - 60
    assert [time - start for time in times] == pytest.approx([60, 120, 125, 245])


@pytest.mark.parametrize("kind", ["replica set", "standalone"])
async def test_members_tell_of_themselves(looked_up, autojump_clock, kind):
    assert await watched(kind, 1000) == []
    assert looked_up[1] == []


async def test_what_dns_does_not_know_is_a_wrong_setting(monkeypatch):
    async with named(monkeypatch):
        with pytest.raises(ConfigError, match=r"upstream\.address: .*set\.shop\.test"):
            await find_seeds(SRV, Upstream())
    assert seeds.SOONEST == 60


@in_time
async def test_a_replica_set_is_found(monkeypatch, nursery):
    async with named(monkeypatch) as zone:
        fake = FakeSet(nursery)
        for _ in range(2):
            await fake.add()
        fake.primary = fake.ports[0]
        zone.seeds(SRV.name, *(f"db.shop.test:{port}" for port in fake.ports))
        zone.records[SRV.name, "TXT"] = ['"replicaSet=fake"']
        where = f"mongodb+srv://{SRV.name}/?tls=false"
        async with proxy_before(where) as running, pymongo_at(running.uri) as driver:
            assert (await driver.command("ping"))["ok"] == 1
            await until(lambda: len(driver.client.nodes) == 2)
            assert len(running.addresses) == 2
        nursery.cancel_scope.cancel()


@in_time
async def test_routers_come_and_go(monkeypatch, nursery):
    def router(name):
        def answer(_seen, frame):
            asked = next(iter(document(frame)), "")
            if asked in ("hello", "isMaster", "ismaster"):
                return (answered(frame, {**HELLO, "msg": "isdbgrid"}),)
            return (answered(frame, {"ok": 1.0, "name": name}),)

        return RecordingUpstream(answer)

    ports = sorted([await nursery.start(router(name).serve) for name in "abc"])
    first, second, third = (Address("m.shop.test", port) for port in ports)
    async with named(monkeypatch) as zone:
        zone.seeds(SRV.name, str(first), str(second))
        where = f"mongodb+srv://{SRV.name}/?tls=false"
        async with proxy_before(where) as running:
            [cluster] = running.server.clusters
            front = running.addresses[0]

            def listening():
                return {str(place.upstream): place.address for place, _ in placed()}

            def placed():
                return cluster.listeners.placed()

            def sockets_in_front():
                return [one.sockets for place, one in placed() if str(place.address) == front]

            before, sockets = listening(), sockets_in_front()
            assert str(before[str(first)]) == front
            cluster.follow((second, third))
            # The port that clients know is somebody's all the time.
            await until(lambda: listening().keys() == {str(second), str(third)})
            await until(lambda: str(listening()[str(second)]) == front)
            assert sockets_in_front() == sockets
            async with pymongo_at(f"mongodb://{front}/") as driver:
                assert (await driver.command("ping"))["ok"] == 1
    nursery.cancel_scope.cancel()
