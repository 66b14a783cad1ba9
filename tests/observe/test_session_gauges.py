from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from policies.session_budget import SessionBound, SessionBudget
from proxy.observe.families import PREFIX, Page
from proxy.observe.session_gauges import (
    TOP,
    TOP_GROUPS,
    TOP_TRANSACTIONS,
    SessionReading,
    slices,
    top,
)
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.records import CursorId
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step

SHOP = Origin("10.0.0.1", "shop", "PyMongo", "4.20")


def lsid(number: int) -> LogicalSessionId:
    return LogicalSessionId(number.to_bytes(16, "big"), bytes(32))


class Read:
    """What one reading at ``now`` says of a store."""

    def __init__(self, store: SessionStore, now: float = 100.0, **budget: Any) -> None:
        rule = SessionBudget(SessionBudget.Settings(**budget))
        page = Page()
        reading = SessionReading(store, rule, page)
        for step in (
            reading.owners(),
            reading.origins(),
            reading.transactions(now),
            reading.longest_idle(now),
        ):
            for _ in step:
                pass
        reading.budgets()
        reading.counts(now)
        self._values: dict[Any, float] = {}
        for family in text_string_to_metric_families(page.render()[1].decode()):
            for sample in family.samples:
                name = sample.name.removeprefix(PREFIX)
                key = (name, *sorted(sample.labels.items()))
                assert key not in self._values
                self._values[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float | None:
        return self._values.get((name, *sorted(labels.items())))

    def all(self, name: str) -> dict[tuple[str, ...], float]:
        return {
            tuple(value for _, value in key[1:]): value
            for key, value in self._values.items()
            if key[0] == name
        }


def begun(store: SessionStore, number: int, now: float, user: str, origin: Origin = SHOP) -> None:
    session = store.use(lsid(number), now, user, origin)
    assert session is not None
    info = OperationSessionInfo(lsid(number), 1, False, True)
    store.transaction_step(session, Step.START, Outcome.OK, info, now, "a:1")


def test_an_empty_store() -> None:
    read = Read(SessionStore(max_sessions=10))
    assert read("sessions") == 0
    assert read("owner_sessions", owner="other") == 0
    assert read("session_budget_limit", scope="process") == 10
    assert read("session_budget_used_ratio", scope="process") == 0
    for name in ("session_idlest", "transaction_oldest", "transaction_idlest", "cursor_oldest"):
        assert read(f"{name}_seconds") == 0
    assert read.all("transaction_idle_seconds") == {}
    assert read("transactions_ended_total", outcome="committed") == 0


def test_who_has_most_sessions() -> None:
    store = SessionStore()
    number = 0
    for user in range(10_000):
        for _ in range(1 + (user % 5_000 == 0) * 3):
            number += 1
            origin = Origin("10.0.0.1", f"app{user}", f"driver{user}", "1")
            store.use(lsid(number), float(number), f"user{user}@app", origin)
    read = Read(store)
    owners = read.all("owner_sessions")
    assert len(owners) == TOP + 1
    assert owners["user0@app",] == owners["user5000@app",] == 4
    assert sum(owners.values()) == number == read("sessions")
    assert read("application_sessions", application="app5000") == 4
    assert len(read.all("application_sessions")) == TOP + 1
    assert read("driver_sessions", driver="driver0", driver_version="1") == 4
    assert len(read.all("driver_sessions")) == TOP + 1


def test_who_has_most_with_application_and_driver() -> None:
    store = SessionStore()
    for number in range(50):
        store.use(lsid(number), 0.0, "alice@app", SHOP if number < 40 else Origin("h", "batch"))
    for number in range(50, 3_050):
        origin = Origin(f"10.0.0.{number % 200}", "leaky" if number % 3 else "web", "nodejs")
        store.use(lsid(number), 0.0, "bob@app", origin)
    held = Read(store).all("group_sessions")
    assert held["shop", "PyMongo", "alice@app"] == 40
    assert held["batch", "", "alice@app"] == 10
    assert held["leaky", "nodejs", "bob@app"] == pytest.approx(2_000, abs=200)
    assert sum(held.values()) == pytest.approx(3_050)


def test_few_of_many_groups_are_named() -> None:
    store = SessionStore()
    for number in range(3_000):
        origin = Origin("h", f"app{number % 100}", "d")
        store.use(lsid(number), 0.0, f"user{number % 30}@app", origin)
    assert len(Read(store).all("group_sessions")) == TOP_GROUPS


def test_sessions_of_nobody_and_of_unnamed_applications() -> None:
    store = SessionStore()
    store.use(lsid(1), 0.0)
    store.use(lsid(2), 0.0, "", Origin("h", "other"))
    read = Read(store, per_user=1, per_application=1)
    assert read("owner_sessions", owner="") == 2
    assert read("application_sessions", application="") == 1
    # An application may call itself as the rest is called.
    assert read("application_sessions", application="other") == 1
    assert read("session_budget_used_ratio", scope="user") == 0


def test_budgets_are_those_of_whoever_uses_most() -> None:
    store = SessionStore(max_sessions=100)
    for number in range(9):
        store.use(lsid(number), 0.0, "alice@app" if number < 8 else "bob@app", SHOP)
    read = Read(store, per_user=10)
    assert read("session_budget_limit", scope="user") == 10
    assert read("session_budget_used_ratio", scope="user") == 0.8
    assert read("session_budget_used_ratio", scope="process") == 0.09
    assert read("session_budget_limit", scope="application") is None
    assert read.all("owner_budget_used_ratio") == {("alice@app",): 0.8, ("bob@app",): 0.1}


def test_what_is_over_counts_for_no_budget_and_some_have_their_own() -> None:
    store = SessionStore(max_sessions=100)
    for number in range(9):
        store.use(lsid(number), 0.0, "alice@app" if number < 8 else "bob@app", SHOP)
    store.end([lsid(0), lsid(1)], 1.0)
    own = (
        SessionBound(users=("alice@app",), applications=("shop",), per_user=60),
        SessionBound(users=("bob@app",), per_user=2),
        SessionBound(applications=("shop",), per_application=14),
    )
    read = Read(store, per_user=10, bounds=own)
    assert (read("sessions"), read("sessions_live")) == (9, 7)
    assert read.all("owner_budget_used_ratio") == {("alice@app",): 0.1, ("bob@app",): 0.5}
    assert read("session_budget_used_ratio", scope="user") == 0.5
    assert read("owner_live_sessions", owner="alice@app") == 6
    assert read("application_live_sessions", application="shop") == 7
    assert read("application_budget_used_ratio", application="shop") == 0.5


def test_open_transactions_and_who_lets_them_wait() -> None:
    store = SessionStore()
    begun(store, 1, 10.0, "alice@app")
    begun(store, 2, 40.0, "alice@app")
    begun(store, 3, 60.0, "bob@app", Origin("h", "batch", "nodejs"))
    running = store.operation_started(lsid(1), 95.0, user="alice@app", origin=SHOP)
    assert running is not None
    read = Read(store)
    assert read("transactions_open") == 3
    assert read("transaction_oldest_seconds") == 90
    assert read("transaction_idlest_seconds") == 60
    assert read("owner_open_transactions", owner="alice@app") == 2
    assert read.all("transaction_idle_seconds") == {
        ("shop", "PyMongo", "alice@app"): 60,
        ("batch", "nodejs", "bob@app"): 40,
    }
    assert read("transactions_started_total") == 3


def test_many_idle_transactions_name_few() -> None:
    store = SessionStore()
    for number in range(2_500):
        begun(store, number, 50.0 - number / 100, f"user{number}@app")
    named = Read(store).all("transaction_idle_seconds")
    assert len(named) == TOP_TRANSACTIONS
    assert ("shop", "PyMongo", "user2499@app") in named


def test_cursors_and_the_longest_idle() -> None:
    store = SessionStore()
    session = store.use(lsid(1), 30.0, "alice@app", SHOP)
    store.use(lsid(2), 20.0)
    assert session is not None
    store.cursor_opened(CursorId("a:1", 5), session, "app.c", 31.0)
    store.cursor_opened(CursorId("a:1", 6), session, "app.c", 32.0)
    read = Read(store)
    assert read("cursors_open") == 2
    assert read("cursor_oldest_seconds") == 69
    assert read("session_idlest_seconds") == 80


def test_what_the_store_counted() -> None:
    store = SessionStore()
    begun(store, 1, 1.0, "alice@app")
    session = store.get(lsid(1))
    assert session is not None
    info = OperationSessionInfo(lsid(1), 1, False)
    store.transaction_step(session, Step.COMMIT, Outcome.OK, info, 3.0)
    write = OperationSessionInfo(lsid(1), 2)
    for _ in range(2):
        store.transaction_step(session, Step.WRITE, Outcome.OK, write, 4.0, statements=[range(1)])
    store.end([lsid(1)], 5.0)
    read = Read(store)
    assert read("sessions_started_total") == 1
    assert read("sessions_ended_total", reason="ended") == 1
    assert read("transactions_ended_total", outcome="committed") == 1
    assert read("transaction_duration_seconds_sum", outcome="committed") == 2
    assert read("transaction_statements_total") == 1
    assert read("retryable_writes_total") == 2
    assert read("retryable_write_replays_total") == 1
    assert read("sessions_untracked_total") == 0


def test_the_largest_are_named_and_the_rest_summed() -> None:
    counts = {f"n{number}": number for number in range(30)} | {"x" * 200: 100, "x" * 201: 50}
    named = top(counts)
    assert len(named) == TOP
    assert named["x" * 99 + "…",] == 150
    assert sum(named.values()) == sum(counts.values())


@pytest.mark.parametrize(("size", "lengths"), [(2, [2, 2, 1]), (5, [5]), (9, [5])])
def test_slices(size: int, lengths: list[int]) -> None:
    assert [len(one) for one in slices(list(range(5)), size)] == lengths
    assert list(slices([], size)) == []
