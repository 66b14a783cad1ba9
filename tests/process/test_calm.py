"""Who watches is told at a moment when the application reads no cursor. With stand-ins."""

from __future__ import annotations

import itertools
import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from proxy.process import calm, draining
from proxy.process.calm import Seen, let_go_in_calm
from proxy.process.draining import LONGEST_REST, Draining
from proxy.process.reads import Reading
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
        self.awaits_news = monitors
        self.opened = 0.0
        self.rests: list[tuple[float, bool]] = []
        self.drained: float | None = None

    def rest(self, resting: bool) -> None:
        self.rests.append((trio.current_time(), resting))

    def drain(self) -> None:
        if self.drained is None:
            self.drained = trio.current_time()


NUMBERS = itertools.count(1)


def operation(command: str) -> Any:
    return SimpleNamespace(command=command, connection=1, request_id=next(NUMBERS))


class Store:
    """Whose sessions do what: cursors, or commands in flight."""

    def __init__(self) -> None:
        self.sessions: list[Any] = []
        self.opened = trio.current_time()

    def busy(self, origin: Origin, *commands: str, cursors: int = 0) -> Any:
        operations = [operation(name) for name in commands]
        activity = SimpleNamespace(cursors=dict.fromkeys(range(cursors)), operations=operations)
        self.sessions.append(SimpleNamespace(origin=origin, activity=activity))
        return activity

    def cursor_opened_at(self, _cursor: Any) -> float:
        return self.opened

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


@pytest.fixture(autouse=True)
def _not_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(calm, "_SHARE", math.inf)


