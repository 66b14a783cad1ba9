from __future__ import annotations

import pytest

from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.records import CursorId, Ending, Selection
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from tests.session.sessions import ALICE, BOB, uuid


def key(number: int = 2, owner: bytes = ALICE) -> LogicalSessionId:
    return LogicalSessionId(uuid(number), owner)


def test_forgotten_after_the_last_use_and_not_before() -> None:
    store = SessionStore(timeout=1800)
    store.use(key(), 0.25)
    assert store.expire(1800.25) == (0, False)
    assert store.expire(1801.0) == (1, False)
    assert key() not in store


def test_use_puts_it_off() -> None:
    store = SessionStore(timeout=10)
    store.use(key(), 0.0)
    store.use(key(), 7.0)
    assert store.expire(11.0) == (0, False)
    assert store.expire(16.9) == (0, False)
    assert store.expire(17.0) == (1, False)


def test_neither_end_nor_kill_brings_it_forward() -> None:
    store = SessionStore(timeout=10)
    store.use(key(), 0.0)
    store.end([key()], 1.0)
    store.kill(Selection(everything=True), 2.0)
    assert store.expire(9.0) == (0, False)
    assert key() in store


def test_one_call_looks_at_no_more_than_its_budget() -> None:
    store = SessionStore(timeout=10)
    for number in range(10):
        store.use(key(number), 0.0)
    slices = [store.expire(100.0, 4) for _ in range(3)]
    assert slices == [(4, True), (4, True), (2, False)]


def test_the_timeout_may_change() -> None:
    store = SessionStore(timeout=10)
    store.use(key(), 0.0)
    store.timeout = 20
    assert store.expire(15.0) == (0, False)
    assert store.expire(20.0) == (1, False)


def test_running_operations_keep_a_session() -> None:
    store = SessionStore(timeout=10)
    operation = store.operation_started(key(), 0.0)
    assert operation is not None
    assert store.expire(30.0) == (0, False)
    store.operation_finished(operation, 35.0)
    assert store.expire(44.0) == (0, False)
    assert store.expire(45.0) == (1, False)


def test_what_upstream_refused_is_dropped_again() -> None:
    store = SessionStore()
    first = store.operation_started(key(), 0.0)
    second = store.operation_started(key(), 0.0)
    assert first is not None
    assert second is not None
    store.operation_finished(first, 1.0, refused=True)
    assert key() in store
    store.operation_finished(second, 1.0)
    assert key() in store
    third = store.operation_started(key(3), 0.0)
    assert third is not None
    store.operation_finished(third, 1.0, refused=True)
    assert key(3) not in store
    assert store.expire(1e9) == (1, False)


def test_what_somebody_else_has_used_meanwhile_stays() -> None:
    """Whoever is refused slowly cannot make a session be forgotten that upstream has."""

    def succeeds(store: SessionStore) -> None:
        other = store.operation_started(key(), 0.0)
        assert other is not None
        store.operation_finished(other, 0.0)

    for used in (
        succeeds,
        lambda store: store.use(key(), 0.0),
        lambda store: store.use_all([key()], 0.0, "", Origin()),
    ):
        store = SessionStore()
        first = store.operation_started(key(), 0.0)
        assert first is not None
        used(store)
        store.operation_finished(first, 0.0, refused=True)
        assert key() in store


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_what_was_refused_to_all_is_dropped_with_the_last_of_them(order: tuple[int, ...]) -> None:
    store = SessionStore()
    operations = [store.operation_started(key(), float(number)) for number in range(3)]
    for number in order:
        assert key() in store
        operation = operations[number]
        assert operation is not None
        store.operation_finished(operation, 5.0, refused=True)
    assert key() not in store


def test_many_uses_at_once_are_as_many_uses() -> None:
    origin = Origin("10.0.0.1", "shop")
    stores = [SessionStore(timeout=10), SessionStore(timeout=10)]
    keys = [key(1), key(2), key(2, BOB), key(3)]
    for store in stores:
        store.use(key(2, BOB), 0.5, "x")
        store.use(key(3), 0.5, "x")
        store.end([key(3)], 0.7)
    one_by_one, at_once = stores
    for each in keys:
        one_by_one.use(each, 1.0, "x", origin)
    at_once.use_all(keys, 1.0, "x", origin)
    for store in stores:
        assert (len(store), store.counts.started, store.untracked) == (4, 4, 0)
        assert store.application_sessions("shop") == 2
        assert store.owner_sessions("x") == 4
        for each in keys:
            session = store.get(each)
            assert session is not None
            assert (session.key, session.last_use) == (each, 1.0)
            assert store.ending(session) is None
        assert store.expire(11.0) == (4, False)
        assert store.application_sessions("shop") == 0


