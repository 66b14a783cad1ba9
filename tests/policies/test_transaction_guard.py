from __future__ import annotations

from typing import Any

import pytest
from bson import Int64

from policies.transaction_guard import TransactionBound, TransactionGuard
from proxy.session.caller import Caller
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.records import Attempt
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from tests.policies.contexts import context
from tests.session.sessions import ALICE, ANYBODY, AS_ALICE, caller, lsid, uuid

KEY = LogicalSessionId(uuid(2), ALICE)


def guard(**settings: Any) -> TransactionGuard:
    return TransactionGuard(TransactionGuard.Settings(**settings))


@pytest.fixture
def store() -> SessionStore:
    """alice's transaction 5, open since 100 and last used at 110."""
    made = SessionStore()
    session = made.use(KEY, 100.0, "alice@app")
    assert session is not None
    info = OperationSessionInfo(txn_number=5)
    made.transaction_step(session, Step.START, Outcome.OK, info, 100.0, "a:1")
    made.transaction_step(session, Step.CONTINUE, Outcome.OK, info, 110.0, "a:1")
    return made


def step(number: int = 5, command: str = "insert", session: int = 2, **more: Any) -> dict[str, Any]:
    txn = {"lsid": lsid(session), "txnNumber": Int64(number), "autocommit": False}
    return {command: "c", **txn, **more}


@pytest.mark.parametrize(
    ("settings", "now", "document", "refused"),
    [
        ({}, 1e6, step(), False),
        ({"total_seconds": 30}, 129.0, step(), False),
        ({"total_seconds": 30}, 130.0, step(), True),
        ({"total_seconds": 30}, 130.0, step(command="commitTransaction"), True),
        ({"total_seconds": 30}, 130.0, step(command="abortTransaction"), False),
        ({"total_seconds": 30}, 130.0, step(4), False),
        ({"total_seconds": 30}, 130.0, step(6, startTransaction=True), False),
        ({"total_seconds": 30}, 130.0, step(session=3), False),
        ({"idle_seconds": 5}, 114.0, step(), False),
        ({"idle_seconds": 5}, 115.0, step(), True),
        (
            {"total_seconds": 1},
            130.0,
            {"insert": "c", "lsid": lsid(2), "txnNumber": Int64(5)},
            False,
        ),
    ],
)
def test_limits_of_time(
    store: SessionStore,
    settings: dict[str, Any],
    now: float,
    document: dict[str, Any],
    refused: bool,
) -> None:
    error = guard(**settings).refuse(context(document, AS_ALICE, store, now=now))
    assert (error is not None) is refused
    if error is not None:
        assert (error.code, error.code_name) == (251, "NoSuchTransaction")
        assert error.labels == ("TransientTransactionError",)
        assert error.errmsg.startswith("Transaction 5 has been aborted: it was ")


@pytest.mark.parametrize(
    ("cap", "who", "document", "refused"),
    [
        (0, AS_ALICE, step(1, session=3, startTransaction=True), False),
        (1, AS_ALICE, step(1, session=3, startTransaction=True), True),
        (2, AS_ALICE, step(1, session=3, startTransaction=True), False),
        (1, AS_ALICE, step(6, startTransaction=True), False),
        (1, AS_ALICE, step(), False),
        (1, caller("bob@app"), step(1, startTransaction=True), False),
        (1, ANYBODY, step(1, startTransaction=True), False),
    ],
)
def test_cap(
    store: SessionStore, cap: int, who: Caller, document: dict[str, Any], refused: bool
) -> None:
    error = guard(per_user=cap).refuse(context(document, who, store, now=111.0))
    assert (error is not None) is refused
    if error is not None:
        assert (error.code, error.labels) == (251, ("TransientTransactionError",))
        text = "user alice@app has 1 of 1 open transactions and starts another one"
        assert (error.errmsg, error.bound) == (text, ("per_user", 1))


@pytest.mark.parametrize(
    ("settings", "now", "reason", "bound"),
    [
        ({}, 1e6, None, None),
        ({"idle_seconds": 5}, 114.0, None, None),
        (
            {"idle_seconds": 5},
            115.0,
            "it was idle for more than 5 seconds",
            ("idle_seconds", 5),
        ),
        (
            {"total_seconds": 12.5},
            112.5,
            "it was open for more than 12.5 seconds",
            ("total_seconds", 12.5),
        ),
    ],
)
def test_what_is_overdue(
    store: SessionStore, settings: dict[str, Any], now: float, reason: str | None, bound: Any
) -> None:
    session = store.get(KEY)
    assert session is not None
    found = guard(**settings).overdue(session, now)
    assert found == (None if reason is None else (session, 5, reason, bound))