@pytest.fixture
def scene(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> Scene:
    return Scene(nursery)


async def test_who_reads_nothing_is_told_at_once_and_rests_until_it_has_found_the_other(
    scene, autojump_clock
):
    began = trio.current_time()
    scene.store.busy(SHOP, "update", "ping")
    scene.begin()
    await trio.sleep(2)
    for connection in (scene.watching, scene.other[0]):
        assert connection.drained == near(began)
    for connection in (scene.working, scene.other[1]):
        assert [resting for _, resting in connection.rests] == [True, False]
        assert connection.rests[1][0] == near(began + calm.FINDING_SECONDS)
        assert connection.drained is None


@pytest.mark.parametrize("command", ["find", "aggregate", "getMore", ""])
async def test_whose_cursors_are_open_is_told_when_they_were_read(scene, autojump_clock, command):
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


async def test_who_reads_on_and_on_is_held_up_seldom_and_told_in_the_end(scene, autojump_clock):
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


async def read_on(activity: Any, seconds: float) -> None:
    """One batch after the other, each of which takes its time."""
    end = trio.current_time() + seconds
    while trio.current_time() < end:
        await trio.sleep(0.25)
        activity.operations[0] = operation("getMore")
    activity.operations.clear()
    activity.cursors.clear()


async def test_on_a_busy_machine_it_is_waited_for_while_cursors_are_read_to_their_ends(
    scene, autojump_clock
):
    began = trio.current_time()
    activity = scene.store.busy(SHOP, "getMore", cursors=1)
    scene.begin()
    await read_on(activity, 2.0)
    await trio.sleep(0.1)
    assert scene.watching.drained == near(began + 2)
    assert scene.working.rests == [(near(began), True)]


@pytest.mark.parametrize(("age", "rests"), [(0.0, 3.0), (20.0, 0.3)])
async def test_it_is_not_waited_for_what_is_read_on_and_on(scene, autojump_clock, age, rests):
    began = trio.current_time()
    scene.store.opened = began - age
    activity = scene.store.busy(SHOP, "getMore", cursors=1)
    scene.begin()
    await read_on(activity, 4.0)
    assert scene.working.rests[:2] == [(near(began), True), (near(began + rests), False)]


class Both:
    """Two workers' connections."""

    def __init__(self, *workers: Draining) -> None:
        self._workers = workers
        self.gone = False
        self.seen_again: float | None = None
        #: What is read in the other process, and the time it took to look.
        self.there: tuple[dict[Origin, Reading], float] | None = {}, 0.0

    async def look(self, resting):
        await trio.sleep(0.01)
        if self.gone:
            return None
        seen = [one.see(resting) for one in self._workers]
        return Seen({origin: n for one in seen for origin, n in one.watching.items()}, {}, 0.0)

    async def look_there(self, resting):
        return self.there

    def found(self, origin, then, waiting):
        assert waiting == 1
        return self.seen_again is not None and self.seen_again >= then

    async def let_go(self, origins):
        for one in self._workers:
            await trio.sleep(0.01)
            one.tell(origins)


@pytest.mark.parametrize("found", [True, False])
async def test_who_works_in_one_worker_rests_while_another_one_lets_its_driver_go(
    found, nursery, autojump_clock
):
    store = Store()
    watching, working, bank = Connection(SHOP, monitors=True), Connection(SHOP), Connection(BANK)
    workers = [
        Draining({1: watching, 3: bank}, store, alone=False),
        Draining({2: working}, store, alone=False),
    ]
    both = Both(*workers)
    for one in workers:
        one.begin(nursery, LIMITS, replaced=True)
    began = trio.current_time()
    activity = store.busy(SHOP, cursors=1)
    nursery.start_soon(let_go_in_calm, both, store, began + 20)
    await trio.sleep(0.2)
    assert working.rests == [(near(began), True)]
    assert watching.drained is None
    both.seen_again = began  # by another instance of the application
    activity.cursors.clear()
    await trio.sleep(1)
    assert watching.drained == near(began + 0.2)
    assert [resting for _, resting in working.rests] == [True], "its driver was not seen there yet"
    if found:
        both.seen_again = trio.current_time()
    await trio.sleep(4)
    assert [resting for _, resting in working.rests] == [True, False]
    lasted = working.rests[-1][0] - watching.drained
    assert lasted == near(1.0 if found else calm._MOST_HOLD_SECONDS)
    assert bank.rests == []
    both.gone = True


async def test_what_is_read_through_the_other_process_is_read_too(nursery, autojump_clock):
    store = Store()
    watching, working = Connection(SHOP, monitors=True), Connection(SHOP)
    draining = Draining({1: watching, 2: working}, store, alone=False)
    both = Both(draining)
    draining.begin(nursery, LIMITS, replaced=True)
    began = trio.current_time()
    both.there = {SHOP: Reading(7, 0.1), BANK: Reading(8)}, 0.0
    nursery.start_soon(let_go_in_calm, both, store, began + 20)
    await trio.sleep(0.1)
    assert watching.drained is None
    both.there = None  # no answer: nobody knows
    await trio.sleep(0.05)
    assert watching.drained is None
    both.there = {BANK: Reading(8)}, 0.0
    await trio.sleep(0.1)
    assert watching.drained == near(began + 0.15)
    both.gone = True


async def test_a_worker_without_a_word_lets_go_by_itself_in_the_end(nursery, autojump_clock):
    store = Store()
    watching, working = Connection(SHOP, monitors=True), Connection(SHOP)
    one = Draining({1: watching, 2: working}, store, alone=False)
    began = trio.current_time()
    one.begin(nursery, LIMITS, replaced=True)
    one.see({SHOP})
    await trio.sleep(5)
    assert working.rests == [
        (near(began), True),
        (near(began + draining.LONGEST_REST), False),
    ]
    assert watching.drained is None
    await trio.sleep(20)
    assert watching.drained == near(began + 20)


async def test_nobody_rests_where_there_is_no_other_process(scene, autojump_clock):
    began = trio.current_time()
    scene.store.busy(SHOP, cursors=1)
    scene.begin(replaced=False)
    await trio.sleep(0.1)
    assert scene.watching.drained == near(began)
    assert scene.working.rests == []


async def test_nobody_rests_for_longer_than_there_is_time(scene, autojump_clock):
    scene.store.busy(SHOP, cursors=1)
    scene.begin()
    await trio.sleep(0.1)
    assert scene.working.rests[-1][1] is True
    for number in list(scene.connections):
        scene.draining.left(number)
    await trio.lowlevel.checkpoint()
    await trio.testing.wait_all_tasks_blocked()
    assert scene.working.rests[-1][1] is False


async def test_nobody_rests_for_long_while_the_other_process_is_asked(nursery, autojump_clock):
    """As where it does not answer, and other clusters' questions are put before."""

    async def ask(resting: Any) -> Any:
        if resting:
            await trio.sleep(4)
        return {}, 0.0

    store: Any = Store()
    store.busy(SHOP, cursors=1)
    working = Connection(SHOP)
    connections: Any = {1: Connection(SHOP, monitors=True), 2: working}
    draining = Draining(connections, store, look_there=ask)
    draining.begin(nursery, LIMITS, replaced=True)
    await trio.sleep(10)
    (began, rests), (ended, rest) = working.rests[:2]
    assert (rests, rest) == (True, False)
    assert ended - began < LONGEST_REST + 0.1
