from __future__ import annotations

from dataclasses import is_dataclass
from typing import Any

import pytest
from bson import Int64

import policies
from policies.examples.named_applications import NamedApplications
from policies.user_name_length import UserNameLength
from proxy.conversation.rule import Mode, Rules, is_routine
from proxy.session.ids import LogicalSessionId
from proxy.session.info import NO_SESSION
from proxy.session.plans import Plan
from proxy.session.records import CursorId
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from proxy.settings.loading import load_rule, make_rule
from tests.policies.contexts import SHOP, context
from tests.session.sessions import (
    ANYBODY,
    AS_ALICE,
    NOBODY,
    caller,
    deciding,
    info,
    lsid,
    request,
    uuid,
)


@pytest.mark.parametrize("rule", [*policies.RULES, NamedApplications])
def test_every_rule_keeps_the_protocol(rule: type) -> None:
    assert is_dataclass(rule.Settings)
    assert rule.Settings.__dataclass_params__.frozen
    made = make_rule(rule, {})
    assert made.refuse(context({"find": "c"})) is None
    assert rule.__doc__


TXN = {"txnNumber": Int64(1), "autocommit": False, "startTransaction": True}

#: Each rule as strict as it can be set.
STRICT = {
    "ownership": {"refuse_early": True},
    "user_name_length": {"refuse_early": True},
    "ownerless_sessions": {},
    "txn_number": {"refuse_early": True},
    "stmt_ids": {},
    "kill_guard": {"permission": "shutdown", "max_sessions": 1},
    "session_budget": {"per_user": 1, "per_application": 1, "reserved": 1},
    "transaction_guard": {"idle_seconds": 1.0, "total_seconds": 1.0, "per_user": 1},
}


@pytest.mark.parametrize("rule", policies.RULES)
@pytest.mark.parametrize(
    "who", [AS_ALICE, ANYBODY, NOBODY, caller("alice@app", authorization=None)]
)
@pytest.mark.parametrize("checks", [True, False])
def test_no_rule_that_says_so_judges_a_routine_request(rule, who, checks) -> None:
    store = SessionStore(max_sessions=3)
    for number in (1, 2, 3):
        key = info({"find": "c", "lsid": lsid(number)}, who).lsid
        if key is None:
            return  # nobody who may use a session: nothing is routine
        store.use(key, 0.0, who.name, SHOP)
    open_one = info({"find": "c", "lsid": lsid(1), **TXN}, who)
    assert open_one.lsid is not None
    session = store.get(open_one.lsid)
    assert session is not None
    store.transaction_step(session, Step.START, Outcome.OK, open_one, 0.0)
    store.cursor_opened(CursorId("here:1", 7), session, "db.c", 0.0)
    made = make_rule(rule, STRICT[rule.name])
    assert made.judges_routine is False
    commands = ("find", "insert", "commitTransaction", "killCursors", "aggregate")
    for document in ({"getMore": Int64(7)}, *({command: "c"} for command in commands)):
        one = context(
            {**document, "lsid": lsid(1)}, who, store, now=100.0, origin=SHOP,
            upstream_checks=checks, upstream="here:1",
        )  # fmt: skip
        assert is_routine(one.request, one.info, one.session, one.plan, one.upstream)
        assert made.refuse(one) is None


#: What drivers send in a transaction and for a retryable write, one after the other.
NUMBERED: tuple[dict[str, Any], ...] = (
    {"find": "c", **TXN},
    {"update": "c", "txnNumber": Int64(1), "autocommit": False},
    {"commitTransaction": 1, "txnNumber": Int64(1), "autocommit": False},
    {"abortTransaction": 1, "txnNumber": Int64(1), "autocommit": False},
    {"insert": "c", "txnNumber": Int64(0)},
    {"insert": "c", "txnNumber": Int64(9)},
    {"find": "c", "txnNumber": Int64(9)},
    {"getMore": Int64(7), "txnNumber": Int64(1), "autocommit": False},
)


@pytest.mark.parametrize("rule", policies.RULES)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("who", [AS_ALICE, NOBODY, caller("alice@app", authorization=None)])
def test_no_rule_that_says_so_judges_a_transaction(rule, strict, who) -> None:
    made = make_rule(rule, STRICT[rule.name] if strict else {})
    if getattr(made, "judges_transactions", True):
        assert rule.name == "transaction_guard" or (rule.name == "txn_number" and strict)
        return
    store = SessionStore(max_sessions=1)
    started = info({"find": "c", "lsid": lsid(1), **TXN}, who)
    if started.lsid is None:
        return  # nobody who may use a session: nothing is routine
    session = store.use(started.lsid, 0.0, who.name, SHOP)
    assert session is not None
    store.transaction_step(session, Step.START, Outcome.OK, started, 0.0)
    store.cursor_opened(CursorId("here:1", 7), session, "db.c", 0.0)
    for document in NUMBERED:
        one = context(
            {**document, "lsid": lsid(1)}, who, store, now=100.0, origin=SHOP,
            upstream_checks=True, upstream="here:1",
        )  # fmt: skip
        assert is_routine(one.request, one.info, one.session, one.plan, one.upstream)
        assert made.refuse(one) is None


