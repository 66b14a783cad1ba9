"""Ending one transaction, interrupting one operation and closing one connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import bson
import pytest
import trio
import trio.testing

from proxy.admin import Process
from proxy.admin.overview import By
from proxy.admin.query import QueryError
from proxy.conversation.facts import UpstreamFacts
from proxy.observe.telemetry import Telemetry
from proxy.session.identity import NO_OWNER, user_digest
from proxy.session.ids import child_fields
from proxy.session.info import OperationSessionInfo
from proxy.session.records import Session
from proxy.session.transactions import Outcome, State, Step
from tests.admin.endpoint import AUTHORIZED, TOKEN, UPSTREAM, FakeAsker, FakeState, asking, uuid

ALICE = user_digest("alice", "admin")
MONGOS = user_digest("__system", "local")
CHILD = child_fields(5, bytes(16))
ONE = str(UUID(int=1))


def step(
    state: FakeState, session: Session, what: Step, number: int = 5, child: bytes = b""
) -> None:
    info = OperationSessionInfo(session.key, number, False, what is Step.START, child=child)
    now = trio.current_time()
    state.store.transaction_step(session, what, Outcome.OK, info, now, UPSTREAM, 7)


def open_one(state: FakeState, number: int = 1, command: str = "") -> Session:
    session = state.add(number, command=command)
    step(state, session, Step.START)
    assert session.state is State.IN_PROGRESS
    return session


def connection(number: int = 7, operation: int | None = 1, **more: Any) -> dict[str, Any]:
    row = {"conn": number, "client": "10.0.0.1:5", "upstream": UPSTREAM, "user": "alice@admin"}
    return row | {"application": "shop", "command": "find", "operation": operation} | more


def under(session: Session) -> dict[str, Any]:
    whose = {"session": str(UUID(bytes=session.id)), "uid": session.owner.uid.hex()}
    return whose | {"owner": session.owner.name}


async def act(state: FakeState, action: str, executes: bool = True, **document: Any) -> Any:
    """An action without sockets, which an autojump clock would not wait for."""
    process = Process(state, Telemetry("1"), executes=executes)
    body = json.dumps({"dry_run": False} | document).encode()
    return await process.act(action, body, By("127.0.0.1", "olivia"))


def asked(asker: FakeAsker) -> list[dict[str, Any]]:
    return [bson.decode(one) for one in asker.asked]


# ---------------------------------------------------------------------- transactions


async def test_a_transaction_ends_on_its_owner_s_connection_and_the_session_lives() -> None:
    state = FakeState()
    asker = FakeAsker()
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state)
    open_one(state, 2)
    async with asking(state, token=lambda: [("olivia", TOKEN)]) as client:
        status, seen = await client.act("abort", {"session": ONE[:8]})
        assert (status, seen) == (400, f"{ONE[:8]}: {one_of_two()}\n")
        status, seen = await client.act("abort", {"session": ONE})
        assert (status, seen["dry_run"], seen["reachable"]) == (200, True, True)
        row = seen["transaction"]
        assert (row["session"], row["txn_number"], row["conn"]) == (ONE, 5, 7)
        assert (asker.asked, session.state) == ([], State.IN_PROGRESS)
        status, done = await client.act("abort", {"session": ONE, "dry_run": False})
    assert (status, done["outcome"], done["problem"], done["interrupted"]) == (
        200,
        "aborted",
        "",
        0,
    )
    [abort] = asked(asker)
    assert (abort["abortTransaction"], abort["txnNumber"], abort["autocommit"]) == (1, 5, False)
    assert abort["lsid"] == {"id": bson.Binary(uuid(1), 4)}
    assert (session.state, state.store.open_transactions) == (State.ABORTED, 1)
    assert state.store.ending(session) is None
    [line] = state.audited
    assert (line["command"], line["decision"], line["operator"]) == ("abort", "done", "olivia")
    assert (line["session"], line["owner"], line["txn_number"]) == (ONE, "alice@admin", 5)


def one_of_two() -> str:
    two = str(UUID(int=2))
    return f"several ids begin so: {ONE} of alice@admin, {two} of alice@admin; give more of it"


@pytest.mark.parametrize(
    ("reply", "outcome", "left", "decision"),
    [
        ({"ok": 1.0}, "aborted", State.ABORTED, "done"),
        ({"ok": 0.0, "code": 251}, "over", State.ABORTED, "done"),
        ({"ok": 0.0, "code": 225}, "over", State.ABORTED, "done"),
        ({"ok": 0.0, "code": 10107}, "over", State.ABORTED, "done"),
        ({"ok": 0.0, "code": 256}, "committed", State.COMMITTED, "done"),
        ({"ok": 0.0, "code": 13}, "failed", State.IN_PROGRESS, "failed"),
        (None, "unreachable", State.IN_PROGRESS, "failed"),
    ],
)
async def test_what_upstream_says_of_it_is_what_is_noted(
    reply: Mapping[str, Any] | None,
    outcome: str,
    left: State,
    decision: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker(reply)}}
    session = open_one(state)
    done = await act(state, "abort", session=ONE)
    assert (done["outcome"], session.state) == (outcome, left)
    assert bool(done["problem"]) is (decision == "failed")
    [line] = state.audited
    assert line["decision"] == decision
    assert ("by an operator" in line["reason"]) is (outcome == "aborted")


async def test_without_a_connection_it_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    state = FakeState()
    session = open_one(state)
    preview = await act(state, "abort", session=ONE, dry_run=True)
    assert preview["reachable"] is False
    done = await act(state, "abort", session=ONE)
    assert (done["outcome"], session.state) == ("unreachable", State.IN_PROGRESS)


async def test_the_next_connection_is_asked_where_one_is_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    silent, second = FakeAsker(None), FakeAsker()
    state.asking = {UPSTREAM: {ALICE: silent}}
    state.others = {(UPSTREAM, ALICE): [second]}
    open_one(state)
    assert (await act(state, "abort", session=ONE))["outcome"] == "aborted"
    assert (len(silent.asked), len(second.asked)) == (1, 1)


async def test_whoever_may_kill_for_all_stands_in() -> None:
    state = FakeState()
    mongos = FakeAsker()
    state.asking = {UPSTREAM: {MONGOS: mongos}}
    state.for_everybody = [mongos]
    open_one(state)
    assert (await act(state, "abort", session=ONE))["outcome"] == "aborted"
    assert bytes(asked(mongos)[0]["lsid"]["uid"]) == ALICE


async def test_without_authorization_any_connection_will_do() -> None:
    state = FakeState()
    state.known = UpstreamFacts(authorization=False)
    asker = FakeAsker()
    state.asking = {UPSTREAM: {NO_OWNER: asker}}
    open_one(state)
    assert (await act(state, "abort", session=ONE))["outcome"] == "aborted"


async def test_what_is_in_flight_in_it_is_interrupted_first() -> None:
    state = FakeState()
    asker = FakeAsker({"ok": 0.0, "code": 59}, {"ok": 1.0})
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state, command="find")
    state.open[7] = connection() | under(session)
    done = await act(state, "abort", session=ONE)
    assert (done["outcome"], done["interrupted"], state.cut) == ("aborted", 1, [(7, 1)])


async def test_prepared_ones_are_spared() -> None:
    state = FakeState()
    asker = FakeAsker()
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state)
    step(state, session, Step.PREPARE)
    with pytest.raises(QueryError, match="5 is prepared: only who coordinates it may end it"):
        await act(state, "abort", session=ONE)
    assert (asker.asked, session.state) == ([], State.PREPARED)


async def test_it_has_to_be_the_one_that_was_looked_at() -> None:
    state = FakeState()
    asker = FakeAsker()
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state)
    with pytest.raises(QueryError, match="not open any more, but 5 is"):
        await act(state, "abort", session=ONE, txn_number=4)
    step(state, session, Step.COMMIT)
    with pytest.raises(QueryError, match="no transaction is open; its last one, 5, is committed"):
        await act(state, "abort", session=ONE)
    state.add(2)
    with pytest.raises(QueryError, match=r"no transaction is open$"):
        await act(state, "abort", session=str(UUID(int=2)))
    assert asker.asked == []


async def test_what_may_be_open_behind_a_newer_start_can_be_named() -> None:
    state = FakeState()
    asker = FakeAsker({"ok": 0.0, "code": 322, "errmsg": "no"}, {"ok": 1.0})
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state)
    info = OperationSessionInfo(session.key, 6, False, True)
    state.store.transaction_step(session, Step.START, Outcome.LOST, info, 1.0, UPSTREAM, 7)
    assert (await act(state, "abort", session=ONE))["outcome"] == "failed"
    assert (await act(state, "abort", session=ONE, txn_number=5))["outcome"] == "aborted"
    assert [abort["txnNumber"] for abort in asked(asker)] == [6, 5]
    assert session.transaction is not None
    assert [one.number for one in session.transaction.open_ones] == [6]


async def test_of_child_sessions_one_is_chosen() -> None:
    state = FakeState()
    asker = FakeAsker()
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state)
    step(state, session, Step.START, 0, CHILD)
    child = f"5 - {UUID(int=0)}"
    with pytest.raises(QueryError) as caught:
        await act(state, "abort", session=ONE)
    assert (
        str(caught.value) == f"{ONE}: several are open: 5, 0 (child {child}); say which, by child"
    )
    done = await act(state, "abort", session=ONE, child=child)
    assert (done["outcome"], session.state) == ("aborted", State.IN_PROGRESS)
    [abort] = asked(asker)
    assert abort["lsid"]["txnUUID"] == bson.Binary(bytes(16), 4)
    assert not session.children
    done = await act(state, "abort", session=ONE, child=None)
    assert (done["outcome"], session.state) == ("aborted", State.ABORTED)


@pytest.mark.parametrize(
    ("action", "document", "problem"),
    [
        ("abort", {}, "session: has to be said"),
        ("abort", {"session": 7}, "session: has to be a UUID or its first 8 digits or more"),
        ("abort", {"session": "1a2b3c4d"}, "1a2b3c4d: no such session"),
        ("abort", {"session": ONE, "txn_number": "5"}, "txn_number: has to be a number"),
        ("abort", {"conn": 7}, "conn: no such field; there are session, uid, txn_number, child"),
        ("interrupt", {}, "say which: conn or session"),
        ("interrupt", {"conn": 7, "session": ONE}, "say which: conn or session"),
        ("interrupt", {"conn": "7"}, "conn: has to be a number"),
        ("interrupt", {"conn": True}, "conn: has to be a number"),
        ("interrupt", {"conn": 8}, "conn: there is no connection 8"),
        ("interrupt", {"conn": 9}, "conn: nothing is in flight on 9"),
        ("interrupt", {"session": ONE}, f"{ONE}: nothing is in flight"),
        ("close", {}, "conn: has to be said"),
        ("close", {"conn": None}, "conn: has to be a number"),
        ("close", {"conn": 8}, "conn: there is no connection 8"),
        ("close", {"conn": 7, "dry_run": 0}, "dry_run: has to be true or false"),
    ],
)
async def test_what_is_wrong_is_said(action: str, document: dict[str, Any], problem: str) -> None:
    state = FakeState()
    state.open[9] = connection(9, None)
    open_one(state)
    with pytest.raises(QueryError) as caught:
        await act(state, action, **document)
    assert str(caught.value).startswith(problem)


# ---------------------------------------------------------------------- operations


class KillingAsker(FakeAsker):
    """Its upstream lists an operation and ends it when told to."""

    def __init__(self, state: FakeState, *found: object) -> None:
        super().__init__()
        self._state = state
        self._found = found

    def ask(self, question: bytes, handler: Any) -> None:
        command = bson.decode(question)
        if "killOp" in command:
            self._state.open[7]["operation"] = None
            self._answers = [{"ok": 1.0}]
        else:
            batch = [{"opid": one} for one in self._found]
            self._answers = [{"ok": 1.0, "cursor": {"id": 0, "ns": "", "firstBatch": batch}}]
        super().ask(question, handler)


@pytest.mark.parametrize("opids", [(4711,), ("shard1:4", "shard2:9")])
async def test_upstream_interrupts_what_it_can_tell_apart(opids: tuple[object, ...]) -> None:
    state = FakeState()
    session = state.add(1, command="find")
    asker = KillingAsker(state, *opids)
    state.asking = {UPSTREAM: {ALICE: asker}}
    state.open[7] = connection() | under(session)
    seen = await act(state, "interrupt", session=ONE, dry_run=True)
    assert (seen["connection"]["conn"], seen["connection"]["operation"]) == (7, 1)
    done = await act(state, "interrupt", conn=7, operation=1)
    assert (done["outcome"], state.cut) == ("killOp", [])
    listing, *kills = asked(asker)
    match = listing["pipeline"][1]["$match"]
    assert listing["pipeline"][0] == {"$currentOp": {"allUsers": False, "localOps": True}}
    assert (match["lsid.id"], match["command.find"]) == (bson.Binary(uuid(1), 4), {"$exists": True})
    assert [one["op"] for one in kills] == list(opids)
    [line] = state.audited
    assert (line["command"], line["decision"], line["conn"]) == ("interrupt", "done", 7)
    assert line["reason"] == "interrupted by an operator, with killOp: find, after 0.0 s"


async def test_what_upstream_does_not_end_ends_with_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    session = state.add(1, command="find")
    listed = {"ok": 1.0, "cursor": {"firstBatch": [{"opid": 4}]}}
    state.asking = {UPSTREAM: {ALICE: FakeAsker(listed, {"ok": 1.0})}}
    state.open[7] = connection() | under(session)
    assert (await act(state, "interrupt", conn=7))["outcome"] == "closed"
    assert state.cut == [(7, 1)]


@pytest.mark.parametrize(
    "answer",
    [
        {"ok": 0.0, "code": 13},
        {"ok": 1.0, "cursor": {"firstBatch": []}},
        {"ok": 1.0, "cursor": {"firstBatch": [7]}},
        {"ok": 1.0},
        None,
    ],
)
async def test_where_upstream_cannot_be_told_which_one_it_is_the_connection_closes(
    answer: Mapping[str, Any] | None, autojump_clock: trio.testing.MockClock
) -> None:
    state = FakeState()
    session = state.add(1, command="find")
    state.asking = {UPSTREAM: {ALICE: FakeAsker(answer)}}
    state.open[7] = connection() | under(session)
    assert (await act(state, "interrupt", conn=7))["outcome"] == "closed"


async def test_one_without_a_session_ends_with_its_connection() -> None:
    state = FakeState()
    asker = FakeAsker()
    state.asking = {UPSTREAM: {ALICE: asker}}
    state.open[7] = connection()
    assert (await act(state, "interrupt", conn=7))["outcome"] == "closed"
    assert asker.asked == []


async def test_what_follows_it_is_not_interrupted_instead() -> None:
    state = FakeState()
    state.open[7] = connection(operation=2)
    assert (await act(state, "interrupt", conn=7, operation=1))["outcome"] == "over"
    assert (state.cut, list(state.open)) == ([], [7])
    assert [line["decision"] for line in state.audited] == ["failed"]


# ---------------------------------------------------------------------- connections


async def test_a_connection_is_closed() -> None:
    state = FakeState()
    state.open = {7: connection(), 8: connection(8)}
    seen = await act(state, "close", conn=7, dry_run=True)
    assert (seen["connection"]["conn"], sorted(state.open)) == (7, [7, 8])
    assert (await act(state, "close", conn=7))["outcome"] == "closed"
    assert list(state.open) == [8]
    [line] = state.audited
    assert (line["command"], line["user"], line["application"]) == ("close", "alice@admin", "shop")


# ---------------------------------------------------------------------- who may


@pytest.mark.parametrize("action", ["kill", "abort", "interrupt", "close"])
async def test_previews_need_no_token_on_loopback(action: str) -> None:
    state = FakeState()
    state.open[7] = connection()
    open_one(state)
    document = {
        "kill": {"sessions": [ONE]},
        "abort": {"session": ONE},
        "interrupt": {"conn": 7},
        "close": {"conn": 7},
    }[action]
    async with asking(state) as client:
        nobody = {"content_type": "application/json"}
        for dry_run, authorized, status in (
            (True, False, 200),
            (True, True, 200),
            (False, False, 401),
        ):
            body = json.dumps(document | {"dry_run": dry_run}).encode()
            headers = nobody | (AUTHORIZED if authorized else {})
            assert (await client.ask(f"/{action}", "POST", body, **headers))[0] == status
    assert (state.audited, list(state.open)) == ([], [7])
    async with asking(state, token=None) as client:
        status, said = await client.act(action, document | {"dry_run": False})
        assert status == 403, said
    assert [line["decision"] for line in state.audited] == ["refused"]
