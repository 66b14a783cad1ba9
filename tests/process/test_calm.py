"""Who watches is told at a moment when the application reads no cursor. With stand-ins."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from proxy.process import draining
from proxy.process.draining import Draining
from proxy.session.ids import Origin
from proxy.settings.limits import Limits

near = partial(pytest.approx, abs=0.2)

SHOP, BANK = Origin("10.0.0.1", "shop"), Origin("10.0.0.2", "bank")
LIMITS = Limits(drain_seconds=80.0)


class Connection:
    def __init__(self, origin: Origin, *, monitors: bool = False) -> None:
        self.origin = origin
        self.monitors = monitors
        self.works = not monitors
        self.greets = monitors
        self.rests: list[tuple[float, bool]] = []
        self.drained: float | None = None

    def rest(self, resting: bool) -> None:
        self.rests.append((trio.current_time(), resting))

    def drain(self) -> None:
        if self.drained is None:
            self.drained = trio.current_time()


class Store:
    """Whose sessions do what: cursors, or commands in flight."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []

    def busy(self, origin: Origin, *commands: str, cursors: int = 0) -> Any:
        operations = [SimpleNamespace(command=name) for name in commands]
        activity = SimpleNamespace(cursors=dict.fromkeys(range(cursors)), operations=operations)
        self.sessions.append(SimpleNamespace(origin=origin, activity=activity))
        return activity

    def active(self) -> Any:
        return iter([self.sessions, [SimpleNamespace(origin=SHOP, activity=None)]])


class Scene:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.store = Store()
        self.watching = Connection(SHOP, monitors=True)
        self.working = Connection(SHOP)
        self.other = Connection(BANK, monitors=True), Connection(BANK)
        self.connections = dict(enumerate([self.watching, self.working, *self.other]))
        self.draining = Draining(self.connections, self.store)
        self._nursery = nursery

    def begin(self, *, replaced: bool = True) -> None:
        self.draining.begin(self._nursery, LIMITS, replaced=replaced)


@pytest.fixture
def scene(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> Scene:
    return Scene(nursery)


async def test_who_reads_nothing_is_told_at_once_and_rests_until_it_has_found_the_other(scene):
    began = trio.current_time()
    scene.store.busy(SHOP, "update", "ping")
    scene.begin()
    await trio.sleep(2)
    for connection in (scene.watching, scene.other[0]):
        assert connection.drained == near(began)
    for connection in (scene.working, scene.other[1]):
        assert [resting for _, resting in connection.rests] == [True, False]
        assert connection.rests[1][0] == near(began + draining._FINDING_SECONDS)
        assert connection.drained is None


@pytest.mark.parametrize("command", ["find", "aggregate", "getMore", ""])
async def test_whose_cursors_are_open_is_told_when_they_were_read(scene, command):
    began = trio.current_time()
    activity = scene.store.busy(SHOP, *filter(None, [command]), cursors=not command)
    scene.begin()
    await trio.sleep(0.2)
    assert scene.other[0].drained == near(began), "others do not wait for them"
    assert scene.watching.drained is None
    assert scene.working.rests == [(near(began), True)], "nothing new begins meanwhile"
    activity.cursors.clear()
    activity.operations.clear()
    await trio.sleep(0.1)
    assert scene.watching.drained == near(began + 0.2)
    await trio.sleep(2)
    assert scene.working.rests[-1][1] is False


async def test_who_reads_on_and_on_is_held_up_seldom_and_told_in_the_end(scene):
    began = trio.current_time()
    scene.store.busy(SHOP, cursors=1)
    scene.begin()
    await trio.sleep(10)
    assert scene.watching.drained is None
    rested = sum(
        until - since
        for (since, _), (until, _) in zip(
            scene.working.rests[::2], scene.working.rests[1::2], strict=False
        )
    )
    assert 1 < rested < 4
    await trio.sleep(15)
    assert scene.watching.drained == near(began + 20)
    await trio.sleep(2)
    assert scene.working.rests[-1][1] is False


async def test_nobody_rests_where_there_is_no_other_process(scene):
    began = trio.current_time()
    scene.store.busy(SHOP, cursors=1)
    scene.begin(replaced=False)
    await trio.sleep(0.1)
    assert scene.watching.drained == near(began)
    assert scene.working.rests == []


async def test_nobody_rests_for_longer_than_there_is_time(scene):
    scene.store.busy(SHOP, cursors=1)
    scene.begin()
    await trio.sleep(0.1)
    assert scene.working.rests[-1][1] is True
    for number in list(scene.connections):
        scene.draining.left(number)
    await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.working.rests[-1][1] is False