@pytest.mark.parametrize("number", [5, 6, 9])
def test_starts_without_an_answer_hide_none_that_is_late(store: SessionStore, number: int) -> None:
    for later in (6, 9):
        start = OperationSessionInfo(KEY, later, False, True)
        session = store.get(KEY)
        assert session is not None
        store.transaction_step(session, Step.START, Outcome.LOST, start, 111.0, "b:1")
    rule = guard(total_seconds=12.5)
    assert rule.refuse(context(step(number), AS_ALICE, store, now=112.0)) is None
    assert rule.refuse(context(step(number), AS_ALICE, store, now=112.5)) is not None
    assert rule.refuse(context(step(7), AS_ALICE, store, now=112.5)) is None
    found = rule.overdue(session, 112.5)
    assert found is not None
    assert found.txn_number == 5


def test_what_is_running_is_not_cut(store: SessionStore) -> None:
    operation = store.operation_started(KEY, 111.0)
    assert operation is not None
    operation.attempt = Attempt(Step.CONTINUE, OperationSessionInfo(txn_number=5), None)
    rule = guard(idle_seconds=5, total_seconds=30)
    assert rule.overdue(operation.session, 200.0) is None
    assert guard(idle_seconds=5).refuse(context(step(), AS_ALICE, store, now=200.0)) is None
    store.operation_finished(operation, 201.0)
    assert rule.overdue(operation.session, 202.0) is not None


def test_what_else_its_session_does_keeps_no_transaction_alive(store: SessionStore) -> None:
    operation = store.operation_started(KEY, 111.0, command="hello")
    assert operation is not None
    rule = guard(idle_seconds=5)
    assert rule.overdue(operation.session, 200.0) is not None
    assert rule.refuse(context(step(), AS_ALICE, store, now=200.0)) is not None


def test_a_start_under_the_number_of_a_late_one_makes_it_no_younger(store: SessionStore) -> None:
    again = context(step(startTransaction=True), AS_ALICE, store, now=200.0)
    assert guard(total_seconds=30).refuse(again) is not None


def test_an_aborted_transaction_is_not_overdue_again(store: SessionStore) -> None:
    rule = guard(total_seconds=30)
    session = store.get(KEY)
    assert session is not None
    assert rule.overdue(session, 200.0) is not None
    assert store.abort_transaction(session, 200.0)
    assert rule.overdue(session, 200.0) is None
    assert store.owner_transactions("alice@app") == 0


@pytest.mark.parametrize("outcome", [None, Outcome.LOST, Outcome.FAILED, Outcome.REJECTED])
def test_what_is_under_way_counts_and_what_was_lost_may_be_open(outcome: Outcome | None) -> None:
    store = SessionStore()
    session = store.use(KEY, 100.0, "alice@app")
    assert session is not None
    store.transaction_starts(session)
    info = OperationSessionInfo(txn_number=5)
    if outcome is not None:
        store.transaction_step(session, Step.START, outcome, info, 100.0, "a:1")
    refused = outcome in (None, Outcome.LOST)
    other = context(step(1, session=3, startTransaction=True), AS_ALICE, store)
    assert (guard(per_user=1).refuse(other) is not None) is refused
    # It would take its own place.
    own = context(step(6, startTransaction=True), AS_ALICE, store)
    assert guard(per_user=1).refuse(own) is None


def test_what_could_not_be_watched_does_not_begin() -> None:
    full = context(step(1, startTransaction=True), AS_ALICE, SessionStore(max_sessions=0))
    error = guard(idle_seconds=5).refuse(full)
    assert error is not None
    assert error.code == 261


def test_some_have_bounds_of_their_own(store: SessionStore) -> None:
    made = guard(
        idle_seconds=5.0,
        per_user=1,
        bounds=(
            TransactionBound(users=("bob@app",), exempt=True),
            TransactionBound(users=("alice@*",), idle_seconds=60.0, total_seconds=80.0, per_user=2),
        ),
    )
    assert made.watches
    session = store.get(KEY)
    assert session is not None
    assert made.overdue(session, 169.0) is None
    assert made.refuse(context(step(), AS_ALICE, store, now=169.0)) is None
    late = made.overdue(session, 170.0)
    assert late is not None
    assert late.bound == ("bounds[1].idle_seconds", 60.0)
    error = made.refuse(context(step(), AS_ALICE, store, now=180.0))
    assert error is not None
    assert error.bound == ("bounds[1].total_seconds", 80.0)
    another = step(1, session=3, startTransaction=True)
    assert made.refuse(context(another, AS_ALICE, store)) is None
    other = store.use(LogicalSessionId(uuid(4), ALICE), 100.0, "alice@app")
    assert other is not None
    store.transaction_starts(other)
    error = made.refuse(context(another, AS_ALICE, store))
    assert error is not None
    assert error.bound == ("bounds[1].per_user", 2)


def test_those_that_are_exempt_have_no_bound(store: SessionStore) -> None:
    made = guard(
        total_seconds=1.0, per_user=1, bounds=(TransactionBound(("alice@app",), exempt=True),)
    )
    session = store.get(KEY)
    assert session is not None
    assert made.overdue(session, 1e6) is None
    assert made.refuse(context(step(1, session=3, startTransaction=True), AS_ALICE, store)) is None


def test_entries_watch_where_nothing_general_does() -> None:
    made = guard(bounds=(TransactionBound(applications=("web",), total_seconds=1.0),))
    assert made.watches
    assert not made.idle
