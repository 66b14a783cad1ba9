from __future__ import annotations

import pytest

from proxy import listing
from proxy.session.ids import LogicalSessionId, Origin, child_fields
from proxy.session.info import OperationSessionInfo
from proxy.session.records import CursorId, Session
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step

UID = bytes(range(32))
ORIGIN = Origin("10.0.0.1", "shop", "PyMongo", "4.20")


def lsid(number: int) -> LogicalSessionId:
    return LogicalSessionId(number.to_bytes(16, "big"), UID)


def use(store: SessionStore, number: int, now: float) -> Session:
    session = store.use(lsid(number), now, "alice@admin", ORIGIN)
    assert session is not None
    return session


def transact(store: SessionStore, session: Session, now: float, number: int = 3) -> None:
    info = OperationSessionInfo(session.key, number, False, True)
    store.transaction_step(
        session, Step.START, Outcome.OK, info, now, "db:1", 9, [range(2), range(5, 6)]
    )


def test_an_idle_session() -> None:
    store = SessionStore()
    session = use(store, 1, 10.0)
    use(store, 1, 15.0)
    assert listing.session_row(session, store.ending(session), 100.25) == {
        "session": "00000000-0000-0000-0000-000000000001",
        "uid": UID.hex(),
        "owner": "alice@admin",
        "client": "10.0.0.1",
        "application": "shop",
        "driver": "PyMongo",
        "driver_version": "4.20",
        "age_seconds": 90.25,
        "idle_seconds": 85.25,
        "operations": [],
        "cursors": 0,
        "txn_number": None,
        "transaction": None,
        "ended": None,
        "live": True,
    }


def test_a_session_with_everything() -> None:
    store = SessionStore()
    operation = store.operation_started(
        lsid(1), 10.0, user="alice@admin", connection=4, command="find", upstream="db:1"
    )
    assert operation is not None
    session = operation.session
    transact(store, session, 12.0)
    store.cursor_opened(CursorId("db:1", 7), session, "shop.orders", 13.0)
    row = listing.session_row(session, store.ending(session), 20.0)
    assert row["operations"] == [
        {"conn": 4, "command": "find", "seconds": 10.0, "upstream": "db:1"}
    ]
    assert (row["idle_seconds"], row["cursors"], row["txn_number"]) == (0.0, 1, 3)
    assert (row["transaction"], row["statements"]) == ("in progress", 1)
    assert (row["transaction_seconds"], row["transaction_idle_seconds"]) == (8.0, 0.0)
    store.operation_finished(operation, 14.0)
    row = listing.session_row(session, store.ending(session), 20.0)
    assert (row["idle_seconds"], row["transaction_idle_seconds"]) == (6.0, 8.0)


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_how_a_session_ended_until_it_is_used_again(how: str) -> None:
    store = SessionStore()
    session = use(store, 1, 1.0)
    if how == "ended":
        store.end([session.key], 2.0)
    else:
        store.kill(listing.EVERYTHING, 2.0)
    (row,) = listing.session_rows(store, 3.0)
    assert (row["ended"], row["live"]) == (how, False)
    states = listing.session_listing(store).states
    assert [name for name, holds in states.items() if holds(session)] == ["idle", how]
    use(store, 1, 4.0)
    (row,) = listing.session_rows(store, 5.0)
    assert (row["ended"], row["live"]) == (None, True)
    assert [name for name, holds in states.items() if holds(session)] == ["idle", "live"]


def test_what_begins_while_rows_are_made_is_new_and_not_in_the_future() -> None:
    store = SessionStore()
    operation = store.operation_started(
        lsid(1), 5.5, user="alice@admin", connection=4, command="find", upstream="db:1"
    )
    assert operation is not None
    session = operation.session
    transact(store, session, 5.75)
    row = listing.session_row(session, None, 5.0)
    transaction = listing.transaction_row(session, 5.0)
    assert row["operations"][0]["seconds"] == row["transaction_seconds"] == 0
    assert row["age_seconds"] == transaction["age_seconds"] == 0


def test_every_session_comes_once() -> None:
    store = SessionStore()
    for number in range(2_500):
        use(store, number, 1.0)
    rows = [row["session"] for row in listing.session_rows(store, 2.0)]
    assert len(rows) == len(set(rows)) == 2_500


def test_an_open_transaction_and_its_cursors() -> None:
    store = SessionStore()
    session = use(store, 1, 10.0)
    transact(store, session, 12.0)
    use(store, 2, 10.0)
    store.cursor_opened(CursorId("db:1", 2**62 + 1), session, "shop.orders", 13.0, 9)
    ((found,),) = listing.open_transactions(store)
    row = listing.transaction_row(found, 20.0)
    assert (row["age_seconds"], row["idle_seconds"], row["statements"]) == (8.0, 8.0, 1)
    assert (row["upstream"], row["conn"], row["cursors"]) == ("db:1", 9, 1)
    ((cursor,),) = listing.open_cursors(store)
    row = listing.cursor_row(cursor, 20.0)
    assert (row["cursor"], row["namespace"]) == (str(2**62 + 1), "shop.orders")
    assert (row["age_seconds"], row["transaction"], row["conn"]) == (7.0, True, 9)
    assert listing.CURSORS.texts["conn"](cursor) == "9"


