"""What is asked of all sessions each of several processes answers, by what all have told."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import bson
import pytest
import trio

from policies.kill_guard import KillGuard
from policies.session_budget import SessionBudget
from policies.transaction_guard import TransactionGuard
from proxy.admin.kill import Kill
from proxy.admin.meant import read_kill, resolve
from proxy.conversation.facts import UpstreamFacts
from proxy.listing import session_listing
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.plans import Plan
from proxy.session.records import CursorId, Hit, InFlight, Selection, Session
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, State, Step
from tests.admin.endpoint import UPSTREAM, FakeAsker, FakeState
from tests.policies.contexts import SHOP, context
from tests.session.fleet import Fleet
from tests.session.sessions import ALICE, AS_ALICE, BOB, IMPERSONATOR, deciding, lsid, request, uuid

ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------------- limits and rules


def use(store: SessionStore, number: int, uid: bytes = ALICE, user: str = "alice@app") -> Session:
    session = store.use(LogicalSessionId(uuid(number), uid), 0.0, user, SHOP)
    assert session is not None
    return session


def begin(store: SessionStore, session: Session, number: int = 1) -> None:
    info = OperationSessionInfo(session.key, number, False, True)
    store.transaction_step(session, Step.START, Outcome.OK, info, 0.0, UPSTREAM)


@pytest.fixture
def fleet() -> Fleet:
    """Two sessions of alice's here, one with a transaction and a cursor; one there, and one of
    bob's with the id of alice's first."""
    made = Fleet(2, max_sessions=10)
    here, there = made.stores
    use(here, 1)
    busy = use(here, 2)
    begin(here, busy)
    here.cursor_opened(CursorId(UPSTREAM, 7), busy, "app.c", 0.0)
    begin(there, use(there, 3))
    use(there, 1, BOB, "bob@app")
    made.talk()
    return made


@pytest.fixture(params=[0, 1])
def store(fleet: Fleet, request: pytest.FixtureRequest) -> SessionStore:
    """That of either."""
    return fleet.stores[request.param]


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"per_user": 3}, True),
        ({"per_user": 4}, False),
        ({"per_application": 4}, True),
        ({"per_application": 5}, False),
        ({"reserved": 6}, True),
        ({"reserved": 5}, False),
    ],
)
def test_budgets_are_of_all_processes(
    store: SessionStore, settings: dict[str, Any], refused: bool
) -> None:
    rule = SessionBudget(SessionBudget.Settings(**settings))
    one = context({"find": "c", "lsid": lsid(9)}, AS_ALICE, store, origin=SHOP)
    assert (rule.refuse(one) is not None) is refused


@pytest.mark.parametrize(("cap", "refused"), [(2, True), (3, False)])
def test_open_transactions_are_counted_in_all_processes(
    store: SessionStore, cap: int, refused: bool
) -> None:
    rule = TransactionGuard(TransactionGuard.Settings(per_user=cap))
    start = {"txnNumber": bson.Int64(5), "autocommit": False, "startTransaction": True}
    one = context({"find": "c", "lsid": lsid(9), **start}, AS_ALICE, store)
    assert (rule.refuse(one) is not None) is refused


def test_a_kill_is_judged_by_what_it_hits_in_all_processes(store: SessionStore) -> None:
    assert store.hit(Selection(uids=frozenset((ALICE,)))) == Hit(3, 0, 1, 2)
    document = {"killAllSessions": [{"user": "alice", "db": "app"}]}
    for most, refused in ((2, True), (3, False)):
        rule = KillGuard(KillGuard.Settings(max_sessions=most))
        error = rule.refuse(context(document, IMPERSONATOR, store))
        assert (error is not None) is refused


# ---------------------------------------------------------------------- session control


def test_a_pattern_finds_owners_that_only_another_process_knows(store: SessionStore) -> None:
    one = request({"killAllSessionsByPattern": [{"lsid": lsid(1)}]})
    plan = deciding(one, IMPERSONATOR, store)
    assert isinstance(plan, Plan)
    assert {key.uid for key in plan.selection.keys} >= {ALICE, BOB}


# ---------------------------------------------------------------------- kills by operators


@pytest.mark.parametrize("native", [True, False])
async def test_a_session_is_killed_over_a_connection_that_another_process_has(
    native: bool, autojump_clock: Any
) -> None:
    fleet, here = Fleet(2), FakeState()
    here.store = fleet.stores[0]
    session = here.add(1, cursor=7)
    begin(here.store, session)
    here.add(2, command="find")
    fleet.talk()
    reach = FakeState()
    asker = FakeAsker()
    reach.asking = {UPSTREAM: {user_digest("alice", "admin"): asker}}
    reach.known = UpstreamFacts(authorization=True, native=native)
    body = json.dumps({"patterns": [{"owner": "alice@*"}], "dry_run": False}).encode()
    meant = read_kill(body, session_listing(fleet.hub), trio.current_time())
    targets = (await resolve(meant, fleet.hub))[0]
    assert [one.open_at for one in targets] == [{UPSTREAM}, {UPSTREAM}]
    result = await Kill(targets, fleet.hub, reach).run("127.0.0.1")
    assert len(result.killed) == 2
    names = [next(iter(bson.decode(one))) for one in asker.asked]
    assert names == (["killSessions"] if native else ["killCursors", "abortTransaction"])
    assert reach.ended == ([] if native else [InFlight(7, 2)])
    for store in fleet.stores:
        store.take_in(fleet.hub.news())
    fleet.talk()
    assert (session.state, here.store.open_cursors()) == (State.ABORTED, 0)
    assert here.store.ending(session) is not None


# ---------------------------------------------------------------------- who may hold what


@pytest.mark.parametrize(
    ("module", "live"),
    [
        ("proxy/admin/overview.py", set()),
        ("proxy/admin/pages.py", set()),
        ("proxy/admin/kill.py", {"InFlight", "Selection"}),
        ("proxy/session/plans.py", {"Hit", "InFlight", "Selection"}),
        ("proxy/session/commands.py", {"Selection"}),
        ("proxy/session/patterns.py", {"Selection"}),
        ("policies/session_budget.py", set()),
        ("policies/kill_guard.py", set()),
    ],
)
def test_who_asks_across_processes_holds_no_live_session(module: str, live: set[str]) -> None:
    held: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in (
            "proxy.session.records",
            "proxy.session.store",
            "proxy.session.index",
        ):
            held |= {name.name for name in node.names}
    assert held <= live
