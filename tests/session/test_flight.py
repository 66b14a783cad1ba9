"""What a store tells of sessions, and what it does not tell twice."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.session.hub import Hub
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.records import Selection
from proxy.session.replica import SharedStore
from proxy.session.store import SessionStore
from proxy.session.telling import Told
from proxy.session.transactions import Outcome, Step
from tests.session.sessions import ALICE, BOB, uuid


class Heard:
    """A :class:`proxy.session.flight.Flight` that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def session(self, event: str, session: Any, now: float) -> None:
        self.told.append((event, session.id, now))

    def all_killed(self, owner: Any, sessions: int, now: float) -> None:
        self.told.append(("all", owner and owner.uid, sessions, now))

    def begun(self, one: Any, number: int, now: float) -> None:
        self.told.append(("begun", one.id, number, now))

    def over(self, one: Any, number: int, now: float, *how: Any) -> None:
        self.told.append(("over", one.id, number, now, *how))

    def take(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told


def key(number: int = 1, uid: bytes = ALICE) -> LogicalSessionId:
    return LogicalSessionId(uuid(number), uid)


def told_by(store: SessionStore) -> Heard:
    heard = store.flight = Heard()
    return heard


def step(
    store: SessionStore, what: Step, number: int, now: float, outcome: Any = Outcome.OK
) -> None:
    info = OperationSessionInfo(key(), txn_number=number, autocommit=False)
    session = store.get(key()) or store.use(key(), now)
    assert session is not None
    store.transaction_step(session, what, outcome, info, now)


def test_a_session_starts_and_ends_once() -> None:
    store = SessionStore()
    heard = told_by(store)
    store.use(key(), 1.0)
    store.use(key(), 2.0)
    store.end([key(), key(2)], 3.0)
    store.end([key()], 4.0)
    assert heard.take() == [
        ("session_started", uuid(1), 1.0),
        ("session_ended", uuid(1), 3.0),
    ]


def test_one_that_upstream_does_not_take() -> None:
    store = SessionStore()
    heard = told_by(store)
    operation = store.operation_started(key(), 1.0)
    assert operation is not None
    store.operation_finished(operation, 2.0, refused=True)
    assert [event for event, *_ in heard.take()] == ["session_started", "session_not_taken"]


def test_kills_by_name_of_an_owner_and_of_everybody() -> None:
    store = SessionStore()
    store.use(key(1), 1.0)
    store.use(key(2), 1.0)
    store.use(key(3, BOB), 1.0)
    heard = told_by(store)
    store.kill(Selection(keys=frozenset([key(1)])), 2.0)
    # Of several members of a set each is told.
    store.kill(Selection(keys=frozenset([key(1)])), 2.1)
    assert heard.take() == [("session_killed", uuid(1), 2.0)]
    store.operation_started(key(2), 3.0)
    store.kill(Selection(uids=frozenset([ALICE])), 4.0)
    assert heard.take() == [("all", ALICE, 2, 4.0), ("session_killed", uuid(2), 4.0)]
    store.kill(Selection(everything=True), 5.0)
    assert heard.take()[0] == ("all", None, 3, 5.0)


def test_a_transaction_with_its_statements_and_how_long_it_was_open() -> None:
    store = SessionStore()
    store.use(key(), 0.0)
    heard = told_by(store)
    step(store, Step.START, 1, 1.0)
    step(store, Step.CONTINUE, 1, 2.0)
    step(store, Step.CONTINUE, 1, 3.0, Outcome.FAILED)
    step(store, Step.COMMIT, 1, 4.0)
    step(store, Step.COMMIT, 1, 4.5)
    step(store, Step.WRITE, 2, 5.0)
    assert heard.take() == [
        ("begun", uuid(1), 1, 1.0),
        ("over", uuid(1), 1, 4.0, "committed", 3.0, 2),
    ]


def test_a_higher_number_ends_the_one_before() -> None:
    store = SessionStore()
    heard = told_by(store)
    step(store, Step.START, 1, 1.0)
    step(store, Step.START, 2, 2.0)
    assert heard.take()[1:] == [
        ("begun", uuid(1), 1, 1.0),
        ("over", uuid(1), 1, 2.0, "aborted", 1.0, 1),
        ("begun", uuid(1), 2, 2.0),
    ]
    step(store, Step.CONTINUE, 2, 3.0, Outcome.GONE)
    assert heard.take() == [("over", uuid(1), 2, 3.0, "aborted", 1.0, 1)]


@pytest.mark.parametrize("what", ["kill", "abort", "forget"])
def test_what_ends_a_transaction_otherwise(what: str) -> None:
    store = SessionStore()
    heard = told_by(store)
    step(store, Step.START, 1, 1.0)
    session = store.get(key())
    assert session is not None
    heard.take()
    if what == "kill":
        store.kill(Selection(keys=frozenset([key()])), 2.0)
        assert ("over", uuid(1), 1, 2.0, "killed", 1.0, 1) in heard.take()
    elif what == "abort":
        store.abort_transaction(session, 2.0)
        assert heard.take() == [("over", uuid(1), 1, 2.0, "aborted", 1.0, 1)]
    else:
        store.forget(session)
        assert heard.take() == [("over", uuid(1), 1, 1.0, "expired", 0.0, 1)]


def test_of_several_processes_the_one_tells_in_which_it_happened() -> None:
    one, other = SharedStore(), SharedStore()
    heard, beside = told_by(one), told_by(other)
    step(one, Step.START, 1, 1.0)
    other.take_in(one.news())
    assert [event for event, *_ in heard.take()] == ["session_started", "begun"]
    step(other, Step.COMMIT, 1, 2.0)
    one.take_in(other.news())
    one.end([key()], 3.0)
    one.kill(Selection(keys=frozenset([key()])), 4.0)
    other.take_in(one.news())
    assert beside.take() == [("over", uuid(1), 1, 2.0, "committed", 1.0, 1)]
    assert [event for event, *_ in heard.take()] == ["session_ended", "session_killed"]


def test_a_session_that_two_processes_have_begun_at_once_is_told_of_once() -> None:
    one, other, hub = SharedStore(), SharedStore(), Hub()
    heard = told_by(hub)
    step(one, Step.START, 1, 1.0)
    step(other, Step.COMMIT, 1, 2.0)
    hub.heard(other.news(), 1)
    hub.heard(one.news(), 0)
    assert heard.take() == [("session_started", uuid(1), 2.0)]
    hub.heard(one.news(), 0)
    assert heard.take() == []


def test_an_end_that_comes_before_the_news_of_the_start_is_told_without_a_duration() -> None:
    store = SharedStore()
    heard = told_by(store)
    step(store, Step.COMMIT, 1, 2.0)
    assert heard.take()[1:] == [("over", uuid(1), 1, 2.0, "committed", -1.0, 0)]
    store.take_in(Told([], [], [], [], []))
    assert store.flight is heard