@pytest.mark.parametrize("rule", policies.RULES)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("checks", [True, False])
@pytest.mark.parametrize("who", [AS_ALICE, NOBODY, caller("alice@app", authorization=None)])
@pytest.mark.parametrize(
    "document",
    [
        {"startSession": 1},
        {"refreshSessions": [lsid(1), lsid(2)]},
        {"endSessions": [lsid(1)]},
        {"killSessions": [lsid(1)]},
        {"killSessions": []},
        {"killAllSessions": []},
        {"killAllSessionsByPattern": [{}]},
    ],
)
def test_no_rule_that_says_so_judges_a_session_command(rule, strict, checks, who, document) -> None:
    made = make_rule(rule, STRICT[rule.name] if strict else {})
    if getattr(made, "judges_plans", True):
        assert rule.name in ("kill_guard", "session_budget")
        return
    if isinstance(deciding(request(document), who, SessionStore()), Plan):
        one = context(document, who, upstream_checks=checks)
        assert one.info is NO_SESSION
        assert made.refuse(one) is None


@pytest.mark.parametrize("rule", policies.RULES)
def test_which_have_nothing_to_do_until_they_are_set(rule) -> None:
    assert getattr(make_rule(rule, {}), "idle", False) == (
        rule.name in ("kill_guard", "session_budget", "transaction_guard")
    )
    for name, value in STRICT[rule.name].items():
        if name != "operators":
            assert not getattr(make_rule(rule, {name: value}), "idle", False)


def test_a_short_limit_for_names_is_held_in_every_request() -> None:
    made = make_rule(UserNameLength, {"limit": 5})
    assert made.judges_routine
    assert made.judges_transactions
    assert made.judges_plans


@pytest.mark.parametrize(
    "document",
    [
        {"find": "c"},
        {"find": "c", "lsid": lsid(2)},
        {"find": "c", "lsid": lsid(1), "txnNumber": Int64(-1)},
        {"find": "c", "lsid": lsid(1), "txnNumber": 1},
        {"insert": "c", "lsid": lsid(1), "txnNumber": Int64(1), "stmtIds": [1, 1]},
        {"find": "c", "lsid": lsid(1), "autocommit": False},
        {"find": "c", "lsid": {**lsid(1), "uid": bytes(32)}},
        {"getMore": Int64(1), "collection": "c", "lsid": lsid(1)},
        {"getMore": Int64(2), "collection": "c", "lsid": lsid(1)},
        {"getMore": "x", "collection": "c", "lsid": lsid(1)},
        {"endSessions": [lsid(1)], "lsid": lsid(1)},
    ],
)
def test_what_is_not_routine(document) -> None:
    store = SessionStore()
    for key in (info({"find": "c", "lsid": lsid(1)}).lsid, LogicalSessionId(uuid(1), bytes(32))):
        assert key is not None
        session = store.use(key, 0.0, "alice@app", SHOP)
        assert session is not None
    store.cursor_opened(CursorId("here:1", 1), session, "db.c", 0.0)
    store.cursor_opened(CursorId("there:1", 2), session, "db.c", 0.0)
    who = caller("alice@app", may=("impersonate",))
    one = context(document, who, store, upstream="here:1")
    assert not is_routine(one.request, one.info, one.session, one.plan, one.upstream)


def test_names_are_distinct_and_those_of_the_files() -> None:
    names = [rule.name for rule in policies.RULES]
    assert len(set(names)) == len(names) == 8
    assert [rule.__module__ for rule in policies.RULES] == [f"policies.{one}" for one in names]


def test_the_example() -> None:
    path = "policies.examples.named_applications:NamedApplications"
    rule = load_rule(path, {"except_users": ("bob@app",)})
    new = {"find": "c", "lsid": lsid(2)}
    error = rule.refuse(context(new, AS_ALICE))
    assert error is not None
    assert error.code == 13
    assert rule.refuse(context(new, AS_ALICE, origin=SHOP)) is None
    assert rule.refuse(context(new, caller("bob@app"))) is None
    assert rule.refuse(context({"find": "c"}, AS_ALICE)) is None
    assert rule.refuse(context({"startSession": 1}, AS_ALICE)) is not None
    assert rule.refuse(context({"startSession": 1}, AS_ALICE, origin=SHOP)) is None
    assert rule.refuse(context({"endSessions": [lsid(1)]}, AS_ALICE)) is None
    assert not Rules([(rule, Mode.ENFORCE)]).judge_privileges
