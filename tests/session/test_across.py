"""What is asked of all sessions can be answered by several processes, in plain data."""

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
from proxy import admin
from proxy.admin.http import Asked
from proxy.admin.kill import Kill, Target
from proxy.admin.meant import read_kill, resolve
from proxy.build import VERSION
from proxy.conversation.facts import UpstreamFacts
from proxy.listing import session_listing
from proxy.observe.telemetry import Telemetry
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.plans import Plan
from proxy.session.records import CursorId, Hit, InFlight, Selection, Session
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, State, Step
from tests.admin.endpoint import UPSTREAM, FakeAsker, FakeState
from tests.policies.contexts import SHOP, context
from tests.processes import Processes, Stores, sent
from tests.session.sessions import ALICE, AS_ALICE, BOB, IMPERSONATOR, deciding, lsid, request, uuid

ROOT = Path(__file__).parents[2]


#: A frozen dataclass that was compiled sets no field again, and pickle does just that.
UNPICKLED = pytest.mark.skipif("+compiled" in VERSION, reason="compiled: cannot be unpickled")


# ---------------------------------------------------------------------- limits and rules


def use(store: SessionStore, number: int, uid: bytes = ALICE, user: str = "alice@app") -> Session:
    session = store.use(LogicalSessionId(uuid(number), uid), 0.0, user, SHOP)
    assert session is not None
    return session


def begin(store: SessionStore, session: Session, number: int = 1) -> None:
    info = OperationSessionInfo(session.key, number, False, True)
    store.transaction_step(session, Step.START, Outcome.OK, info, 0.0, UPSTREAM)


@pytest.fixture
def stores() -> Stores:
    """Two sessions of alice's here, one with a transaction and a cursor; one there, and one of
    bob's with the id of alice's first."""
    here, there = SessionStore(max_sessions=5), SessionStore(max_sessions=5)
    use(here, 1)
    busy = use(here, 2)
    begin(here, busy)
    here.cursor_opened(CursorId(UPSTREAM, 7), busy, "app.c", 0.0)
    begin(there, use(there, 3))
    use(there, 1, BOB, "bob@app")
    return Stores(here, there)


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
    stores: Stores, settings: dict[str, Any], refused: bool
) -> None:
    rule = SessionBudget(SessionBudget.Settings(**settings))
    one = context({"find": "c", "lsid": lsid(9)}, AS_ALICE, stores, origin=SHOP)
    assert (rule.refuse(one) is not None) is refused


@pytest.mark.parametrize(("cap", "refused"), [(2, True), (3, False)])
def test_open_transactions_are_counted_in_all_processes(
    stores: Stores, cap: int, refused: bool
) -> None:
    rule = TransactionGuard(TransactionGuard.Settings(per_user=cap))
    start = {"txnNumber": bson.Int64(5), "autocommit": False, "startTransaction": True}
    one = context({"find": "c", "lsid": lsid(9), **start}, AS_ALICE, stores)
    assert (rule.refuse(one) is not None) is refused


@UNPICKLED
def test_a_kill_is_judged_by_what_it_hits_in_all_processes(stores: Stores) -> None:
    assert stores.hit(Selection(uids=frozenset((ALICE,)))) == Hit(3, 0, 1, 2)
    document = {"killAllSessions": [{"user": "alice", "db": "app"}]}
    for most, refused in ((2, True), (3, False)):
        rule = KillGuard(KillGuard.Settings(max_sessions=most))
        error = rule.refuse(context(document, IMPERSONATOR, stores))
        assert (error is not None) is refused


# ---------------------------------------------------------------------- session control


def test_a_pattern_finds_owners_that_only_another_process_knows(stores: Stores) -> None:
    one = request({"killAllSessionsByPattern": [{"lsid": lsid(1)}]})
    plan = deciding(one, IMPERSONATOR, stores)
    assert isinstance(plan, Plan)
    assert {key.uid for key in plan.selection.keys} >= {ALICE, BOB}


# ---------------------------------------------------------------------- kills by operators


async def targets_in(state: FakeState, pattern: dict[str, str]) -> list[Target]:
    body = json.dumps({"patterns": [pattern], "dry_run": False}).encode()
    meant = read_kill(body, session_listing(state.store), trio.current_time())
    found: list[Target] = sent((await resolve(meant, state.store))[0])
    return found


