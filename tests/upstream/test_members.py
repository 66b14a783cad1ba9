"""One listener for every member, as members come and go."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from proxy.addresses import Address
from proxy.net.inherited import Inherited
from proxy.net.listeners import Listener
from proxy.settings.listen import Listen
from proxy.upstream.members import MemberListeners
from proxy.upstream.places import ports
from tests.patience import until

ONE, TWO, THREE = (Address("upstream", number) for number in (1, 2, 3))


class Topology:
    """Who is a member, and what was told of listeners."""

    def __init__(self, *members: Address) -> None:
        self.known = list(members)
        self.told: list[tuple[Address, int, str]] = []

    def members(self) -> tuple[Address, ...]:
        return tuple(self.known)

    def opened(self, member: Address, port: int, host: str) -> None:
        self.told.append((member, port, host))

    def closed(self, member: Address) -> None:
        self.told.append((member, 0, ""))


class Rig:
    def __init__(self, nursery: trio.Nursery, topology: Topology, **how: object) -> None:
        self.topology = topology
        self.taken: list[tuple[Address, str]] = []
        self.nursery = nursery
        first = how.get("first", Address("127.0.0.1", 0))
        given = how.get("given", {})
        self.listeners = MemberListeners(
            topology,
            how.get("settings", Listen()),
            first,
            given,
            self._take,
            self._exhausted,
            how.get("inherited", Inherited()),
            how.get("reserved", ()),
        )

    def _take(self, listener: Listener, sock: socket.socket, peer: str) -> None:
        self.taken.append((listener.upstream, peer))
        sock.close()

    def _exhausted(self, error: OSError) -> None:
        raise AssertionError(error)

    async def open(self, *seeds: Address) -> list[int]:
        await self.listeners.open_seeds(seeds, self.nursery)
        self.listeners.accept()
        return [int(address.rpartition(":")[2]) for address in self.listeners.addresses()]

    async def reaches(self, port: int) -> Address:
        """Which upstream a client of this port is for."""
        return await self.reaches_at("127.0.0.1", port)

    async def reaches_at(self, host: str, port: int) -> Address:
        before = len(self.taken)
        with socket.create_connection((host, port)):
            await until(lambda: len(self.taken) > before)
        return self.taken[-1][0]


@asynccontextmanager
async def rigged(topology: Topology, **how: object) -> AsyncIterator[Rig]:
    async with trio.open_nursery() as nursery:
        rig = Rig(nursery, topology, **how)
        yield rig
        rig.listeners.close()
        nursery.cancel_scope.cancel()


async def test_each_seed_has_a_listener_of_its_own():
    topology = Topology(ONE, TWO)
    async with rigged(topology) as rig:
        first, second = await rig.open(ONE, TWO)
        assert first < second
        assert await rig.reaches(first) == ONE
        assert await rig.reaches(second) == TWO
        assert topology.told == [(ONE, first, "127.0.0.1"), (TWO, second, "127.0.0.1")]


async def test_members_that_appear_and_vanish():
    topology = Topology(ONE)
    async with rigged(topology) as rig:
        [first] = await rig.open(ONE)
        await rig.listeners.reconcile()
        assert len(topology.told) == 1
        topology.known += [TWO, THREE]
        await rig.listeners.reconcile()
        ports = {member: port for member, port, _ in topology.told}
        assert first < min(ports[TWO], ports[THREE])
        assert await rig.reaches(ports[TWO]) == TWO
        topology.known.remove(TWO)
        await rig.listeners.reconcile()
        assert topology.told[-1] == (TWO, 0, "")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", ports[TWO]))
        assert await rig.reaches(ports[THREE]) == THREE
        topology.known.append(TWO)
        await rig.listeners.reconcile()
        assert topology.told[-1][:2] == (TWO, ports[TWO]), "it gets its place back"
        assert await rig.reaches(ports[TWO]) == TWO


async def test_given_places_are_kept_to():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    topology = Topology(ONE, TWO)
    async with rigged(topology, given={TWO: Address("127.0.0.1", port)}) as rig:
        first, second = await rig.open(ONE, TWO)
        assert second == port
        assert await rig.reaches(first) == ONE


async def test_a_successor_has_everybody_at_the_same_place():
    topology = Topology(ONE, TWO, THREE)
    async with rigged(topology) as before:
        await before.open(ONE)
        await before.listeners.reconcile()
        placed = before.listeners.placed()
        inherited = Inherited(
            [sock.dup() for _, listener in placed for sock in listener.sockets],
            placed=[place for place, _ in placed],
        )
        # The set lists its members in another order now.
        later = Topology(ONE, THREE, TWO)
        async with rigged(later, inherited=inherited) as after:
            await after.open(ONE)
            await after.listeners.reconcile()
            inherited.settle()
            before.listeners.close()
            assert set(later.told) == set(topology.told)
            for member, port, _ in topology.told:
                assert await after.reaches(port) == member


async def test_nobody_is_accepted_before_it_is_time():
    async with rigged(Topology(ONE, TWO)) as rig:
        await rig.listeners.open_seeds((ONE,), rig.nursery)
        await rig.listeners.reconcile()
        ports = [port for _, port, _ in rig.topology.told]
        clients = [socket.create_connection(("127.0.0.1", port)) for port in ports]
        await wait_all_tasks_blocked()
        assert rig.taken == []
        rig.listeners.accept()
        await until(lambda: len(rig.taken) == 2)
        for client in clients:
            client.close()


async def test_a_place_that_is_taken_leaves_the_member_without_a_listener_for_now():
    topology = Topology(ONE)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Address("127.0.0.1", taken.getsockname()[1])
        async with rigged(topology, given={TWO: place}) as rig:
            await rig.open(ONE)
            topology.known.append(TWO)
            await rig.listeners.reconcile()
            assert len(topology.told) == 1
            taken.close()
            await rig.listeners.reconcile()
            assert topology.told[-1] == (TWO, place.port, "127.0.0.1")


async def test_a_seed_that_cannot_listen_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = Address("127.0.0.1", taken.getsockname()[1])
        async with rigged(Topology(ONE), first=place) as rig:
            with pytest.raises(OSError, match=r".") as caught:
                await rig.open(ONE)
            assert caught.value.filename == str(place)


@pytest.mark.parametrize(
    ("host", "advertise", "told", "dialled"),
    [
        ("127.0.0.1", None, "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", None, "", "127.0.0.1"),
        ("0.0.0.0", "proxy.test", "proxy.test", "127.0.0.1"),
    ],
)
async def test_what_clients_are_given_is_not_where_it_listens(host, advertise, told, dialled):
    topology = Topology(ONE)
    settings = Listen(advertise=advertise)
    async with rigged(topology, first=Address(host, 0), settings=settings) as rig:
        [port] = await rig.open(ONE)
        assert topology.told == [(ONE, port, told)]
        assert rig.listeners.addresses() == [f"{dialled}:{port}"]


async def test_a_unix_socket_is_no_name_to_give_to_anybody(tmp_path):
    topology = Topology(ONE)
    async with rigged(topology, first=Address("", 0, str(tmp_path / "a.sock"))) as rig:
        await rig.listeners.open_seeds((ONE,), rig.nursery)
        assert topology.told == []
        assert rig.listeners.addresses() == [str(tmp_path / "a.sock")]


async def test_nothing_opens_before_the_start_or_after_the_end():
    topology = Topology(ONE)
    async with rigged(topology) as rig:
        await rig.listeners.reconcile()
        assert topology.told == []
        await rig.open(ONE)
        rig.nursery.cancel_scope.cancel()
        topology.known.append(TWO)
        await rig.listeners.reconcile()
        assert len(topology.told) == 1


# ------------------------------------------------------------------ several proxies of one set


def settled(first: str = "127.83.0.1", port: int = 27018) -> Address:
    """A first place with nobody else's ports above it: addresses that only these tests use."""
    return Address(first, port)


