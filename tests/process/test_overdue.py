"""Transactions that are late end, however many they are and however few can be asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import bson
import pytest
import trio
from bson import Int64

from policies.transaction_guard import TransactionGuard
from proxy.conversation.rule import Mode, Rules
from proxy.conversation.sharing import Sessions
from proxy.process.overdue import Place, end_overdue
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.records import CursorId
from proxy.session.transactions import Outcome, State, Step
from proxy.wire.replies import Reply, read_reply
from tests.build import reply
from tests.talk import UPSTREAM, Watching

ALICE = user_digest("alice", "app")
BOB = user_digest("bob", "app")
MONGOS = user_digest("__system", "local")


def key(number: int, uid: bytes = ALICE) -> LogicalSessionId:
    return LogicalSessionId(bytes(14) + number.to_bytes(2, "big"), uid)


class Line:
    """A connection that is idle but for what it is asked, and answers after ``seconds``."""

    def __init__(self, house: House, place: Place | None, seconds: float | None = 0.001) -> None:
        self.house = house
        self.idle_as = place
        self.seconds = seconds
        self.looks = 0
        self.busy = False
        self.acts_for_all = False

    @property
    def place(self) -> Place | None:
        self.looks += 1
        return None if self.busy else self.idle_as

    def ask_all(
        self, questions: Sequence[bytes], handler: Callable[[int, Reply, float], None]
    ) -> None:
        self.busy = True
        self.house.largest = max(self.house.largest, len(questions))
        self.house.asked += [bson.decode(question) for question in questions]
        self.house.nursery.start_soon(self._answer, questions, handler)

    async def _answer(
        self, questions: Sequence[bytes], handler: Callable[[int, Reply, float], None]
    ) -> None:
        if self.seconds is None:
            return
        for number, question in enumerate(questions):
            await trio.sleep(self.seconds)
            self.busy = number < len(questions) - 1
            answer = self.house.answer_to(bson.decode(question))
            handler(number, read_reply(reply(answer, 1)), trio.current_time())


class House:
    """Sessions under a guard, and connections of whose users they are."""

    def __init__(self, nursery: trio.Nursery, mode: Mode = Mode.ENFORCE, **settings: Any) -> None:
        self.nursery = nursery
        self.recorder = Watching()
        guard = TransactionGuard(TransactionGuard.Settings(**settings))
        self.sessions = Sessions(Rules([(guard, mode)]), self.recorder)
        self.store = self.sessions.store
        self.asked: list[dict[str, Any]] = []
        self.largest = 0
        self.answer: dict[str, Any] = {"ok": 1.0}
        self.answer_to: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: self.answer
        self.lines: list[Line] = []
        nursery.start_soon(end_overdue, self.sessions, lambda: self.lines)

    def connect(self, *places: Place | None, seconds: float | None = 0.001) -> House:
        self.lines += [Line(self, place, seconds) for place in places]
        return self

    def open(self, number: int, outcome: Outcome = Outcome.OK, uid: bytes = ALICE) -> None:
        now = trio.current_time()
        session = self.store.use(key(number, uid), now, "alice@app" if uid == ALICE else "bob@app")
        assert session is not None
        info = OperationSessionInfo(key(number, uid), 5, False, True)
        self.store.transaction_step(session, Step.START, outcome, info, now, UPSTREAM, 1)

    def state(self, number: int) -> State:
        session = self.store.get(key(number))
        assert session is not None
        return session.state


AS_ALICE = (UPSTREAM, ALICE)


async def test_a_late_transaction_is_aborted_as_its_owner(nursery, autojump_clock):
    house = House(nursery, total_seconds=60).connect(
        None, ("b:1", ALICE), (UPSTREAM, BOB), AS_ALICE
    )
    house.open(1)
    await trio.sleep(55)
    assert house.asked == []
    await trio.sleep(10)
    [command] = house.asked
    assert command["abortTransaction"] == 1
    assert command["txnNumber"] == Int64(5)
    assert command["autocommit"] is False
    assert bytes(command["lsid"]["id"]) == key(1).id
    assert house.state(1) is State.ABORTED
    assert house.recorder.only("late") == [(5, "aborted", None)]
    await trio.sleep(100)
    assert len(house.asked) == 1


@pytest.mark.parametrize(
    ("answer", "open_still"),
    [
        ({"ok": 1.0, "cursorsKilled": [7], "cursorsNotFound": [8]}, {1, 9, 10}),
        ({"ok": 0.0, "code": 251, "cursorsKilled": [7, 8]}, {1, 7, 8, 9, 10}),
        ({"ok": 0.0, "code": 6}, {1, 7, 8, 9, 10}),
    ],
    ids=["killed", "refused", "not over"],
)
async def test_its_cursors_end_with_it(answer, open_still, nursery, autojump_clock):
    house = House(nursery, total_seconds=60).connect(AS_ALICE)
    house.answer = answer
    house.open(1)
    session = house.store.get(key(1))
    for number, where, within in (
        (1, UPSTREAM, -1),
        (7, UPSTREAM, 5),
        (8, UPSTREAM, 5),
        (9, UPSTREAM, 4),
        (10, "b:1", 5),
    ):
        cursor = CursorId(where, number)
        house.store.cursor_opened(cursor, session, "shop.orders", 1.0, 1, within)
    await trio.sleep(62)
    kills = [one for one in house.asked if "killCursors" in one]
    if answer.get("code") == 6:
        assert kills == []
    else:
        assert kills == [{"killCursors": "orders", "cursors": [7, 8], "$db": "shop"}]
        assert list(house.asked[0]) != list(kills[0])
    assert {cursor.id for cursor in session.activity.cursors} == open_still


async def test_a_connection_is_asked_again_behind_the_cursors(nursery, autojump_clock):
    house = House(nursery, total_seconds=60).connect(AS_ALICE)
    house.answer = {"ok": 1.0, "cursorsKilled": []}
    for number in range(60):
        house.open(number)
        cursor = CursorId(UPSTREAM, number + 1)
        house.store.cursor_opened(cursor, house.store.get(key(number)), "a.b", 1.0, 1, 5)
    await trio.sleep(65)
    assert [
        sum(name in one for one in house.asked) for name in ("abortTransaction", "killCursors")
    ] == [60, 60]


@pytest.mark.parametrize(
    ("answer", "state", "decision"),
    [
        ({"ok": 1.0}, State.ABORTED, "aborted"),
        ({"ok": 0.0, "code": 251}, State.ABORTED, "over"),
        ({"ok": 0.0, "code": 225}, State.ABORTED, "over"),
        ({"ok": 0.0, "code": 256}, State.COMMITTED, "over"),
        ({"ok": 0.0, "code": 10107}, State.ABORTED, "over"),
        ({"ok": 0.0, "code": 6}, State.IN_PROGRESS, "failed"),
        ({"ok": 0.0, "code": 13}, State.IN_PROGRESS, "failed"),
    ],
)
async def test_what_upstream_says_of_it(answer, state, decision, nursery, autojump_clock):
    house = House(nursery, total_seconds=60).connect(AS_ALICE)
    house.answer = answer
    house.open(1)
    await trio.sleep(65)
    assert house.state(1) is state
    assert house.recorder.only("late")[0] == (5, decision, answer.get("code"))
    assert house.store.owner_transactions("alice@app") == (state is State.IN_PROGRESS)
    house.answer = {"ok": 1.0}
    await trio.sleep(3)
    assert house.store.owner_transactions("alice@app") == 0


async def test_one_that_was_begun_without_an_answer_ends_too(nursery, autojump_clock):
    house = House(nursery, idle_seconds=10).connect(AS_ALICE)
    house.open(1, Outcome.LOST)
    assert house.store.owner_transactions("alice@app") == 1
    await trio.sleep(13)
    assert [one["txnNumber"] for one in house.asked] == [5]
    assert house.store.owner_transactions("alice@app") == 0


async def test_starts_without_an_answer_hide_none_that_is_late(nursery, autojump_clock):
    house = House(nursery, total_seconds=60).connect(AS_ALICE)
    house.answer = {"ok": 0.0, "code": 225, "errmsg": "a newer transaction has already started"}
    house.open(1)
    session = house.store.get(key(1))
    for later in (6, 9):
        info = OperationSessionInfo(key(1), later, False, True)
        house.store.transaction_step(session, Step.START, Outcome.LOST, info, 1.0, UPSTREAM, 1)
    await trio.sleep(65)
    assert [command["txnNumber"] for command in house.asked] == [5, 6, 9]
    assert house.store.owner_transactions("alice@app") == 0


async def test_one_that_upstream_will_not_abort_leaves_none_that_came_later_open(
    nursery, autojump_clock
):
    house = House(nursery, total_seconds=60).connect(AS_ALICE)
    house.answer_to = lambda command: (
        {"ok": 0.0, "code": 322} if command["txnNumber"] == 5 else {"ok": 1.0}
    )
    house.open(1, Outcome.LOST)
    session = house.store.get(key(1))
    for later in (6, 9):
        info = OperationSessionInfo(key(1), later, False, True)
        house.store.transaction_step(session, Step.START, Outcome.LOST, info, 1.0, UPSTREAM, 1)
    await trio.sleep(66)
    assert {command["txnNumber"] for command in house.asked} == {5, 6, 9}
    await trio.sleep(200)
    assert house.recorder.only("gave up") == [(5, 322)]
    assert [command["txnNumber"] for command in house.asked].count(5) == 5
    assert [one.number for one in session.transaction.open_ones] == [5]


async def test_without_a_connection_of_the_owners_it_is_tried_again_later(nursery, autojump_clock):
    house = House(nursery, idle_seconds=60)
    house.open(1)
    await trio.sleep(100)
    assert house.state(1) is State.IN_PROGRESS
    house.connect(AS_ALICE)
    await trio.sleep(3)
    assert house.state(1) is State.ABORTED


async def test_whoever_may_act_for_everybody_ends_it_where_its_owner_has_no_connection(
    nursery, autojump_clock
):
    house = House(nursery, idle_seconds=60).connect((UPSTREAM, MONGOS), ("b:1", MONGOS))
    for line in house.lines:
        line.acts_for_all = True
    house.open(1)
    house.open(1, uid=BOB)
    house.open(2, uid=MONGOS)
    await trio.sleep(70)
    assert house.store.open_transactions == 0
    named = [bytes(one["lsid"].get("uid", MONGOS)) for one in house.asked]
    assert sorted(named) == sorted([ALICE, BOB, MONGOS])
    house.connect((UPSTREAM, ALICE))
    house.open(3)
    await trio.sleep(70)
    assert "uid" not in house.asked[-1]["lsid"]
    assert len(house.asked) == 4


async def test_nobody_stands_in_who_may_not_any_more(nursery, autojump_clock):
    house = House(nursery, idle_seconds=1).connect((UPSTREAM, MONGOS), seconds=0.1)
    [line] = house.lines
    line.acts_for_all = True
    for number in range(60):
        house.open(number)
    await trio.sleep(3)
    line.acts_for_all = False
    await trio.sleep(30)
    assert len(house.asked) == 50


@pytest.mark.parametrize("lines", [1, 5])
async def test_all_that_is_late_ends_within_two_seconds(lines, nursery, autojump_clock):
    house = House(nursery, idle_seconds=1).connect(*[AS_ALICE] * lines, seconds=0.0002)
    for number in range(2_000):
        house.open(number)
    await trio.sleep(4)
    assert house.store.open_transactions == 0
    assert len(house.asked) == 2_000
    assert house.largest == 50


async def test_each_connection_is_looked_at_once_a_round_however_much_is_late(
    nursery, autojump_clock
):
    house = House(nursery, idle_seconds=1).connect(*[(UPSTREAM, BOB)] * 100)
    for number in range(500):
        house.open(number)
    await trio.sleep(11.5)
    assert all(line.looks <= 11 for line in house.lines)
    assert house.asked == []


async def test_a_question_without_an_answer_is_not_put_again_at_once(nursery, autojump_clock):
    house = House(nursery, idle_seconds=1).connect(AS_ALICE, seconds=None)
    for number in range(60):
        house.open(number)
    await trio.sleep(8)
    assert len(house.asked) == 50
    house.connect(AS_ALICE)
    await trio.sleep(3)
    assert len(house.asked) == 60
    await trio.sleep(10)
    assert house.store.open_transactions == 0


@pytest.mark.parametrize(
    ("mode", "settings"),
    [(Mode.ENFORCE, {"per_user": 1}), (Mode.REPORT, {"total_seconds": 1}), (Mode.ENFORCE, {})],
)
async def test_without_such_a_limit_nothing_is_aborted(mode, settings, nursery, autojump_clock):
    house = House(nursery, mode, **settings).connect(AS_ALICE)
    house.open(1)
    await trio.sleep(1_000)
    assert house.state(1) is State.IN_PROGRESS


async def test_an_abort_that_is_always_refused_is_given_up(nursery, autojump_clock):
    house = House(nursery, total_seconds=10).connect(AS_ALICE)
    house.answer = {"ok": 0.0, "code": 347}
    house.open(1)
    await trio.sleep(200)
    assert house.recorder.only("late") == [(5, "failed", 347)] * 5
    assert house.recorder.only("gave up") == [(5, 347)]
    assert house.store.open_transactions == 1
    # Another transaction is another matter.
    house.answer = {"ok": 1.0}
    session = house.store.get(key(1))
    assert session is not None
    info = OperationSessionInfo(key(1), 6, False, True)
    now = trio.current_time()
    house.store.transaction_step(session, Step.START, Outcome.OK, info, now, UPSTREAM, 1)
    await trio.sleep(12)
    assert house.store.open_transactions == 0
    assert house.recorder.only("gave up") == [(5, 347)]


async def test_the_time_between_two_tries_grows(nursery, autojump_clock):
    house = House(nursery, total_seconds=10).connect(AS_ALICE)
    house.answer = {"ok": 0.0, "code": 6}
    house.open(1)
    tries = []
    for _ in range(40):
        before = len(house.asked)
        await trio.sleep(1)
        tries += [trio.current_time()] * (len(house.asked) - before)
    pauses = [round(b - a) for a, b in pairwise(tries)]
    assert len(pauses) == 4
    assert pauses == sorted(pauses)
    assert sum(pauses) >= 15


async def test_upstream_that_has_too_much_to_do_refuses_nothing(nursery, autojump_clock):
    house = House(nursery, total_seconds=10).connect(AS_ALICE)
    labels = ["SystemOverloadedError", "RetryableError"]
    house.answer = {"ok": 0.0, "code": 462, "errorLabels": labels}
    house.open(1)
    await trio.sleep(60)
    assert house.recorder.only("gave up") == []
    house.answer = {"ok": 1.0}
    await trio.sleep(3)
    assert house.store.open_transactions == 0


async def test_refusals_are_forgotten_with_their_transactions(nursery, autojump_clock):
    house = House(nursery, total_seconds=10).connect(AS_ALICE)
    house.answer = {"ok": 0.0, "code": 347}
    for number in range(60):
        house.open(number)
    await trio.sleep(100)
    assert len(house.recorder.only("gave up")) == 60
    for number in range(60):
        session = house.store.get(key(number))
        assert session is not None
        assert house.store.forget(session)
    await trio.sleep(3)
    house.open(1)
    await trio.sleep(100)
    assert len(house.recorder.only("gave up")) == 61


async def test_the_parameters_that_a_transaction_began_with_are_repeated(nursery, autojump_clock):
    house = House(nursery, total_seconds=10).connect(AS_ALICE)
    house.open(1)
    session = house.store.get(key(1))
    assert session is not None
    assert session.transaction is not None
    session.transaction.api = bson.encode({"apiVersion": "1", "apiStrict": True})[4:-1]
    await trio.sleep(12)
    [command] = house.asked
    assert (command["apiVersion"], command["apiStrict"], command["$db"]) == ("1", True, "admin")


@pytest.mark.parametrize("seconds", [1.5, 3.5])
async def test_an_answer_that_comes_in_a_later_round_ends_nothing_but_its_transaction(
    seconds, autojump_clock
):
    async with trio.open_nursery() as nursery:
        house = House(nursery, total_seconds=60).connect(AS_ALICE, seconds=seconds)
        house.connect((UPSTREAM, BOB), seconds=0.01)
        house.open(0)
        await trio.sleep(1)
        for number in range(1, 500):
            house.open(number, uid=BOB)
        await trio.sleep(75)
        assert house.store.open_transactions == 0
        assert len(house.asked) == 500
        nursery.cancel_scope.cancel()