def test_of_many_uses_a_full_store_notes_those_that_it_knows_or_has_room_for() -> None:
    store = SessionStore(max_sessions=2)
    store.use(key(3), 0.0)
    store.use_all([key(1), key(2), key(3), key(4)], 1.0, "", Origin("a"))
    assert [key(number) in store for number in (1, 2, 3, 4)] == [True, False, True, False]
    assert store.untracked == 2
    store.use_all([key(5)], 2.0, "", Origin("b"))
    assert store.untracked == 3
    assert [group.origin for group in store.origins()] == [Origin(), Origin("a")]
    known = store.get(key(3))
    assert known is not None
    assert known.last_use == 1.0


def test_a_full_store_tracks_no_more() -> None:
    store = SessionStore(max_sessions=1)
    assert store.use(key(), 0.0) is not None
    assert store.use(key(3), 0.0) is None
    assert store.operation_started(key(4), 0.0) is None
    assert store.use(key(), 0.0) is not None
    assert (len(store), store.untracked, store.full) == (1, 2, True)


def test_ending_and_killing_one_after_the_other() -> None:
    store = SessionStore()
    session = store.use(key(), 0.0)
    assert session is not None
    store.kill(Selection(everything=True), 1.0)
    assert store.ending(session) == (Ending.KILLED, 1.0)
    store.end([key()], 1.0)
    assert store.ending(session) == (Ending.ENDED, 1.0)
    store.kill(Selection(uids=frozenset((ALICE,))), 2.0)
    assert store.ending(session) == (Ending.KILLED, 2.0)
    store.use(key(), 2.0)
    assert store.ending(session) is None


def test_two_users_with_the_same_uuid() -> None:
    store = SessionStore()
    alice = store.use(key(2, ALICE), 0.0, "alice@app")
    bob = store.use(key(2, BOB), 0.0, "bob@app")
    assert alice is not None
    assert bob is not None
    assert alice is not bob
    info = OperationSessionInfo(txn_number=1)
    for session, number in ((alice, 1), (bob, 2)):
        store.cursor_opened(CursorId("a:1", number), session, "app.c", 0.0)
        store.transaction_step(session, Step.START, Outcome.OK, info, 0.0, "a:1")
    store.kill(Selection(keys=frozenset((key(2, ALICE),))), 1.0)
    assert store.cursor_session(CursorId("a:1", 1)) is None
    assert store.cursor_session(CursorId("a:1", 2)) is bob
    assert [one.key for some in store.open_transaction_sessions() for one in some] == [bob.key]
    store.end([key(2, BOB)], 2.0)
    assert store.ending(alice) == (Ending.KILLED, 1.0)
    store.forget(alice)
    assert store.get(key(2, BOB)) is bob


@pytest.mark.parametrize(("killed", "left"), [("b:1", [1]), ("a:1", [2]), (None, [])])
def test_a_kill_at_one_process_ends_nothing_that_is_open_at_another(
    killed: str | None, left: list[int]
) -> None:
    store = SessionStore()
    session = store.use(key(), 0.0, "alice@app")
    assert session is not None
    for number, outcome, upstream in ((1, Outcome.OK, "a:1"), (2, Outcome.LOST, "b:1")):
        info = OperationSessionInfo(txn_number=number)
        store.transaction_step(session, Step.START, outcome, info, 0.0, upstream)
    store.kill(Selection(keys=frozenset((key(),))), 1.0, killed)
    assert session.transaction is not None
    assert [one.number for one in session.transaction.open_ones] == left
    assert store.owner_transactions("alice@app") == store.open_transactions + (2 in left)
    assert store.open_transactions == (1 in left)


def test_late_news_of_a_forgotten_session_is_ignored() -> None:
    store = SessionStore()
    session = store.use(key(), 0.0)
    assert session is not None
    assert store.forget(session)
    assert not store.forget(session)
    info = OperationSessionInfo(txn_number=1)
    store.transaction_step(session, Step.START, Outcome.OK, info, 0.0)
    store.cursor_opened(CursorId("a:1", 1), session, "app.c", 0.0)
    assert store.open_transactions == 0
    assert store.cursor_session(CursorId("a:1", 1)) is None


def test_statements_belong_to_the_current_number() -> None:
    store = SessionStore()
    session = store.use(key(), 0.0)
    assert session is not None
    for number, ids in ((1, range(0, 2)), (2, range(4, 6))):
        info = OperationSessionInfo(txn_number=number)
        store.transaction_step(session, Step.WRITE, Outcome.OK, info, 0.0, statements=[ids])
    assert session.transaction is not None
    assert session.transaction.statements == [range(4, 6)]
    assert not store.abort_transaction(session, 1.0)


def test_origins_are_shared() -> None:
    store = SessionStore()
    first = store.use(key(1), 0.0, "a@b", Origin("h", "app"))
    second = store.use(key(2), 0.0, "a@b", Origin("h", "app"))
    assert first is not None
    assert second is not None
    assert first.origin is second.origin
    assert store.application_sessions("app") == 2


def test_forgetting_takes_cursors_and_transactions_along() -> None:
    store = SessionStore(timeout=10)
    session = store.use(key(), 0.0, "alice@app")
    assert session is not None
    store.cursor_opened(CursorId("a:1", 1), session, "app.c", 0.0)
    info = OperationSessionInfo(txn_number=1)
    store.transaction_step(session, Step.START, Outcome.OK, info, 0.0, "a:1")
    assert store.expire(10.0) == (1, False)
    assert store.cursor_session(CursorId("a:1", 1)) is None
    assert (store.open_transactions, store.owner_transactions("alice@app")) == (0, 0)
    assert (store.owners(), store.origins()) == ([], [])