def told_ports(topology: Topology) -> dict[Address, int]:
    last = {member: port for member, port, _ in topology.told}
    return {member: port for member, port in last.items() if port}


async def test_one_that_was_there_all_along_and_one_that_comes_later_agree():
    a, b, c, d, e = (Address(f"db{name}", 27017) for name in "abcde")
    old = Topology(b, a, c, d)
    async with rigged(old, first=settled()) as there_all_along:
        await there_all_along.open(b, a)
        await there_all_along.listeners.reconcile()
        old.known[:] = [a, d, c, e]
        await there_all_along.listeners.reconcile()
        new = Topology(a, e, c, d)
        async with rigged(new, first=settled("127.83.0.2")) as later:
            await later.open(a)
            await later.listeners.reconcile()
            assert told_ports(new) == told_ports(old)
            assert told_ports(new)[a] == 27018


@pytest.fixture
def colliding(monkeypatch):
    """Everybody would have the port 27019."""
    monkeypatch.setattr("proxy.upstream.places.sha256", lambda _name: hashlib.sha256(b""))
    monkeypatch.setattr("proxy.upstream.places.PORTS", 3)


async def test_whose_port_goes_to_another_is_left_by_its_connections(colliding):
    topology = Topology(ONE, THREE)
    async with rigged(topology, first=settled()) as rig:
        displaced = []
        rig.listeners.displaced = displaced.append
        await rig.open(ONE)
        await rig.listeners.reconcile()
        before = told_ports(topology)
        assert displaced == []
        # It comes first by its name, as it does for a proxy that meets all at once.
        topology.known.append(TWO)
        await rig.listeners.reconcile()
        after = told_ports(topology)
        assert (after[TWO], displaced) == (before[THREE], [THREE])
        assert await rig.reaches_at("127.83.0.1", after[THREE]) == THREE
        assert await rig.reaches_at("127.83.0.1", after[TWO]) == TWO
        await rig.listeners.reconcile()
        assert told_ports(topology) == after
        topology.known.remove(TWO)
        await rig.listeners.reconcile()
        assert told_ports(topology) == before


