"""Transactions that upstream ends by itself after some time, and tells nobody."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from policies.transaction_guard import TransactionGuard
from proxy.addresses import parse_address
from proxy.process.outlived import end_outlived, patience
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.records import Attempt, Session
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, State, Step
from proxy.upstream.facts import Upstreams
from tests.session.fleet import Fleet
from tests.talk import UPSTREAM

KEY = LogicalSessionId(bytes(16), user_digest("alice", "app"))
LIMIT = 60.0

#: A time at which what began at 0 has timed out.
LATE = 102.0


def everybody(_connection: int) -> bool:
    return True


class House:
    """One session in front of an upstream that has said ``hello``."""

    def __init__(self, nursery: trio.Nursery, hello: dict[str, Any], **how: Any) -> None:
        self.store: SessionStore = how["store"] if "store" in how else SessionStore()
        own = how.get("own", everybody)
        self.upstreams = Upstreams(lifetime=how.get("lifetime"))
        self.upstreams.hello(parse_address(UPSTREAM), hello)
        nursery.start_soon(end_outlived, self.store, self._facts, own)
        session = self.store.use(KEY, trio.current_time(), "alice@app")
        assert session is not None
        self.session: Session = session
        self.step(Step.START)

    def _facts(self, upstream: str) -> Any:
        return self.upstreams.of(parse_address(upstream))

    def step(self, step: Step, outcome: Outcome = Outcome.OK, child: bytes = b"") -> None:
        info = OperationSessionInfo(KEY, 5, False, step is Step.START, child=child)
        now = trio.current_time()
        self.store.transaction_step(self.session, step, outcome, info, now, UPSTREAM, 1)

    @property
    def ended(self) -> dict[str, int]:
        return {name: count for name, count in self.store.counts.transactions.items() if count}

    @property
    def open(self) -> int:
        return self.store.open_transactions


MEMBER = {"ok": 1.0, "setName": "rs"}


@pytest.mark.parametrize(("lifetime", "seconds"), [(60, 95), (1, 7), (600, 665), (20, 35)])
def test_upstream_looks_for_them_once_in_half_of_their_time(lifetime, seconds):
    assert patience(lifetime) == seconds


async def test_it_is_over_when_it_is_older_than_upstream_lets_it_be(nursery, autojump_clock):
    house = House(nursery, MEMBER)
    await trio.sleep(patience(LIMIT) - 1)
    assert (house.session.state, house.open) == (State.IN_PROGRESS, 1)
    await trio.sleep(7)
    assert (house.session.state.value, house.open, house.ended) == (
        "timed out",
        0,
        {"timed out": 1},
    )
    assert [one for some in house.store.open_transaction_sessions() for one in some] == []
    # It may be open for all that upstream has said.
    tracker = house.session.transaction
    assert tracker is not None
    assert (tracker.open_ones[0].number, tracker.open_ones[0].upstream) == (5, UPSTREAM)
    assert house.store.owner_transactions("alice@app") == 1
    guard = TransactionGuard(TransactionGuard.Settings(total_seconds=100))
    assert guard.overdue(house.session, trio.current_time() + 60) is not None


@pytest.mark.parametrize(
    ("step", "outcome", "state"),
    [
        (Step.CONTINUE, Outcome.GONE, State.ABORTED),
        (Step.COMMIT, Outcome.GONE, State.ABORTED),
        (Step.ABORT, Outcome.GONE, State.ABORTED),
        (Step.CONTINUE, Outcome.FAILED, State.TIMED_OUT),
    ],
)
async def test_it_is_counted_once_as_its_client_finds_out(
    nursery, autojump_clock, step, outcome, state
):
    house = House(nursery, MEMBER)
    await trio.sleep(LATE)
    house.step(step, outcome)
    assert (house.session.state, house.ended) == (state, {"timed out": 1})
    assert house.store.owner_transactions("alice@app") == (state is State.TIMED_OUT)


async def test_one_that_goes_on_all_the_same_is_open_until_it_ends(nursery, autojump_clock):
    house = House(nursery, MEMBER)
    await trio.sleep(LATE)
    house.step(Step.CONTINUE)
    assert (house.session.state, house.open) == (State.IN_PROGRESS, 1)
    await trio.sleep(1_000)
    assert house.open == 1
    house.step(Step.COMMIT)
    assert house.ended == {"timed out": 1, "committed": 1}
    assert house.store.counts.transactions_started == 1


async def test_one_that_was_committed_late_has_both_ends(nursery, autojump_clock):
    house = House(nursery, MEMBER)
    await trio.sleep(LATE)
    house.step(Step.COMMIT)
    assert (house.open, house.ended) == (0, {"timed out": 1, "committed": 1})
    assert house.store.counts.transactions_started == 1


@pytest.mark.parametrize(
    ("hello", "asked", "set_to", "seconds"),
    [
        (MEMBER, {"ok": 0.0, "code": 13}, None, 95),
        (MEMBER, {"transactionLifetimeLimitSeconds": 20, "ok": 1.0}, None, 35),
        (MEMBER, {"transactionLifetimeLimitSeconds": 20, "ok": 1.0}, 200.0, 265),
        (MEMBER, {"transactionLifetimeLimitSeconds": 20, "ok": 1.0}, 0.0, None),
        (MEMBER, {"transactionLifetimeLimitSeconds": "x", "ok": 1.0}, None, 95),
        ({"ok": 1.0, "msg": "isdbgrid"}, {"ok": 0.0, "code": 72}, None, None),
        ({"ok": 1.0, "msg": "isdbgrid"}, {"transactionLifetimeLimitSeconds": 20}, None, None),
        ({"ok": 1.0, "msg": "isdbgrid"}, {}, 60.0, 95),
        ({"ok": 1.0}, {}, None, None),
    ],
)
async def test_whose_limit_holds(nursery, autojump_clock, hello, asked, set_to, seconds):
    house = House(nursery, hello, lifetime=set_to)
    address = parse_address(UPSTREAM)
    house.upstreams.told_lifetime(address, asked)
    house.upstreams.hello(address, hello)
    await trio.sleep((seconds or 1_700) - 1)
    assert house.open == 1
    if seconds is not None:
        await trio.sleep(7)
        assert house.open == 0


async def test_what_runs_is_waited_for(nursery, autojump_clock):
    house = House(nursery, MEMBER)
    running = house.store.operation_started(KEY, trio.current_time(), "alice@app", connection=1)
    assert running is not None
    running.attempt = Attempt(Step.CONTINUE, OperationSessionInfo(KEY, 5, False), None)
    await trio.sleep(200)
    assert house.open == 1
    house.store.operation_finished(running, trio.current_time())
    await trio.sleep(6)
    assert house.open == 0


async def test_child_sessions_too(nursery, autojump_clock):
    house = House(nursery, MEMBER)
    house.step(Step.START, child=b"child")
    assert house.open == 2
    await trio.sleep(110)
    assert (house.open, house.ended) == (0, {"timed out": 2})
    house.step(Step.CONTINUE, Outcome.GONE, child=b"child")
    assert house.session.activity is None


async def test_of_several_processes_one_notes_it_and_all_know(nursery, autojump_clock):
    fleet = Fleet(2)
    houses = []
    for number, store in enumerate(fleet.stores):
        own = [False, True][number]
        houses.append(House(nursery, MEMBER, store=store, own=lambda _, own=own: own))
        fleet.talk()
    await trio.sleep(110)
    fleet.talk()
    assert [house.session.state for house in houses] == [State.TIMED_OUT] * 2
    assert fleet.hub.open_transactions == 0
    counts = fleet.hub.whole_counts([store.counts.told() for store in fleet.stores])
    assert counts.transactions["timed out"] == 1