def test_a_get_more_is_a_use() -> None:
    store = SessionStore(timeout=10)
    session = store.use(key(), 0.0)
    assert session is not None
    store.cursor_opened(CursorId("a:1", 1), session, "app.c", 0.0)
    assert store.cursor_used(CursorId("a:1", 1), 8.0) is session
    assert store.cursor_used(CursorId("a:1", 2), 9.0) is None
    assert store.expire(17.0) == (0, False)


def idle(store: SessionStore, size: int = 500) -> float | None:
    *_, found = store.longest_idle(size)
    return None if found is None else found.last_use


def test_the_session_that_is_idle_for_longest() -> None:
    store = SessionStore(timeout=100)
    assert idle(store) is None
    for number in range(20):
        store.use(key(number), float(number))
    assert idle(store) == 0.0
    for number in range(15):
        store.use(key(number), 50.0)
    assert idle(store, 3) == 15.0
    assert store.expire(114.0) == (0, False)
    assert store.expire(119.0) == (5, False)
    assert store.expire(150.0) == (15, False)


def test_a_session_with_something_running_is_not_idle() -> None:
    store = SessionStore(timeout=100)
    operation = store.operation_started(key(), 1.0)
    store.use(key(3), 7.5)
    assert operation is not None
    assert idle(store) == idle(store, 1) == 7.5
    store.operation_finished(operation, 1.0)
    assert idle(store) == 1.0


def test_looking_for_the_longest_idle_comes_to_an_end_in_slices() -> None:
    store = SessionStore(timeout=100)
    for number in range(100):
        store.use(key(number), 0.0)
    for number in range(100):
        store.use(key(number), 20.0 + number % 7)
    slices = list(store.longest_idle(10))
    assert len(slices) == 11
    assert slices[:-1] == [None] * 10
    assert slices[-1] is not None
    assert slices[-1].last_use == 20.0
    # What was found out is not looked at again.
    assert len(list(store.longest_idle(10))) == 1


def test_a_search_that_is_given_up_loses_nothing() -> None:
    store = SessionStore(timeout=100)
    operation = store.operation_started(key(1), 0.0)
    store.use(key(2), 5.0)
    search = store.longest_idle(1)
    assert next(search) is None
    search.close()  # type: ignore[attr-defined]
    assert operation is not None
    store.operation_finished(operation, 0.0)
    assert idle(store) == 0.0
    assert store.expire(200.0) == (2, False)


def test_cursors_with_their_ages() -> None:
    store = SessionStore()
    session = store.use(key(), 0.0)
    assert session is not None
    assert store.oldest_cursor() is None
    for number in range(3):
        store.cursor_opened(CursorId("a:1", number), session, "app.c", 10.0 + number)
    assert (store.open_cursors(), store.oldest_cursor()) == (3, 10.0)
    store.cursor_closed(CursorId("a:1", 0))
    store.cursor_closed(CursorId("a:1", 0))
    assert (store.open_cursors(), store.oldest_cursor()) == (2, 11.0)
    assert store.cursor_opened_at(CursorId("a:1", 2)) == 12.0
    assert store.cursor_opened_at(CursorId("a:1", 0)) is None
    store.forget(session)
    assert (store.open_cursors(), store.oldest_cursor()) == (0, None)


def test_sessions_that_upstream_refuses_leave_nothing_behind() -> None:
    store = SessionStore(timeout=1800)
    for number in range(20):
        store.use(key(number), 0.5)
    flights = []
    for number in range(100, 5_000):
        lsid = LogicalSessionId(number.to_bytes(16, "big"), ALICE)
        flights.append(store.operation_started(lsid, 0.5))
        if len(flights) > 50:
            operation = flights.pop(0)
            assert operation is not None
            store.operation_finished(operation, 0.6, refused=True)
    for operation in flights:
        assert operation is not None
        store.operation_finished(operation, 0.6, refused=True)
    assert len(store) == 20
    assert store.counts.refused == 4_900
    # Nor do they wait with the others until their time would have come.
    assert sum(map(len, store._due.values())) < 300
    assert store.expire(1799.0) == (0, False)
    store.expire(2_000.0)
    assert (len(store), store._due, store._gone) == (0, {}, {})


def test_a_session_that_was_refused_and_comes_again_is_a_new_one() -> None:
    store = SessionStore(timeout=10)
    operation = store.operation_started(key(), 0.5)
    assert operation is not None
    store.use(key(3), 0.5)
    store.operation_finished(operation, 0.6, refused=True)
    again = store.use(key(), 5.0)
    assert again is not None
    assert again is not operation.session
    store.expire(11.0)
    assert key() in store
    assert key(3) not in store
    store.expire(15.0)
    assert key() not in store
