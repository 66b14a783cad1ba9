"""Plain functions called for readable sockets, from one task of the run."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from proxy.net import awake, readiness


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(50)]
    yield made
    for pair in made:
        for sock in pair:
            sock.close()


@pytest.fixture(autouse=True)
def free_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody tells how busy this machine is."""
    for account in ("_OF_ALL", "_OF_THREAD"):
        monkeypatch.setattr(awake.Starved, account, "/nowhere")


def nothing() -> None:
    raise AssertionError("nothing is to be settled")


async def test_every_readable_socket_is_served_until_it_is_forgotten(pairs):
    watching = readiness.current()
    got: dict[int, bytes] = {}

    def reader(sock: socket.socket):
        def take() -> bool:
            got[sock.fileno()] = got.get(sock.fileno(), b"") + sock.recv(2)
            return False

        return take

    for ours, _ in pairs:
        watching.watch(ours.fileno(), reader(ours), nothing)
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

        def take(fd: int = ours.fileno()) -> bool:
            served.append(fd)
            for other, _ in pairs[:2]:
                watching.forget(other.fileno())
            return False

        watching.watch(ours.fileno(), take, nothing)
    await wait_all_tasks_blocked()
    assert len(served) == 1


async def test_what_was_taken_of_several_is_settled_together(pairs):
    # Nor does it end early where this process has to wait for a processor.
    watching = readiness.current()
    watching.slice, watching.unsent = 3600.0, 3600.0
    happened: list[str] = []
    for ours, theirs in pairs[:3]:
        theirs.send(b"x")

        def take(ours: socket.socket = ours) -> bool:
            ours.recv(1)
            happened.append("take")
            return len(happened) != 2

        watching.watch(ours.fileno(), take, lambda: happened.append("settle"))
    await wait_all_tasks_blocked()
    assert happened == ["take"] * 3 + ["settle"] * 2


async def test_what_was_taken_does_not_wait_for_long_to_be_settled(pairs):
    watching = readiness.current()
    watching.slice, watching.unsent = 3600.0, -1.0
    happened: list[str] = []
    for ours, theirs in pairs[:3]:
        theirs.send(b"x")

        def take(ours: socket.socket = ours) -> bool:
            happened.append("take")
            return bool(ours.recv(1))

        watching.watch(ours.fileno(), take, lambda: happened.append("settle"))
    await wait_all_tasks_blocked()
    assert happened == ["take", "settle"] * 3


async def test_one_that_takes_long_keeps_no_other_from_its_turn(pairs):
    """The kernel names it first each time."""
    watching = readiness.current()
    watching.slice, watching.unsent = -1.0, -1.0
    served = []
    for number, (ours, theirs) in enumerate(pairs[:4]):
        theirs.send(b"12")

        def take(number: int = number, ours: socket.socket = ours) -> bool:
            served.append(number)
            ours.recv(1)
            return False

        watching.watch(ours.fileno(), take, nothing)
    await wait_all_tasks_blocked()
    assert served == [0, 1, 2, 3] * 2


async def test_there_is_one_in_a_run():
    assert readiness.current() is readiness.current()


# ---------------------------------------------------------------------- waiting awake


async def test_what_comes_while_it_waits_awake_is_served_and_others_have_their_turn(pairs):
    watching = readiness.current()
    watching.be_patient(3600.0)
    ours, theirs = pairs[0]
    served = []
    watching.watch(ours.fileno(), lambda: bool(served.append(ours.recv(1))), nothing)
    await wait_all_tasks_blocked()
    asleep = sleepers()
    for number in range(2000):
        theirs.send(b"x")
        while len(served) == number:
            await trio.lowlevel.checkpoint()
    assert sleepers() == asleep - 1
    assert watching.lingered == 0


def sleepers() -> int:
    """How many tasks of the run wait for a descriptor."""
    return trio.lowlevel.current_statistics().io_statistics.tasks_waiting_read


async def test_it_goes_to_sleep_where_nothing_comes(pairs, monkeypatch):
    monkeypatch.setattr(awake.Others, "allow", lambda _self, _now: True)
    watching = readiness.current()
    watching.be_patient(1e-9)
    ours, theirs = pairs[0]
    served = []
    watching.watch(ours.fileno(), lambda: bool(served.append(ours.recv(1))), nothing)
    for number in range(readiness.Odds._TRY_AGAIN):
        assert watching.lingered == 0
        theirs.send(b"x")
        await wait_all_tasks_blocked()
        assert len(served) == number + 1
    assert watching.lingered > 0


async def test_what_it_costs_others_is_tried_with_the_first_message(pairs):
    watching = readiness.current()
    watching.be_patient(1e-9)
    ours, theirs = pairs[0]
    watching.watch(ours.fileno(), lambda: not ours.recv(1), nothing)
    theirs.send(b"x")
    await wait_all_tasks_blocked()
    assert watching.lingered > 0


async def test_without_patience_it_sleeps_at_once(pairs):
    assert await lingered(pairs[0], 0) == 0


async def test_what_others_need_is_left_to_them(pairs, monkeypatch):
    monkeypatch.setattr(awake.Others, "allow", lambda _self, _now: False)
    assert await lingered(pairs[0], 1e-9) == 0


@pytest.mark.parametrize("some", [1.0, 1.5, 0.25])
async def test_a_single_processor_is_left_to_others(pairs, monkeypatch, some):
    monkeypatch.setattr(readiness, "processors", lambda: some)
    assert await lingered(pairs[0], 3600.0) == 0


async def lingered(pair: tuple[socket.socket, socket.socket], patience: float) -> float:
    """How long was waited awake in vain for 100 messages, one at a time."""
    watching = readiness.current()
    watching.be_patient(patience)
    ours, theirs = pair
    watching.watch(ours.fileno(), lambda: not ours.recv(1), nothing)
    for _ in range(100):
        theirs.send(b"x")
        await wait_all_tasks_blocked()
    return watching.lingered