@UNPICKLED
@pytest.mark.parametrize("native", [True, False])
async def test_a_session_is_killed_over_a_connection_that_another_process_has(
    native: bool, autojump_clock: Any
) -> None:
    here, there = FakeState(), FakeState()
    session = here.add(1, cursor=7)
    begin(here.store, session)
    here.add(2, command="find")
    asker = FakeAsker()
    there.asking = {UPSTREAM: {user_digest("alice", "admin"): asker}}
    there.known = UpstreamFacts(authorization=True, native=native)
    targets = await targets_in(here, {"owner": "alice@*"})
    assert [one.open_at for one in targets] == [{UPSTREAM}, {UPSTREAM}]
    result = await Kill(targets, Stores(here.store, there.store), there).run("127.0.0.1")
    assert len(result.killed) == 2
    names = [next(iter(bson.decode(one))) for one in asker.asked]
    assert names == (["killSessions"] if native else ["killCursors", "abortTransaction"])
    assert there.ended == ([] if native else [InFlight(7, 2)])
    assert (session.state, here.store.open_cursors()) == (State.ABORTED, 0)
    assert here.store.ending(session) is not None


# ---------------------------------------------------------------------- listings


def states() -> tuple[FakeState, FakeState, FakeState]:
    """One process that knows everything, and two that know half of it each."""
    whole, *halves = FakeState(), FakeState(), FakeState()
    for number in range(1, 41):
        for state in (whole, halves[number % 2]):
            session = state.add(
                number,
                f"user{number % 3}@app",
                age=number * 10.0,
                application=f"app{number % 4}",
                cursor=number if number % 5 == 0 else 0,
                command="find" if number % 7 == 0 else "",
            )
            if number % 6 == 0:
                begin(state.store, session)
            row = {"conn": number, "client": f"10.0.0.1:{number}", "upstream": UPSTREAM}
            state.rows = [*state.rows, row]
    return whole, *halves


async def ask(overview: Any, path: str, **fields: str) -> Any:
    answer = await admin.pages(overview, Telemetry("1"))[path].make(Asked(fields))
    assert answer.status == 200, answer.body
    return json.loads(answer.body)


def named(row: dict[str, Any]) -> str:
    return str(row.get("cursor") or row.get("session") or row["conn"])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("sessions", {}),
        ("sessions", {"sort": "-age"}),
        ("sessions", {"sort": "owner", "application": "app*", "min_idle": "50"}),
        ("sessions", {"state": "idle"}),
        ("transactions", {}),
        ("cursors", {"sort": "-session"}),
        ("connections", {"sort": "conn"}),
    ],
)
@pytest.mark.parametrize("limit", ["1", "3", "1000"])
async def test_pages_of_several_processes_are_those_of_one(
    kind: str, fields: dict[str, str], limit: str, autojump_clock: Any
) -> None:
    whole, *halves = states()
    one = admin.Process(whole, Telemetry("1"), executes=False)
    several = Processes(*(admin.Process(s, Telemetry("1"), executes=False) for s in halves))
    seen: list[list[str]] = []
    for overview in (one, several):
        rows: list[str] = []
        asked = {"limit": limit, **fields}
        while True:
            page = await ask(overview, f"/{kind}", **asked)
            rows += map(named, page[kind])
            if page["next"] is None:
                break
            asked["after"] = page["next"]
        seen.append([*rows, page["matched"], page["total"]])
    assert seen[0] == seen[1]
    assert len(seen[0]) > 2


async def test_the_summary_of_several_processes_adds_up(autojump_clock: Any) -> None:
    whole, *halves = states()
    one = admin.Process(whole, Telemetry("1"), executes=False)
    several = Processes(*(admin.Process(s, Telemetry("1"), executes=False) for s in halves))
    expected, seen = await ask(one, "/summary"), await ask(several, "/summary")
    for name in ("sessions", "transactions", "cursors", "operations"):
        assert seen[name] == expected[name] > 0


# ---------------------------------------------------------------------- who may hold what


@pytest.mark.parametrize(
    ("module", "live"),
    [
        ("proxy/admin/overview.py", set()),
        ("proxy/admin/pages.py", set()),
        ("proxy/admin/kill.py", {"InFlight", "Selection"}),
        ("proxy/session/plans.py", {"InFlight", "Selection"}),
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
