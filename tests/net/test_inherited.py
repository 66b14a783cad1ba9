"""Sockets that were open before: who gets them, and what becomes of the others."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from proxy.addresses import Address
from proxy.net.inherited import Inherited, Placed, adopt
from proxy.net.listeners import Listener, open_listener, open_next_listener

UPSTREAM = Address("upstream", 27017)
ONE, TWO, THREE = (Address("upstream", number) for number in (1, 2, 3))


def listening(path: Path | None = None) -> socket.socket:
    """A socket of a process before, on a free port or a path."""
    if path is None:
        return socket.create_server(("127.0.0.1", 0))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(5)
    return sock


def address_of(sock: socket.socket) -> Address:
    name = sock.getsockname()
    return Address(path=name) if sock.family == socket.AF_UNIX else Address(*name[:2])


async def on(sock: socket.socket, inherited: Inherited) -> Listener:
    return await open_listener(address_of(sock), UPSTREAM, 16, inherited)


def reaches(address: Address, listener: Listener) -> bool:
    """Whether a client that dials an address comes out at a listener."""
    family, name = (socket.AF_UNIX, address.path) if address.path else (socket.AF_INET, None)
    with socket.socket(family) as client:
        client.connect(name or (address.host, address.port))
        listener.sockets[0].accept()[0].close()
    return True


@pytest.mark.parametrize("whose", ["handed", "kept"])
@pytest.mark.parametrize("unix", [False, True])
async def test_a_listener_takes_the_socket_that_is_open_there(whose, unix, tmp_path):
    sock = listening(tmp_path / "a.sock" if unix else None)
    address = address_of(sock)
    inherited = Inherited(**{whose: [sock]})
    assert inherited.unused() == [str(address)]
    listener = await on(sock, inherited)
    assert inherited.unused() == []
    assert listener.address == address
    assert not listener.sockets[0].getblocking()
    assert reaches(address, listener)
    inherited.settle()
    assert reaches(address, listener)
    assert listener.handed is (unix and whose == "handed")
    listener.close()
    sock.close()
    assert (tmp_path / "a.sock").exists() is unix, "the path is another's"


async def test_what_a_predecessor_had_of_systemd_is_still_systemds(tmp_path):
    kept = listening(tmp_path / "a.sock")
    inherited = Inherited([kept.dup()], [kept])
    listener = await on(kept, inherited)
    assert not listener.handed
    inherited.settle()
    assert inherited.unused() == []
    assert reaches(address_of(kept), listener)
    listener.close()
    kept.close()


async def test_a_client_that_waited_before_is_served_now():
    sock = listening()
    with socket.create_connection(sock.getsockname()) as early:
        listener = await on(sock, Inherited([sock]))
        connection, peer = listener.sockets[0].accept()
        assert peer == early.getsockname()
        connection.close()
    listener.close()
    sock.close()


async def test_nobody_gets_what_somebody_has():
    sock = listening()
    inherited = Inherited(kept=[sock])
    listener = await on(sock, inherited)
    with pytest.raises(OSError, match="in use"):
        await on(sock, inherited)
    listener.close()
    again = await on(sock, inherited)
    assert reaches(address_of(sock), again), "systemd's are there for whoever comes back"
    again.close()
    sock.close()


async def test_what_nobody_took_is_closed():
    handed, kept = listening(), listening()
    inherited = Inherited([handed], [kept])
    where = handed.getsockname()
    inherited.settle()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(where)
    assert inherited.unused() == [str(address_of(kept))]
    kept.close()


async def test_other_addresses_are_opened_as_ever(tmp_path):
    sock = listening()
    inherited = Inherited([sock], [listening(tmp_path / "a.sock")])
    for address in (Address("127.0.0.1", 0), Address("::1", 0), Address(path=f"{tmp_path}/b")):
        listener = await open_listener(address, UPSTREAM, 16, inherited)
        assert len(inherited.unused()) == 2
        listener.close()
    for one in (sock, *inherited.kept):
        one.close()


async def test_the_next_port_is_one_of_systemds_but_nobodys_place():
    with listening() as first, listening() as before, listening() as kept:
        start = Address("127.0.0.1", min(s.getsockname()[1] for s in (before, kept)) - 1)
        near = Inherited([before], [kept])
        listener = await open_next_listener(start, UPSTREAM, 16, near)
        assert listener.address != address_of(before)
        listener.close()
        near = Inherited([before], [kept])
        start = Address("127.0.0.1", kept.getsockname()[1] - 1)
        listener = await open_next_listener(start, UPSTREAM, 16, near)
        assert listener.address == address_of(kept)
        listener.close()
        first.close()


# ------------------------------------------------------------------ places

FIRST, NEXT, OTHER = (Address("127.0.0.1", port) for port in (5001, 5002, 5003))
ANY = Address("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("before", "wanted", "first", "places"),
    [
        ([(ONE, FIRST, FIRST), (TWO, None, NEXT)], {ONE: FIRST}, FIRST, {ONE: FIRST, TWO: NEXT}),
        ([(ONE, ANY, FIRST), (TWO, None, NEXT)], {ONE: ANY}, ANY, {ONE: FIRST, TWO: NEXT}),
        ([(ONE, FIRST, FIRST), (TWO, None, NEXT)], {ONE: OTHER}, OTHER, {}),
        ([(ONE, FIRST, FIRST), (TWO, NEXT, NEXT)], {ONE: FIRST}, FIRST, {ONE: FIRST}),
        (
            [(ONE, FIRST, FIRST), (TWO, None, NEXT)],
            {ONE: FIRST, TWO: OTHER},
            FIRST,
            {ONE: FIRST},
        ),
        (
            [(ONE, FIRST, FIRST), (TWO, None, NEXT)],
            {ONE: FIRST, THREE: NEXT},
            FIRST,
            {ONE: FIRST},
        ),
        ([(None, FIRST, FIRST)], {ONE: FIRST}, FIRST, {}),
    ],
)
def test_members_stay_where_they_were_unless_the_settings_say_otherwise(
    before, wanted, first, places
):
    placed = [Placed(*one) for one in before]
    assert Inherited(placed=placed).places(wanted, first) == places


def test_the_admin_endpoint_stays_where_it_was():
    inherited = Inherited(placed=[Placed(ONE, FIRST, FIRST), Placed(None, ANY, OTHER)])
    assert inherited.admin(ANY) == OTHER
    assert inherited.admin(NEXT) == NEXT


# ------------------------------------------------------------------ descriptors


def test_a_descriptor_becomes_a_socket_that_no_other_program_gets():
    with listening() as sock:
        descriptor = os.dup(sock.fileno())
        os.set_inheritable(descriptor, True)
        with adopt(descriptor) as adopted:
            assert adopted.getsockname() == sock.getsockname()
            assert not adopted.get_inheritable()


@pytest.mark.parametrize("what", ["file", "udp", "unconnected"])
def test_a_descriptor_of_another_kind_is_left_alone(what, tmp_path):
    if what == "file":
        descriptor = os.open(tmp_path, os.O_RDONLY)
    else:
        kind = socket.SOCK_DGRAM if what == "udp" else socket.SOCK_STREAM
        descriptor = socket.socket(socket.AF_INET, kind).detach()
    with pytest.raises(OSError, match=r"."):
        adopt(descriptor)
    os.close(descriptor)
