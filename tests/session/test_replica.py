"""Several processes that tell each other of their sessions have one picture, that of one store."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.build import VERSION
from proxy.session.hub import Hub
from proxy.session.ids import LogicalSessionId, OpenTransaction
from proxy.session.info import OperationSessionInfo
from proxy.session.records import CursorId, Ending, Hit, InFlight, Operation, Selection
from proxy.session.replica import SharedStore
from proxy.session.steps import MANY, in_one_go
from proxy.session.store import SessionStore
from proxy.session.telling import TOLD, acts_of
from proxy.session.tracker import Tracker
from proxy.session.transactions import Outcome, State, Step
from tests.session.fleet import KEYS, NAMES, SHOP, UPSTREAM, Fleet, begin, step
from tests.session.sessions import ALICE, BOB, uuid

pytestmark = pytest.mark.skipif("+compiled" in VERSION, reason="compiled: has no __slots__ to see")


def picture(store: SessionStore, *, last_use: bool = True, endings: bool = True) -> dict[Any, Any]:
    """All that one knows, operations in flight aside."""
    found: dict[Any, Any] = {}
    for session in store.page(0, 1000).sessions:
        ending, tracker = store.ending(session), session.transaction
        cursors = {} if session.activity is None else session.activity.cursors
        found[session.key] = (
            session.owner.name,
            session.first_use,
            session.last_use if last_use else 0,
            ending if endings else None,
            {cursor: (name, store.cursor_opened_at(cursor)) for cursor, name in cursors.items()},
            None
            if tracker is None
            else (tracker.number, tracker.state, tracker.doubt, tracker.statements),
        )
    return found


def numbers(store: SessionStore) -> tuple[Any, ...]:
    names = NAMES.values()
    return (
        len(store),
        store.open_transactions,
        store.open_cursors(),
        [store.owner_sessions(name) for name in names],
        [store.owner_transactions(name) for name in names],
        store.application_sessions("shop"),
    )


class FleetMachine(RuleBasedStateMachine):
    """What happens in any process happens in one plain store too; everybody talks in between."""

    #: Whether everybody has heard of a thing before the next one happens.
    at_once = True

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.fleet = Fleet()
        self.one = SessionStore()
        self.cursors = 0
        self.running: list[tuple[int, Operation, Operation]] = []

    def both(self, process: int) -> tuple[SessionStore, SessionStore]:
        self.now += 1
        return self.fleet.stores[process], self.one

    processes = st.integers(0, 2)
    keys = st.sampled_from(KEYS)

    @rule(process=processes, key=keys)
    def use(self, process: int, key: LogicalSessionId) -> None:
        for store in self.both(process):
            store.use(key, self.now, NAMES[key.uid], SHOP)

    @rule(process=processes, some=st.lists(keys, unique=True, max_size=4))
    def end(self, process: int, some: list[LogicalSessionId]) -> None:
        for store in self.both(process):
            store.end(some, self.now)

    @rule(
        process=processes,
        within=st.builds(
            Selection,
            everything=st.booleans(),
            uids=st.frozensets(st.sampled_from((ALICE, BOB)), max_size=1),
            keys=st.frozensets(keys, max_size=2),
        ),
    )
    def kill(self, process: int, within: Selection) -> None:
        if not self.at_once:
            # Of many sessions at once that were used at the same moment nobody asks which were hit.
            within = Selection(keys=within.keys)
        for store in self.both(process):
            store.kill(within, self.now, UPSTREAM)

    @rule(process=processes, key=keys)
    def open_cursor(self, process: int, key: LogicalSessionId) -> None:
        self.cursors += 1
        for store in self.both(process):
            session = store.use(key, self.now, NAMES[key.uid], SHOP)
            assert session is not None
            store.cursor_opened(CursorId(UPSTREAM, self.cursors), session, "app.c", self.now)

    @rule(process=processes, back=st.integers(0, 3))
    def close_cursor(self, process: int, back: int) -> None:
        for store in self.both(process):
            store.cursor_closed(CursorId(UPSTREAM, self.cursors - back))

    @rule(
        process=processes,
        key=keys,
        what=st.sampled_from(Step),
        outcome=st.sampled_from(Outcome),
        ahead=st.integers(0, 1),
    )
    def transact(
        self, process: int, key: LogicalSessionId, what: Step, outcome: Outcome, ahead: int
    ) -> None:
        session = self.one.get(key)
        number = max(0, -1 if session is None else session.txn_number) + ahead
        for store in self.both(process):
            step(store, key, what, outcome, number, self.now)

    @rule(process=processes, key=keys)
    def abort(self, process: int, key: LogicalSessionId) -> None:
        for store in self.both(process):
            session = store.get(key)
            if session is not None:
                store.abort_transaction(session, self.now)

    @rule(process=processes, key=keys)
    def start(self, process: int, key: LogicalSessionId) -> None:
        made = [
            store.operation_started(key, self.now, NAMES[key.uid], SHOP, process, self.cursors)
            for store in self.both(process)
        ]
        there, here = made
        assert there is not None
        assert here is not None
        self.running.append((process, there, here))

    @rule(back=st.integers(1, 3), refused=st.booleans())
    def finish(self, back: int, refused: bool) -> None:
        if len(self.running) >= back:
            process, there, here = self.running.pop(-back)
            if not self.at_once:
                refused = False
            # Somebody else may have found a session that was to go when another made it.
            refused = refused and there.vivified == here.vivified
            for store, operation in zip(self.both(process), (there, here), strict=True):
                store.operation_finished(operation, self.now, refused)

    @rule()
    def talk(self) -> None:
        self.fleet.talk()

    @invariant()
    def all_see_the_same(self) -> None:
        if self.at_once:
            self.fleet.talk(2)
            whole, figures = picture(self.one), numbers(self.one)
            assert picture(self.fleet.hub) == whole
            assert numbers(self.fleet.hub) == figures
            assert self.fleet.hub.hit(Selection(everything=True)) == self.one.hit(
                Selection(everything=True)
            )
            for store in self.fleet.stores:
                assert picture(store, last_use=False) == picture(self.one, last_use=False)
                assert numbers(store) == figures

    def teardown(self) -> None:
        for process, there, _ in self.running:
            self.now += 1
            self.fleet.stores[process].operation_finished(there, self.now)
        self.fleet.talk()
        # Of a use and a kill at the same moment each may think another one came last.
        how = {"last_use": False, "endings": self.at_once}
        whole = picture(self.fleet.hub, **how)
        for store in self.fleet.stores:
            assert picture(store, **how) == whole
            assert numbers(store) == numbers(self.fleet.hub)
        assert picture(self.fleet.joins(), **how) == whole


class LateMachine(FleetMachine):
    """As above, but news travel only now and then: in the end all agree."""

    at_once = False


TestFleet = FleetMachine.TestCase
TestFleet.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestLate = LateMachine.TestCase
TestLate.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


# ---------------------------------------------------------------------- one by one


def test_what_is_told_of_a_transaction_is_all_but_what_waits() -> None:
    assert set(TOLD) == set(Tracker.__slots__) - {"starting"}


def test_operations_are_known_to_the_hub_alone_and_go_with_their_process() -> None:
    fleet = Fleet(2)
    for number, store in enumerate(fleet.stores):
        store.operation_started(KEYS[0], 1.0, "alice@app", SHOP, 7 + number, 1, "find", UPSTREAM)
    fleet.talk()
    everything = Selection(everything=True)
    assert fleet.hub.hit(everything) == Hit(1, 2, 0, 0)
    assert fleet.stores[0].hit(everything) == Hit(1, 1, 0, 0)
    assert fleet.gone(0) == 1
    assert fleet.hub.hit(everything) == Hit(1, 1, 0, 0)
    assert fleet.gone(0) == 0


def test_transactions_of_child_sessions_are_known_to_the_hub_alone() -> None:
    fleet = Fleet(2)
    for number, store in enumerate(fleet.stores):
        session = store.use(KEYS[0], 1.0, "alice@app", SHOP)
        assert session is not None
        info = OperationSessionInfo(KEYS[0], 0, False, True)
        info.child = b"child%d" % number
        store.transaction_step(session, Step.START, Outcome.OK, info, 1.0, UPSTREAM, number)
    fleet.talk()
    assert fleet.hub.open_transactions == 2
    assert [store.open_transactions for store in fleet.stores] == [1, 1]
    step(fleet.stores[0], KEYS[0], Step.START, Outcome.OK, 7, 2.0)
    info = OperationSessionInfo(KEYS[0], 0, False, False)
    info.child = b"child0"
    session = fleet.stores[0].get(KEYS[0])
    assert session is not None
    fleet.stores[0].transaction_step(session, Step.COMMIT, Outcome.OK, info, 2.0, UPSTREAM, 0)
    fleet.talk()
    assert fleet.hub.open_transactions == 2  # the parent's, and the other child's
    assert fleet.gone(1) == 0
    assert fleet.hub.open_transactions == 1
    fleet.stores[0].kill(Selection(everything=True), 3.0)
    fleet.talk()
    assert (fleet.hub.open_transactions, fleet.hub.owner_transactions("alice@app")) == (0, 0)


def test_a_transaction_of_a_child_whose_session_is_forgotten_is_over_once() -> None:
    fleet = Fleet(1)
    [store] = fleet.stores
    session = store.use(KEYS[0], 1.0, "alice@app", SHOP)
    assert session is not None
    info = OperationSessionInfo(KEYS[0], 0, False, True)
    info.child = b"child"
    store.transaction_step(session, Step.START, Outcome.OK, info, 1.0, UPSTREAM, 1)
    fleet.talk()
    assert fleet.hub.open_transactions == 1
    for one in (store, fleet.hub):
        assert one.expire(10_000.0).forgotten == 1
        assert one.open_transactions == 0
    assert store.use(KEYS[0], 10_001.0, "alice@app", SHOP)
    fleet.talk()
    assert fleet.gone(0) == 0
    assert fleet.hub.open_transactions == 0
    assert fleet.hub.owner_transactions("alice@app") == 0


@pytest.mark.parametrize("child", [b"", b"child"])
@pytest.mark.parametrize("state", [State.ABORTED, State.COMMITTED])
def test_a_transaction_that_an_operator_ended_is_over_for_everybody(
    child: bytes, state: State
) -> None:
    fleet = Fleet(2)
    session = fleet.stores[0].use(KEYS[0], 1.0, "alice@app", SHOP)
    assert session is not None
    info = OperationSessionInfo(KEYS[0], 3, False, True)
    info.child = child
    fleet.stores[0].transaction_step(session, Step.START, Outcome.OK, info, 1.0, UPSTREAM, 1)
    fleet.talk()
    everybody = [fleet.hub, *fleet.stores]
    assert fleet.hub.open_transactions == 1
    for number, ends in ((2, False), (3, True), (3, False)):
        one = OpenTransaction(KEYS[0], number, b"", child)
        assert fleet.hub.transaction_ended(one, 2.0, state) is ends
    fleet.talk()
    assert [store.open_transactions for store in everybody] == [0, 0, 0]
    assert [store.owner_transactions("alice@app") for store in everybody] == [0, 0, 0]
    counted = fleet.hub.whole_counts(store.counts.told() for store in fleet.stores).transactions
    assert (counted["aborted"], counted["committed"]) == (
        (1, 0) if state is State.ABORTED else (0, 1)
    )
    if not child:
        assert {store.get(KEYS[0]).state for store in everybody} == {state}  # type: ignore[union-attr]
    nobody = OpenTransaction(KEYS[1], 3)
    assert not fleet.hub.transaction_ended(nobody, 3.0, state)
    fleet.talk()


@pytest.mark.parametrize("emulated", [True, False])
def test_an_emulated_kill_ends_operations_in_all_processes(emulated: bool) -> None:
    fleet = Fleet(2)
    there = fleet.stores[1]
    ended: list[InFlight] = []
    there.ends_operations = lambda upstream: emulated and upstream == UPSTREAM
    there.end_operation = ended.append
    for number, (upstream, now) in enumerate(
        ((UPSTREAM, 1.0), ("other:27017", 1.0), (UPSTREAM, 3.0))
    ):
        there.operation_started(KEYS[0], now, "alice@app", SHOP, 7, number, "find", upstream)
    fleet.stores[0].kill(Selection(uids=frozenset((ALICE,))), 2.0, UPSTREAM)
    fleet.talk()
    assert ended == ([InFlight(7, 0)] if emulated else [])


def test_uses_of_a_known_session_are_passed_on_twice_a_minute() -> None:
    fleet = Fleet(2)
    for now in range(300):
        fleet.stores[0].use(KEYS[0], now / 5, "alice@app", SHOP)
        fleet.talk()
    assert fleet.passed == 2  # when it began, and once on the way
    (session,) = fleet.stores[1].page().sessions
    assert session.last_use == 30.0


def test_writes_are_passed_on_some_at_a_time_and_all_in_the_end() -> None:
    fleet = Fleet(2)
    keys = [LogicalSessionId(uuid(number), ALICE) for number in range(450)]
    for number in (1, 2):
        for key in keys:
            step(fleet.stores[0], key, Step.WRITE, Outcome.OK, number, float(number))
        if number == 1:
            fleet.talk()
    while told := fleet.stores[0].news():
        assert not fleet.hub.heard(told, 0)
    parts = []
    while told := fleet.hub.sometime():
        parts.append(len(told.records))
        fleet.stores[1].take_in(told)
    assert parts == [200, 200, 50]
    assert {one.txn_number for one in fleet.stores[1].page(0, 1000).sessions} == {2}


def test_a_retry_through_another_process_is_a_replay() -> None:
    fleet = Fleet(2)
    step(fleet.stores[0], KEYS[0], Step.WRITE, Outcome.LOST, 5, 1.0)
    fleet.talk()
    step(fleet.stores[1], KEYS[0], Step.WRITE, Outcome.OK, 5, 2.0)
    assert fleet.stores[1].counts.replays == 1


def test_a_transaction_that_two_processes_carry_is_counted_once() -> None:
    fleet = Fleet(2)
    begin(fleet.stores[0], KEYS[0], 3, 1.0)
    fleet.talk()
    step(fleet.stores[1], KEYS[0], Step.CONTINUE, Outcome.OK, 3, 2.0)
    step(fleet.stores[1], KEYS[0], Step.COMMIT, Outcome.OK, 3, 3.0)
    fleet.talk()
    counts = fleet.hub.whole_counts(store.counts.told() for store in fleet.stores)
    assert (counts.transactions_started, counts.transactions["committed"]) == (1, 1)
    assert counts.durations["committed"].sum == 2.0
    assert [store.open_transactions for store in fleet.stores] == [0, 0]


@pytest.mark.parametrize(
    ("steps", "ended"),
    [
        # (process, step, outcome, txnNumber): none of them has heard of what the other one saw.
        (
            [
                (0, Step.START, Outcome.OK, 1),
                (1, Step.CONTINUE, Outcome.OK, 1),
                (0, Step.COMMIT, Outcome.OK, 1),
                (1, Step.START, Outcome.OK, 2),
                (0, Step.COMMIT, Outcome.OK, 2),
            ],
            {"committed": 2},
        ),
        (
            [
                (0, Step.START, Outcome.OK, 1),
                (1, Step.COMMIT, Outcome.OK, 1),
                (0, Step.WRITE, Outcome.OK, 2),
                (1, Step.START, Outcome.OK, 3),
                (0, Step.ABORT, Outcome.OK, 3),
            ],
            {"committed": 1, "aborted": 1},
        ),
        (
            [
                (0, Step.START, Outcome.OK, 1),
                (1, Step.CONTINUE, Outcome.OK, 1),
                (1, Step.CONTINUE, Outcome.GONE, 1),
                (0, Step.ABORT, Outcome.GONE, 1),
                (1, Step.START, Outcome.OK, 2),
                (0, Step.CONTINUE, Outcome.OK, 2),
                (1, Step.COMMIT, Outcome.OK, 2),
            ],
            {"aborted": 1, "committed": 1},
        ),
    ],
)
def test_transactions_that_go_through_both_at_once_are_counted_once(
    steps: list[tuple[int, Step, Outcome, int]], ended: dict[str, int]
) -> None:
    fleet = Fleet(2)
    fleet.stores[0].use(KEYS[0], 0.5, NAMES[ALICE], SHOP)
    fleet.talk()
    for now, (process, what, outcome, number) in enumerate(steps, 1):
        step(fleet.stores[process], KEYS[0], what, outcome, number, float(now))
    fleet.talk()
    counts = fleet.hub.whole_counts(store.counts.told() for store in fleet.stores)
    assert counts.transactions_started == sum(what is Step.START for _, what, _, _ in steps)
    assert {name: count for name, count in counts.transactions.items() if count} == ended


def test_what_expires_everywhere_is_counted_once() -> None:
    fleet = Fleet(2)
    begin(fleet.stores[0], KEYS[0], 1, 1.0)
    fleet.talk()
    for store in (*fleet.stores, fleet.hub):
        assert store.open_transactions == 1
        store.expire(10_000.0)
    counts = fleet.hub.whole_counts(store.counts.told() for store in fleet.stores)
    assert counts.transactions["expired"] == 1


def test_a_full_store_hears_of_no_more_sessions() -> None:
    fleet = Fleet(2, max_sessions=3)
    for number in range(3):
        fleet.stores[0].use(KEYS[number], 1.0, "alice@app", SHOP)
        fleet.stores[1].use(KEYS[3 + number], 1.0, "bob@app", SHOP)
    fleet.talk()
    assert len(fleet.hub) == 3
    assert [len(store) for store in fleet.stores] == [3, 3]


def test_a_session_that_was_killed_before_anybody_heard_of_it_is_killed() -> None:
    fleet = Fleet(2)
    fleet.stores[0].use(KEYS[0], 1.0, "alice@app", SHOP)
    fleet.stores[1].kill(Selection(everything=True), 2.0)
    fleet.talk()
    for store in (fleet.hub, *fleet.stores):
        (session,) = store.page().sessions
        ending = store.ending(session)
        assert ending is not None
        assert (ending[0].value, ending[1]) == ("killed", 2.0)


@pytest.mark.parametrize("kind", ["ended", "killed"])
@pytest.mark.parametrize("order", ["use, act", "act, use", "act, use by whoever knows of it"])
def test_what_is_done_to_a_session_before_its_use_is_heard_of_is_done(
    kind: str, order: str
) -> None:
    fleet = Fleet(3)
    begin(fleet.stores[0], KEYS[0], 1, 1.0)
    session = fleet.stores[0].get(KEYS[0])
    assert session is not None
    fleet.stores[0].cursor_opened(CursorId(UPSTREAM, 1), session, "app.c", 1.0)
    if kind == "ended":
        fleet.stores[1].end([KEYS[0], KEYS[1]], 2.0)
    else:
        fleet.stores[1].kill(Selection(keys=frozenset((KEYS[0], KEYS[1]))), 2.0, UPSTREAM)
    used, done = fleet.stores[0].news, fleet.stores[1].news
    if order == "use, act":
        fleet.tell(0, used())
        fleet.tell(1, done())
    elif order == "act, use":
        # On the way while the hub hears of what was done.
        said = used()
        fleet.tell(1, done())
        fleet.tell(0, said)
    else:
        fleet.tell(1, done())
    fleet.talk()
    for store in (fleet.hub, *fleet.stores):
        (session,) = store.page().sessions
        ending = store.ending(session)
        assert ending is not None
        assert (ending[0].value, ending[1]) == (kind, 2.0)
        if kind == "killed":
            assert (store.open_transactions, store.open_cursors()) == (0, 0)
    counts = fleet.hub.whole_counts(store.counts.told() for store in fleet.stores)
    assert (counts.ended, counts.killed) == ((1, 0) if kind == "ended" else (0, 1))


def test_a_session_that_begins_after_an_end_of_nobody_lives() -> None:
    fleet = Fleet(2)
    fleet.stores[1].end([KEYS[0]], 1.0)
    fleet.talk()
    fleet.stores[0].use(KEYS[0], 2.0, "alice@app", SHOP)
    fleet.talk()
    for store in (fleet.hub, *fleet.stores):
        (session,) = store.page().sessions
        assert store.ending(session) is None


def test_of_ends_of_nobody_the_latest_are_remembered() -> None:
    fleet = Fleet(2)
    keys = [LogicalSessionId(uuid(number), ALICE) for number in range(10_003)]
    fleet.stores[1].end(keys, 2.0)
    fleet.talk()
    for key in keys:
        fleet.stores[0].use(key, 1.0, "alice@app", SHOP)
    fleet.talk()
    assert [fleet.hub.ending(one) is None for one in map(fleet.hub.get, keys[:4]) if one] == [
        True,
        True,
        True,
        False,
    ]


def test_what_came_after_a_kill_outlives_the_news_of_it() -> None:
    fleet = Fleet(2)
    begin(fleet.stores[0], KEYS[0], 1, 1.0)
    fleet.talk()
    fleet.stores[1].kill(Selection(uids=frozenset((ALICE,))), 2.0, UPSTREAM)
    begin(fleet.stores[0], KEYS[0], 2, 3.0)
    session = fleet.stores[0].get(KEYS[0])
    assert session is not None
    fleet.stores[0].cursor_opened(CursorId(UPSTREAM, 1), session, "app.c", 3.0)
    fleet.talk()
    for store in (fleet.hub, *fleet.stores):
        assert (store.open_transactions, store.open_cursors()) == (1, 1)


@pytest.mark.parametrize("order", ["open, closed", "closed, open", "closed while it is told of"])
def test_a_cursor_that_another_process_has_read_to_its_end_is_open_nowhere(order: str) -> None:
    fleet = Fleet(3)
    session = fleet.stores[0].use(KEYS[0], 1.0, "alice@app", SHOP)
    assert session is not None
    cursor = CursorId(UPSTREAM, 1)
    fleet.stores[0].cursor_opened(cursor, session, "app.c", 1.0)
    if order == "closed while it is told of":
        told = fleet.stores[0].news()
        fleet.stores[1].cursor_closed(cursor)
        fleet.tell(0, told)
    else:
        fleet.stores[1].cursor_closed(cursor)
        told = [fleet.stores[0].news(), fleet.stores[1].news()]
        for number in (0, 1) if order == "open, closed" else (1, 0):
            fleet.tell(number, told[number])
    fleet.talk()
    assert [store.open_cursors() for store in (fleet.hub, *fleet.stores)] == [0] * 4
    # One of the same number later is another one.
    fleet.stores[0].cursor_opened(cursor, session, "app.c", 2.0)
    assert fleet.stores[0].open_cursors() == 1


def test_on_which_connection_a_cursor_was_opened_is_known_everywhere() -> None:
    fleet = Fleet(3)
    session = fleet.stores[0].use(KEYS[0], 1.0, "alice@app", SHOP)
    assert session is not None
    cursor = CursorId(UPSTREAM, 1)
    fleet.stores[0].cursor_opened(cursor, session, "app.c", 2.0, 9, 5)
    fleet.talk()
    everywhere = (fleet.hub, *fleet.stores)
    assert [store.cursor_connection(cursor) for store in everywhere] == [9] * 4
    assert [store.cursor_number(cursor) for store in everywhere] == [5] * 4
    fleet.stores[0].cursor_closed(cursor)
    fleet.talk()
    assert [store.cursor_connection(cursor) for store in everywhere] == [0] * 4
    assert [store.cursor_number(cursor) for store in everywhere] == [-1] * 4


def test_a_cursor_that_the_hub_has_closed_is_open_nowhere() -> None:
    fleet = Fleet(2)
    session = fleet.stores[0].use(KEYS[0], 1.0, "alice@app", SHOP)
    assert session is not None
    fleet.stores[0].cursor_opened(CursorId(UPSTREAM, 1), session, "app.c", 2.0, 9, 5)
    fleet.talk()
    fleet.hub.cursor_closed(CursorId(UPSTREAM, 1))
    fleet.talk()
    assert [store.open_cursors() for store in (fleet.hub, *fleet.stores)] == [0, 0, 0]


def test_of_cursors_that_nobody_has_told_of_the_latest_are_remembered() -> None:
    store = SharedStore()
    for number in range(10_003):
        store.cursor_closed(CursorId(UPSTREAM, number))
    assert len(store._early_closed) == 10_000
    assert CursorId(UPSTREAM, 2) not in store._early_closed


@given(st.integers(1, 7))
def test_news_come_in_parts(most: int) -> None:
    store = SharedStore()
    for number in range(20):
        store.use(LogicalSessionId(uuid(number), ALICE), 1.0, "alice@app", SHOP)
    session = store.get(LogicalSessionId(uuid(0), ALICE))
    assert session is not None
    store.cursor_opened(CursorId(UPSTREAM, 1), session, "app.c", 1.0)
    parts = []
    while told := store.news(most):
        parts.append(told)
    assert [len(told.records) for told in parts[:-1]] == [most] * (len(parts) - 1)
    assert sum(len(told.records) for told in parts) == 20
    # A cursor comes last, when its session is known.
    assert [len(told.opened) for told in parts] == [0] * (len(parts) - 1) + [1]


@pytest.mark.parametrize("how", ["end", "kill"])
def test_what_is_done_to_very_many_is_told_some_at_a_time(how: str) -> None:
    keys = [LogicalSessionId(uuid(number), ALICE) for number in range(10_000)]
    store, hub, other = SharedStore(), Hub(), SharedStore()
    for one in (store, hub, other):
        one.use_all(keys, 1.0, "alice@app", SHOP)
    while told := store.news():
        pass
    if how == "kill":
        in_one_go(store.killing(Selection(keys=frozenset(keys)), 5.0))
    else:
        for start in range(0, len(keys), MANY):
            store.end(keys[start : start + MANY], 5.0)
    while told := store.news():
        named = [act[1][2] if how == "kill" else act[1] for act in told.acts]
        assert sum(map(len, named)) <= MANY
        other.take_in(hub.heard(told, 1))
    ending = Ending.KILLED if how == "kill" else Ending.ENDED
    for one in (store, hub, other):
        for key in keys:
            session = one.get(key)
            assert session is not None
            assert one.ending(session) == (ending, 5.0)


def test_somebody_is_told_to_hurry_for_ends_and_kills_of_his_own() -> None:
    hurried: list[str] = []
    store = SharedStore()
    store.hurry = lambda: hurried.append("!")
    store.use(KEYS[0], 1.0, "alice@app", SHOP)
    assert not hurried
    store.end([KEYS[0]], 2.0)
    store.kill(Selection(everything=True), 3.0)
    assert len(hurried) == 2
    store.take_in(acts_of(store.news()))
    assert len(hurried) == 2
    assert not store.news()


def lives(fleet: Fleet) -> list[int]:
    return [store.live() for store in (fleet.hub, *fleet.stores)]


@pytest.mark.parametrize("killed", [False, True])
def test_what_runs_at_one_process_keeps_its_place_at_all(killed: bool) -> None:
    fleet = Fleet(3)
    first, second, _ = fleet.stores
    first.use(KEYS[0], 1.0, "alice@app", SHOP)
    fleet.talk()
    running = first.operation_started(KEYS[0], 2.0, "alice@app", SHOP, 1, 1, "find", UPSTREAM)
    assert running is not None
    if not killed:
        # Or nobody has heard of it yet when others hear of the kill.
        fleet.talk()
    if killed:
        second.kill(Selection(keys=frozenset(KEYS[:1])), 3.0, "other:1")
    else:
        second.end(KEYS[:1], 3.0)
    fleet.talk()
    assert lives(fleet) == [1, 1, 1, 1]
    first.operation_finished(running, 4.0)
    fleet.talk()
    # What came behind the end may have made the session anew.
    assert lives(fleet) == ([0, 0, 0, 0] if killed else [1, 1, 1, 1])
    second.end(KEYS[:1], 5.0)
    fleet.talk()
    assert lives(fleet) == [0, 0, 0, 0]


def test_what_ran_at_a_process_that_is_gone_gives_its_place_back() -> None:
    fleet = Fleet(2)
    first, second = fleet.stores
    assert first.operation_started(KEYS[0], 2.0, "alice@app", SHOP, 1, 1, "find", UPSTREAM)
    fleet.talk()
    second.kill(Selection(uids=frozenset((ALICE,))), 3.0, "other:1")
    fleet.talk()
    assert lives(fleet) == [1, 1, 1]
    fleet.gone(0)
    fleet.stores.remove(first)
    fleet.talk()
    assert lives(fleet) == [0, 0]


def test_what_nobody_answers_keeps_its_place_at_all_processes() -> None:
    fleet = Fleet(3)
    first, second, third = fleet.stores
    session = first.use(KEYS[0], 1.0, "alice@app", SHOP)
    assert session is not None
    first.unanswered(session)
    fleet.talk()
    second.end(KEYS[:1], 2.0)
    fleet.talk()
    third.use(KEYS[1], 3.0, "bob@app", SHOP)
    third.kill(Selection(everything=True), 4.0)
    fleet.talk()
    assert lives(fleet) == [1, 1, 1, 1]
    assert fleet.joins().live() == 1
