from __future__ import annotations

from typing import Any

import pytest

from policies.session_budget import SessionBound, SessionBudget
from proxy.session.caller import Caller
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.records import CursorId, Selection
from proxy.session.store import SessionStore
from tests.policies.contexts import SHOP, context
from tests.session.sessions import ALICE, ANYBODY, AS_ALICE, KILLER, caller, lsid, uuid


@pytest.fixture
def store() -> SessionStore:
    """Three sessions of alice, two of them from the shop."""
    made = SessionStore(max_sessions=5)
    for number in range(3):
        key = LogicalSessionId(uuid(number), ALICE)
        if number < 2:
            made.use(key, 0.0, "alice@app", SHOP)
        else:
            made.use(key, 0.0, "alice@app")
    return made


NEW = {"find": "c", "lsid": lsid(9)}
KNOWN = {"find": "c", "lsid": lsid(1)}


@pytest.mark.parametrize(
    ("settings", "who", "document", "refused"),
    [
        ({}, AS_ALICE, NEW, False),
        ({"per_user": 3}, AS_ALICE, NEW, True),
        ({"per_user": 4}, AS_ALICE, NEW, False),
        ({"per_user": 3}, AS_ALICE, KNOWN, False),
        ({"per_user": 3}, AS_ALICE, {"find": "c"}, False),
        ({"per_user": 3}, caller("bob@app"), NEW, False),
        ({"per_user": 1}, ANYBODY, NEW, False),
        ({"per_user": 3}, AS_ALICE, {"startSession": 1}, True),
        ({"per_user": 4}, AS_ALICE, {"refreshSessions": [lsid(1), lsid(9)]}, False),
        ({"per_user": 4}, AS_ALICE, {"refreshSessions": [lsid(8), lsid(9)]}, True),
        ({"per_user": 3}, AS_ALICE, {"endSessions": [lsid(9)]}, False),
        ({"per_user": 3}, AS_ALICE, {"killSessions": [lsid(9)]}, False),
        ({"per_user": 3}, AS_ALICE, {"killSessions": [], "lsid": lsid(9)}, False),
        ({"per_application": 2}, caller("bob@app"), NEW, True),
        ({"per_application": 3}, caller("bob@app"), NEW, False),
        ({"reserved": 2}, AS_ALICE, NEW, True),
        ({"reserved": 2}, KILLER, NEW, False),
        ({"reserved": 2, "operators": ()}, KILLER, NEW, True),
        ({"reserved": 1}, AS_ALICE, NEW, False),
    ],
)
def test_budgets(
    store: SessionStore,
    settings: dict[str, Any],
    who: Caller,
    document: dict[str, Any],
    refused: bool,
) -> None:
    rule = SessionBudget(SessionBudget.Settings(**settings))
    error = rule.refuse(context(document, who, store, origin=SHOP))
    assert (error is not None) is refused
    if error is not None:
        assert (error.code, error.code_name) == (261, "TooManyLogicalSessions")
        assert error.labels == ()


def test_an_application_without_a_name_has_no_budget(store: SessionStore) -> None:
    rule = SessionBudget(SessionBudget.Settings(per_application=1))
    assert rule.refuse(context(NEW, AS_ALICE, store)) is None


def keys(*numbers: int) -> list[LogicalSessionId]:
    return [LogicalSessionId(uuid(number), ALICE) for number in numbers]


def refused(store: SessionStore, document: dict[str, Any], **settings: Any) -> str:
    """The bound that refuses; "" for none."""
    rule = SessionBudget(SessionBudget.Settings(**settings))
    error = rule.refuse(context(document, AS_ALICE, store, origin=SHOP))
    return "" if error is None or error.bound is None else error.bound[0]


@pytest.mark.parametrize("killed", [False, True])
def test_what_is_over_frees_its_place_until_it_is_used_again(
    store: SessionStore, killed: bool
) -> None:
    if killed:
        store.kill(Selection(keys=frozenset(keys(0, 1))), 1.0)
    else:
        store.end(keys(0, 1), 1.0)
    assert not refused(store, NEW, per_user=2)
    assert refused(store, NEW, per_user=1) == "per_user"
    assert not refused(store, NEW, per_application=1)
    # Used again it needs a place, on whichever command.
    assert refused(store, KNOWN, per_user=1) == "per_user"
    assert refused(store, {"refreshSessions": [lsid(0), lsid(1)]}, per_user=2) == "per_user"
    assert not refused(store, {"refreshSessions": [lsid(0), lsid(2)]}, per_user=2)
    store.use(keys(0)[0], 2.0, "alice@app", SHOP)
    assert refused(store, NEW, per_user=2) == "per_user"
    assert not refused(store, {"find": "c", "lsid": lsid(0)}, per_user=2)


