"""Sockets that accept: where they open, whom they hand over, and how they close."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from proxy.addresses import Address
from proxy.net.listeners import Listener, accept, open_listener, open_next_listener
from tests.patience import PATIENCE, until

UPSTREAM = Address("upstream", 27017)


def never(error: OSError) -> None:
    raise AssertionError(error)


async def listening(address: Address) -> Listener:
    return await open_listener(address, UPSTREAM, 64)


async def test_any_free_port():
    listener = await listening(Address("127.0.0.1", 0))
    assert listener.address == Address("127.0.0.1", listener.sockets[0].getsockname()[1])
    assert listener.address.port
    assert listener.upstream is UPSTREAM
    assert not listener.wildcard
    with socket.create_connection(("127.0.0.1", listener.address.port)):
        pass
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener.address.port))


@pytest.mark.parametrize(("host", "wildcard"), [("0.0.0.0", True), ("127.0.0.1", False)])
async def test_wildcards_are_known(host, wildcard):
    listener = await listening(Address(host, 0))
    assert listener.wildcard is wildcard
    listener.close()


async def test_every_address_of_a_name_gets_the_same_port():
    listener = await listening(Address("localhost", 0))
    ports = {sock.getsockname()[1] for sock in listener.sockets}
    assert ports == {listener.address.port}
    listener.close()


async def test_an_address_that_cannot_be_used_is_named():
    taken = await listening(Address("127.0.0.1", 0))
    with pytest.raises(OSError, match=r".") as caught:
        await listening(taken.address)
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.filename == str(taken.address)
    taken.close()
    with pytest.raises(OSError, match=r".") as caught:
        await listening(Address("no.such.host.invalid", 1))
    assert caught.value.filename == "no.such.host.invalid:1"
    with pytest.raises(OSError, match="no host has such a name") as caught:
        await listening(Address("a..b", 1))
    assert caught.value.filename == "a..b:1"


async def test_the_next_free_port(monkeypatch):
    first = await listening(Address("127.0.0.1", 0))
    second = await open_next_listener(first.address, UPSTREAM, 16)
    third = await open_next_listener(first.address, UPSTREAM, 16)
    assert first.address.port < second.address.port < third.address.port
    monkeypatch.setattr("proxy.net.listeners.PORTS_TRIED", 0)
    with pytest.raises(OSError, match="no free port"):
        await open_next_listener(first.address, UPSTREAM, 16)
    for listener in (first, second, third):
        listener.close()


# ------------------------------------------------------------------ unix sockets


async def test_a_unix_socket_is_removed_when_it_closes(tmp_path):
    path = tmp_path / "a.sock"
    listener = await listening(Address("", 0, str(path)))
    assert path.is_socket()
    listener.close()
    assert not path.exists()


async def test_a_unix_socket_that_nobody_answers_is_replaced(tmp_path):
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    listener = await listening(Address("", 0, str(path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


async def test_one_that_somebody_answers_is_left_alone(tmp_path):
    path = tmp_path / "a.sock"
    listener = await listening(Address("", 0, str(path)))
    with pytest.raises(OSError, match=r".") as caught:
        await listening(Address("", 0, str(path)))
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.filename == str(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path):
    path = tmp_path / "a.sock"
    path.write_text("mine")
    with pytest.raises(OSError, match=r"."):
        await listening(Address("", 0, str(path)))
    assert path.read_text() == "mine"


# ------------------------------------------------------------------ accepting


class Taken:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.sockets: list[socket.socket] = []

    def __call__(self, sock: socket.socket, name: str) -> None:
        self.names.append(name)
        self.sockets.append(sock)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


async def test_every_client_is_handed_over_by_name(nursery, tmp_path):
    taken = Taken()
    tcp = await listening(Address("127.0.0.1", 0))
    unix = await listening(Address("", 0, str(tmp_path / "a.sock")))
    for listener in (tcp, unix):
        nursery.start_soon(accept, listener.sockets[0], taken, never)
    clients = [socket.create_connection(tcp.sockets[0].getsockname()) for _ in range(40)]
    names = [f"127.0.0.1:{client.getsockname()[1]}" for client in clients]
    clients.append(socket.socket(socket.AF_UNIX))
    clients[-1].connect(unix.address.path)
    await until(lambda: len(taken.names) == len(clients))
    assert sorted(taken.names) == sorted([*names, "unix"])
    over_tcp = taken.sockets[taken.names.index(names[0])]
    assert over_tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    for sock in (*clients, *taken.sockets):
        sock.close()
    tcp.close()
    unix.close()


async def test_a_listener_that_closes_ends_its_accepting():
    listener = await listening(Address("127.0.0.1", 0))
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listener.sockets[0], Taken(), never)
            await wait_all_tasks_blocked()
            listener.close()
        await accept(listener.sockets[0], Taken(), never)


class Failing:
    """A listening socket whose accept fails first."""

    def __init__(self, sock: socket.socket, *errors: OSError) -> None:
        self._sock = sock
        self.errors = list(errors)
        self.family = sock.family

    def fileno(self) -> int:
        return self._sock.fileno()

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.errors:
            raise self.errors.pop(0)
        connection, peer = self._sock.accept()
        return connection, peer


async def accepting(
    errors: list[OSError], exhausted: Callable[[OSError], None], meanwhile: Callable[[], None]
) -> tuple[Listener, Taken]:
    listener, taken = await listening(Address("127.0.0.1", 0)), Taken()
    failing = Failing(listener.sockets[0], *errors)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept, failing, taken, exhausted)
        client = socket.create_connection(listener.sockets[0].getsockname())
        await wait_all_tasks_blocked()
        meanwhile()
        await trio.sleep(10)
        client.close()
        nursery.cancel_scope.cancel()
    return listener, taken


async def test_a_client_that_is_gone_before_it_is_taken_harms_nobody(autojump_clock):
    aborted = OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
    listener, taken = await accepting([aborted, aborted], never, lambda: None)
    assert len(taken.names) == 1
    taken.close()
    listener.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_it_waits_and_says_so(autojump_clock, number):
    told: list[OSError] = []
    error = OSError(number, os.strerror(number))
    listener, taken = await accepting([error, error], told.append, lambda: None)
    assert told == [error, error]
    assert len(taken.names) == 1
    taken.close()
    listener.close()


async def test_closing_while_it_waits_for_descriptors(autojump_clock):
    listener = await listening(Address("127.0.0.1", 0))
    error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    failing = Failing(listener.sockets[0], error)
    told: list[OSError] = []
    client = socket.create_connection(listener.sockets[0].getsockname())
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, failing, Taken(), told.append)
            await wait_all_tasks_blocked()
            listener.close()
    assert told == [error]
    client.close()