@pytest.mark.parametrize("advertise", [None, "proxy.example.net"])
async def test_a_port_that_somebody_else_has(advertise):
    topology = Topology(ONE, TWO)
    reserved = {27018 + 150}
    own = ports(27018, [str(TWO)], reserved)[str(TWO)]
    settings = Listen(advertise=advertise)
    with socket.create_server(("127.83.0.1", own)) as taken:
        how = {"first": settled(), "settings": settings, "reserved": reserved}
        async with rigged(topology, **how) as rig:
            await rig.open(ONE)
            await rig.listeners.reconcile()
            await rig.listeners.reconcile()
            port = told_ports(topology).get(TWO)
            if advertise is None:
                assert port not in (None, own, *reserved)
                assert len(topology.told) == 2, "it stays there"
            else:
                # Behind one name, that port may be another member's at another proxy.
                assert port is None
                taken.close()
                await rig.listeners.reconcile()
                assert told_ports(topology)[TWO] == own


async def test_who_had_to_go_elsewhere_stays_there_under_a_successor():
    topology, later = Topology(ONE, TWO), Topology(ONE, TWO)
    own = ports(27018, [str(TWO)])[str(TWO)]
    async with rigged(topology, first=settled()) as before:
        with socket.create_server(("127.83.0.1", own)):
            await before.open(ONE)
            await before.listeners.reconcile()
            placed = before.listeners.placed()
            inherited = Inherited(
                [sock.dup() for _, listener in placed for sock in listener.sockets],
                placed=[place for place, _ in placed],
            )
            async with rigged(later, first=settled(), inherited=inherited) as after:
                await after.open(ONE)
                await after.listeners.reconcile()
                inherited.settle()
                assert told_ports(later) == told_ports(topology)
