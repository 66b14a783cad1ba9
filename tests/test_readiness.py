"""Plain functions called for readable sockets, from one task of the run."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from trio.testing import wait_all_tasks_blocked

from proxy import readiness


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(50)]
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


async def test_every_readable_socket_is_served_until_it_is_forgotten(pairs):
    watching = readiness.current()
    got: dict[int, bytes] = {}

    def reader(sock: socket.socket):
        def on_readable() -> None:
            got[sock.fileno()] = got.get(sock.fileno(), b"") + sock.recv(2)

        return on_readable

    for ours, _ in pairs:
        watching.watch(ours.fileno(), reader(ours))
    await wait_all_tasks_blocked()
    assert got == {}
    for _, theirs in pairs:
        theirs.send(b"12345")
    await wait_all_tasks_blocked()
    assert got == {ours.fileno(): b"12345" for ours, _ in pairs}
    for ours, _ in pairs[:25]:
        watching.forget(ours.fileno())
    for _, theirs in pairs:
        theirs.send(b"6")
    await wait_all_tasks_blocked()
    assert sorted(got.values()) == [b"12345"] * 25 + [b"123456"] * 25


async def test_one_that_was_just_forgotten_is_not_served(pairs):
    watching = readiness.current()
    served = []
    for ours, theirs in pairs[:2]:
        theirs.send(b"x")

        def on_readable(fd: int = ours.fileno()) -> None:
            served.append(fd)
            for other, _ in pairs[:2]:
                watching.forget(other.fileno())

        watching.watch(ours.fileno(), on_readable)
    await wait_all_tasks_blocked()
    assert len(served) == 1


async def test_there_is_one_in_a_run():
    assert readiness.current() is readiness.current()