def test_a_kill_of_all_that_somebody_has_frees_all_places(store: SessionStore) -> None:
    store.kill(Selection(uids=frozenset([ALICE])), 1.0)
    assert (store.owner_live("alice@app"), store.owner_sessions("alice@app")) == (0, 3)
    assert not refused(store, NEW, per_user=1, per_application=1)


def test_what_is_open_keeps_its_place(store: SessionStore) -> None:
    operation = store.operation_started(keys(0)[0], 1.0)
    cursor = CursorId("a:1", 7)
    session = store.get(keys(1)[0])
    assert operation is not None
    assert session is not None
    store.cursor_opened(cursor, session, "db.c", 1.0)
    store.kill(Selection(everything=True), 2.0, "b:1")
    assert store.owner_live("alice@app") == 2
    store.operation_finished(operation, 3.0)
    assert store.owner_live("alice@app") == 1
    store.cursor_closed(cursor)
    assert store.owner_live("alice@app") == 0


def test_so_many_that_are_over_may_be_known(store: SessionStore) -> None:
    """A session that is ended at once makes work for upstream, too."""
    store.end(keys(0, 1, 2), 1.0)
    assert not refused(store, NEW, per_user=1, remembered=4)
    assert refused(store, NEW, per_user=1, remembered=3) == "remembered"
    assert not refused(store, KNOWN, per_user=1, remembered=3)
    assert not refused(store, NEW, per_user=4, remembered=3)
    rule = SessionBudget(SessionBudget.Settings(per_user=2_000, per_application=5))
    budget = rule.budget("alice@app", "shop")
    assert (budget.user_remembered.most, budget.application_remembered.most) == (20_000, 10_000)


def test_what_finds_no_room_to_be_counted_is_refused_to_those_with_a_bound() -> None:
    store = SessionStore(max_sessions=1)
    store.use(LogicalSessionId(uuid(1), bytes(32)), 0.0, "bob@app")
    assert refused(store, NEW, per_user=1) == "max_sessions"
    assert not refused(store, NEW, per_user=1, bounds=(SessionBound(exempt=True),))


BOUNDS = (
    SessionBound(users=("batch-*@app",), applications=("etl",), per_user=5),
    SessionBound(users=("batch-*@app",), exempt=True),
    SessionBound(applications=("web*", "shop"), per_application=7, remembered=20),
)


@pytest.mark.parametrize(
    ("user", "application", "bounds"),
    [
        ("batch-1@app", "ETL", [(5, "bounds[0].per_user"), (2, "per_application")]),
        ("batch-1@app", "web", [(0, "per_user"), (0, "per_application")]),
        ("alice@app", "web2", [(3, "per_user"), (7, "bounds[2].per_application")]),
        ("alice@app", "etl", [(3, "per_user"), (2, "per_application")]),
        ("", "shop", [(0, "per_user"), (7, "bounds[2].per_application")]),
        ("alice@app", "", [(3, "per_user"), (0, "per_application")]),
    ],
)
def test_the_first_entry_that_matches_decides(
    user: str, application: str, bounds: list[tuple[int, str]]
) -> None:
    rule = SessionBudget(SessionBudget.Settings(3, 2, bounds=BOUNDS))
    budget = rule.budget(user, application)
    assert [tuple(budget.user), tuple(budget.application)] == bounds


def test_entries_bound_where_nothing_general_does(store: SessionStore) -> None:
    entries = (SessionBound(users=("alice@*",), per_user=3),)
    assert refused(store, NEW, bounds=entries) == "bounds[0].per_user"
    rule = SessionBudget(SessionBudget.Settings(bounds=entries))
    assert not rule.idle
    who = caller("bob@app")
    assert rule.refuse(context(NEW, who, store, origin=Origin("h", "any"))) is None
