from __future__ import annotations

import bson
import pytest
from bson import Int64

from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.plans import Emulation, Plan, commit, emulation
from proxy.session.records import CursorId, Ending, Hit, InFlight, Selection
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, State, Step
from tests.session.sessions import ALICE, AS_ALICE, BOB, lsid, uuid

HERE, THERE = "here:27017", "there:27017"
ORIGIN = Origin("10.0.0.1", "shop")


def key(number: int = 2, owner: bytes = ALICE) -> LogicalSessionId:
    return LogicalSessionId(uuid(number), owner)


def kill(selection: Selection) -> Plan:
    return Plan("killSessions", AS_ALICE, (), selection=selection)


@pytest.fixture
def store() -> SessionStore:
    """alice: an operation, two cursors and a transaction here, a cursor there; bob: a cursor."""
    made = SessionStore()
    operation = made.operation_started(
        key(), 1.0, user="alice@app", connection=4, request_id=17, upstream=HERE
    )
    assert operation is not None
    session = operation.session
    made.cursor_opened(CursorId(HERE, 7), session, "app.c", 0.0)
    made.cursor_opened(CursorId(HERE, 8), session, "app.c.d", 0.0)
    made.cursor_opened(CursorId(THERE, 7), session, "app.c", 0.0)
    info = OperationSessionInfo(txn_number=3)
    made.transaction_step(session, Step.START, Outcome.OK, info, 1.0, HERE)
    other = made.use(key(2, BOB), 1.0, "bob@app")
    assert other is not None
    made.cursor_opened(CursorId(HERE, 9), other, "app.c", 0.0)
    made.use(key(5), 1.0, "alice@app")
    return made


def test_emulation_is_exact(store: SessionStore) -> None:
    done = emulation(kill(Selection(uids=frozenset((ALICE,)))), store, HERE)
    assert [bson.decode(one.as_caller) for one in done.errands] == [
        {"killCursors": "c", "cursors": [Int64(7)], "$db": "app"},
        {"killCursors": "c.d", "cursors": [Int64(8)], "$db": "app"},
        {
            "abortTransaction": 1,
            "lsid": lsid(2),
            "txnNumber": Int64(3),
            "autocommit": False,
            "$db": "admin",
        },
    ]
    assert done.operations == (InFlight(4, 17),)


def test_emulation_stays_on_its_upstream(store: SessionStore) -> None:
    done = emulation(kill(Selection(everything=True)), store, THERE)
    (command,) = [bson.decode(one.as_caller) for one in done.errands]
    assert command["cursors"] == [7]
    assert done.operations == ()


def test_a_foreign_transaction_is_aborted_with_its_uid(store: SessionStore) -> None:
    session = store.get(key(2, BOB))
    assert session is not None
    info = OperationSessionInfo(txn_number=1)
    store.transaction_step(session, Step.START, Outcome.OK, info, 1.0, HERE)
    done = emulation(kill(Selection(keys=frozenset((key(2, BOB),)))), store, HERE)
    assert done.errands[-1].owner == BOB
    assert bson.decode(done.errands[-1].as_caller)["lsid"] == lsid(2, BOB)
    assert bson.decode(done.errands[-1].as_owner)["lsid"] == lsid(2)


def test_prepared_transactions_survive(store: SessionStore) -> None:
    session = store.get(key())
    assert session is not None
    info = OperationSessionInfo(txn_number=3)
    store.transaction_step(session, Step.PREPARE, Outcome.OK, info, 1.0, HERE)
    done = emulation(kill(Selection(everything=True)), store, HERE)
    assert all("abortTransaction" not in bson.decode(one.as_caller) for one in done.errands)


@pytest.mark.parametrize("command", ["startSession", "refreshSessions", "endSessions"])
def test_only_kills_have_something_to_emulate(store: SessionStore, command: str) -> None:
    plan = Plan(command, AS_ALICE, (), lsids=(key(),))
    assert emulation(plan, store, HERE) == Emulation((), ())


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(everything=True), Hit(3, 1, 4, 1)),
        (Selection(uids=frozenset((ALICE,))), Hit(2, 1, 3, 1)),
        (Selection(uids=frozenset((ALICE,)), keys=frozenset((key(),))), Hit(2, 1, 3, 1)),
        (Selection(keys=frozenset((key(2, BOB), key(99)))), Hit(1, 0, 1, 0)),
        (Selection(), Hit(0, 0, 0, 0)),
    ],
)
def test_what_a_kill_would_hit(store: SessionStore, selection: Selection, expected: Hit) -> None:
    assert store.hit(selection) == expected


def test_committing_a_kill(store: SessionStore) -> None:
    plan = kill(Selection(uids=frozenset((ALICE,))))
    plan.own_lsid = key(6)
    commit(plan, store, 9.0, upstream=HERE, origin=ORIGIN)
    session = store.get(key())
    assert session is not None
    assert store.ending(session) == (Ending.KILLED, 9.0)
    assert session.state is State.ABORTED
    assert session.txn_number == 3
    assert session.activity is not None
    assert list(session.activity.cursors) == [CursorId(THERE, 7)]
    assert store.cursor_session(CursorId(HERE, 9)) is not None
    assert key(6) not in store


def test_committing_a_kill_of_nobody_changes_nothing(store: SessionStore) -> None:
    commit(kill(Selection()), store, 9.0, upstream=None, origin=ORIGIN)
    assert all(store.ending(session) is None for session in store.page().sessions)
    assert store.open_transactions == 1


@pytest.mark.parametrize("command", ["startSession", "refreshSessions"])
def test_committing_a_start_or_refresh(store: SessionStore, command: str) -> None:
    plan = Plan(command, AS_ALICE, (), lsids=(key(5), key(8), key(8, BOB)), own_lsid=key(9))
    commit(plan, store, 9.0, upstream=HERE, origin=ORIGIN)
    for one, name in ((key(8), "alice@app"), (key(8, BOB), ""), (key(9), "alice@app")):
        session = store.get(one)
        assert session is not None
        assert (session.owner.name, session.last_use, session.origin) == (name, 9.0, ORIGIN)
    refreshed = store.get(key(5))
    assert refreshed is not None
    assert (refreshed.first_use, refreshed.last_use) == (1.0, 9.0)


def test_committing_an_end(store: SessionStore) -> None:
    plan = Plan("endSessions", AS_ALICE, (), lsids=(key(), key(77)))
    commit(plan, store, 9.0, upstream=HERE, origin=ORIGIN)
    session = store.get(key())
    assert session is not None
    assert store.ending(session) == (Ending.ENDED, 9.0)
    assert session.last_use == 1.0
    assert session.state is State.IN_PROGRESS
    assert key(77) not in store


def test_targets(store: SessionStore) -> None:
    assert kill(Selection(everything=True)).targets(store) == 3
    assert Plan("endSessions", AS_ALICE, (), lsids=(key(), key(77))).targets(store) == 2