def test_what_has_something_open_comes_first() -> None:
    store = SessionStore()
    for number in range(1, 6):
        use(store, number, 10.0 + number)
    transact(store, use(store, 2, 10.0), 12.0)
    store.cursor_opened(CursorId("db:1", 7), use(store, 3, 10.0), "a.b", 13.0)
    store.operation_started(lsid(4), 10.0, command="find")
    kind = listing.session_listing(store)
    sessions = [session for batch in listing.session_batches(store) for session in batch]
    for order, numbers in (
        ("activity", [2, 4, 3, 5, 1]),
        ("idle", [4, 5, 1]),
        ("transaction", [2]),
        ("operations", [4]),
    ):
        key = kind.orders[order]
        ordered = sorted(sessions, key=key, reverse=order not in ("activity", "idle"))
        assert [one.id[-1] for one in ordered][: len(numbers)] == numbers, order


def test_everything_that_is_listed_can_be_ordered_and_told_apart() -> None:
    store = SessionStore()
    session = use(store, 1, 10.0)
    transact(store, session, 12.0)
    store.cursor_opened(CursorId("db:1", 7), session, "shop.orders", 13.0)
    ((cursor,),) = listing.open_cursors(store)
    bare = {"conn": 1, "client": "10.0.0.1:5", "upstream": "db:1", "age_seconds": 3.0}
    for kind, item in (
        (listing.session_listing(store), session),
        (listing.TRANSACTIONS, session),
        (listing.CURSORS, cursor),
        (listing.CONNECTIONS, bare),
    ):
        assert kind.default_order.removeprefix("-") in kind.orders
        assert isinstance(kind.identity(item), bytes)
        for order in kind.orders.values():
            assert isinstance(order(item), str | int | float)
        for text in [*(get(item) for get in kind.texts.values()), *kind.words(item)]:
            assert isinstance(text, str)
        for holds in kind.states.values():
            assert holds(item) in (True, False)
        for age in kind.ages.values():
            assert age(item, 20.0) >= 0


def test_a_childs_transaction_is_a_row_of_its_own_and_its_parents_too() -> None:
    store = SessionStore()
    parent, other = use(store, 1, 10.0), use(store, 2, 10.0)
    child = child_fields(7, bytes(15) + b"\x09")
    info = OperationSessionInfo(parent.key, 0, False, True, child=child)
    store.transaction_step(parent, Step.START, Outcome.OK, info, 12.0, "db:1", 9)
    ((found,),) = listing.open_transactions(store)
    row = listing.transaction_row(found, 20.0)
    assert row["child"] == "7 - 00000000-0000-0000-0000-000000000009"
    assert (row["txn_number"], row["age_seconds"], row["upstream"]) == (0, 8.0, "db:1")
    assert row["session"] == listing.uuid_text(parent.id)
    kind = listing.TRANSACTIONS
    assert kind.identity(found) != kind.identity(parent)
    assert row["child"] in kind.words(found)
    sessions = listing.session_listing(store)
    for holds in ("transaction", "idle"):
        states = [sessions.states[holds](one) for one in (parent, other)]
        assert states == ([True, False] if holds == "transaction" else [False, True])
    assert sessions.orders["transaction"](parent) == -12.0
    assert listing.session_row(parent, None, 20.0)["child_transactions"] == 1
    assert "child_transactions" not in listing.session_row(other, None, 20.0)
    transact(store, parent, 11.0)
    (both,) = listing.open_transactions(store)
    assert len({kind.identity(one) for one in both}) == 2
    assert sessions.orders["transaction"](parent) == -11.0


def test_a_monitor_that_waits_for_something_to_change_is_no_operation() -> None:
    states = listing.CONNECTIONS.states

    def of(**row: object) -> list[str]:
        return [name for name, holds in states.items() if holds(row)]

    assert of(use="monitor", in_flight=1) == ["monitor"]
    assert of(use="monitor", in_flight=0) == ["idle", "monitor"]
    assert of(use="requests", in_flight=1) == ["operation", "requests"]


def test_commands_of_a_transaction_are_counted_as_in_the_history() -> None:
    store = SessionStore()
    session = use(store, 1, 10.0)
    begin = OperationSessionInfo(session.key, 3, False, True)
    store.transaction_step(session, Step.START, Outcome.OK, begin, 12.0, "db:1", 9)
    more = OperationSessionInfo(session.key, 3, False)
    store.transaction_step(session, Step.CONTINUE, Outcome.OK, more, 13.0, "db:1", 9)
    ((found,),) = listing.open_transactions(store)
    assert listing.transaction_row(found, 20.0)["statements"] == 2
