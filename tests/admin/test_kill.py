from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import bson
import pytest
import trio
import trio.testing

from proxy.admin import Process
from proxy.admin.overview import By
from proxy.conversation.facts import UpstreamFacts
from proxy.observe.telemetry import Telemetry
from proxy.session.identity import NO_OWNER, user_digest
from proxy.session.info import OperationSessionInfo
from proxy.session.records import CursorId, InFlight, Session
from proxy.session.transactions import Outcome, State, Step
from tests.admin.endpoint import TOKEN, UPSTREAM, FakeAsker, FakeState, asking, uuid

ALICE, BOB = user_digest("alice", "admin"), user_digest("bob", "admin")
MONGOS = user_digest("__system", "local")
OTHER = "other:27017"


def open_transaction(state: FakeState, session: Session, upstream: str = UPSTREAM) -> None:
    info = OperationSessionInfo(session.key, 1, False, True)
    state.store.transaction_step(
        session, Step.START, Outcome.OK, info, trio.current_time(), upstream
    )
    assert session.state is State.IN_PROGRESS


def asked(asker: FakeAsker) -> list[dict[str, Any]]:
    return [bson.decode(one) for one in asker.asked]


def ids(command: dict[str, Any]) -> set[int]:
    return {int(UUID(bytes=one["id"])) for one in command["killSessions"]}


# ---------------------------------------------------------------------- previews


async def test_a_preview_says_what_would_be_hit_and_hits_nothing() -> None:
    state = FakeState()
    asker = FakeAsker()
    state.asking = {UPSTREAM: {ALICE: asker}}
    open_transaction(state, state.add(1, cursor=7))
    state.add(2, command="find")
    state.add(3, "bob@admin")
    state.add(4, application="other")
    async with asking(state) as client:
        status, seen = await client.kill(
            {"patterns": [{"application": "shop", "owner": "alice*"}, {"owner": "bob@admin"}]}
        )
    numbers = [seen[name] for name in ("matched", "operations", "cursors", "transactions")]
    assert (status, seen["dry_run"], numbers) == (200, True, [3, 1, 1, 1])
    assert seen["reachable"] == 2
    assert [row["session"][-1] for row in seen["sessions"]] == ["1", "2", "3"]
    assert asker.asked == []
    assert len(state.store) == 4
    assert state.store.open_transactions == 1
    assert state.audited == []


async def test_without_a_configured_token_previews_work_and_kills_are_off() -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker()}}
    state.add(1)
    async with asking(state, token=None) as client:
        pattern = {"patterns": [{"owner": "*"}]}
        assert (await client.kill(pattern))[0] == 200
        status, text = await client.kill(pattern | {"dry_run": False})
        assert (status, text) == (
            403,
            "killing is off: configure admin.token or admin.token_file\n",
        )
    assert state.asking[UPSTREAM][ALICE].asked == []
    assert [line["decision"] for line in state.audited] == ["refused"]


# ---------------------------------------------------------------------- kills


async def test_sessions_are_killed_on_their_owners_connections() -> None:
    state = FakeState()
    alice, bob = FakeAsker(), FakeAsker()
    state.asking = {UPSTREAM: {ALICE: alice, BOB: bob}}
    one = state.add(1, cursor=7)
    open_transaction(state, one)
    state.add(2)
    state.add(3, "bob@admin")
    state.add(4, "bob@admin", application="other")
    state.per_user = 9
    async with asking(state) as client:
        status, seen = await client.kill({"patterns": [{"application": "shop"}], "dry_run": False})
    assert status == 200
    assert seen == {
        "dry_run": False,
        "matched": 3,
        "unknown": [],
        "killed_before": 0,
        "places": 3,
        "freed": 3,
        "kept": 0,
        "freed_by": [
            {
                "owner": "alice@admin",
                "application": "shop",
                "freed": 2,
                "owner_live": 0,
                "owner_limit": 9,
                "application_live": 0,
                "application_limit": None,
            },
            {
                "owner": "bob@admin",
                "application": "shop",
                "freed": 1,
                "owner_live": 1,
                "owner_limit": 9,
                "application_live": 0,
                "application_limit": None,
            },
        ],
        "killed": 3,
        "unreachable": 0,
        "failed": 0,
        "errors": {},
        "unreachable_sessions": [],
        "failed_sessions": [],
    }
    (of_alice,), (of_bob,) = asked(alice), asked(bob)
    assert ids(of_alice) == {1, 2}
    assert of_alice["$db"] == "admin"
    assert "lsid" not in of_alice
    # As one's own: only the id, without the uid that takes a privilege.
    assert of_bob["killSessions"] == [{"id": bson.Binary(uuid(3), 4)}]
    assert (one.state, one.activity, state.store.open_cursors()) == (State.ABORTED, None, 0)
    endings = {n: state.store.ending(s) is not None for n in (1, 2, 3, 4)
               for s in state.store.with_id(uuid(n))}  # fmt: skip
    assert endings == {1: True, 2: True, 3: True, 4: False}


async def test_what_is_open_elsewhere_or_does_not_end_keeps_its_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker()}}
    state.add(1)
    state.add(2, command="find")
    async with asking(state) as client:
        _, seen = await client.kill({"patterns": [{"owner": "*"}], "dry_run": False})
    assert (seen["killed"], seen["places"], seen["freed"], seen["kept"]) == (2, 2, 1, 1)


async def test_a_second_kill_of_the_same_sessions_says_so() -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker()}}
    state.add(1)
    everything = {"patterns": [{"owner": "*"}]}
    async with asking(state) as client:
        await client.kill(everything | {"dry_run": False})
        state.add(2)
        _, seen = await client.kill(everything)
        assert (seen["matched"], seen["killed_before"]) == (2, 1)
        _, done = await client.kill(everything | {"dry_run": False})
        assert (done["killed"], done["killed_before"]) == (2, 1)


async def test_every_kill_is_audited_and_counted() -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker(), BOB: FakeAsker({"ok": 0.0, "code": 13})}}
    for number, user in ((1, "alice@admin"), (2, "alice@admin"), (3, "bob@admin")):
        state.add(number, user)
    state.add(4, "carol@admin")
    async with asking(state, token=lambda: [("olivia", TOKEN)]) as client:
        _, seen = await client.kill({"patterns": [{"owner": "*"}], "dry_run": False})
    assert sorted(state.counted) == [("done", 2), ("failed", 1)]
    lines = {(line["command"], line.get("owner")): line for line in state.audited}
    assert lines["killSessions", "alice@admin"]["decision"] == "done"
    assert lines["killSessions", "alice@admin"]["targets"] == 2
    assert lines["killSessions", "alice@admin"]["upstream"] == UPSTREAM
    assert lines["killSessions", "bob@admin"]["decision"] == "failed"
    assert "13" in lines["killSessions", "bob@admin"]["reason"]
    whole = lines["kill", None]
    assert (whole["client"], whole["decision"], whole["targets"]) == ("127.0.0.1", "done", 2)
    assert whole["reason"] == "1 unreachable, 1 failed, 2 places freed"
    assert whole["meant"] == {"patterns": [{"owner": "*"}]}
    assert {line["operator"] for line in state.audited} == {"olivia"}
    hit = lines["killSessions", "alice@admin"]["sessions"]
    assert sorted(hit) == [str(UUID(bytes=uuid(number))) for number in (1, 2)]
    assert (seen["killed"], seen["failed"], seen["unreachable"]) == (2, 1, 1)
    assert [row["owner"] for row in seen["unreachable_sessions"]] == ["carol@admin"]
    assert [row["owner"] for row in seen["failed_sessions"]] == ["bob@admin"]
    assert seen["errors"] == {f"{UPSTREAM}: upstream refused: 13": 1}


async def run(state: FakeState, pattern: dict[str, Any]) -> dict[str, Any]:
    """A kill without sockets, which an autojump clock would not wait for."""
    body = json.dumps({"patterns": [pattern], "dry_run": False}).encode()
    return await Process(state, Telemetry("1"), executes=True).act("kill", body, By("127.0.0.1"))


async def test_what_upstream_refuses_is_not_noted_as_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker({"ok": 0.0, "code": 13})}}
    session = state.add(1, cursor=7)
    seen = await run(state, {"owner": "*"})
    assert (seen["killed"], seen["failed"]) == (0, 1)
    assert state.store.open_cursors() == 1
    assert state.store.ending(session) is None


async def test_an_owner_without_a_connection_is_waited_for_briefly(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    state.add(1)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def come_later() -> None:
            await trio.sleep(0.5)
            state.asking = {UPSTREAM: {ALICE: FakeAsker()}}

        nursery.start_soon(come_later)
        assert (await run(state, {"owner": "*"}))["killed"] == 1
    assert 0.5 <= trio.current_time() - began < 1
    state.asking = {}
    state.add(2)
    began = trio.current_time()
    assert (await run(state, {"session": "*2"}))["unreachable"] == 1
    assert trio.current_time() - began == pytest.approx(1)


async def test_a_session_that_is_open_where_nobody_can_ask_counts_as_unreachable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    here = FakeAsker()
    state.asking = {OTHER: {ALICE: here}}
    state.add(1, cursor=7)
    state.add(2)
    seen = await run(state, {"owner": "*"})
    assert (seen["killed"], seen["unreachable"]) == (1, 1)
    assert [row["session"][-1] for row in seen["unreachable_sessions"]] == ["1"]
    assert ids(asked(here)[0]) == {1, 2}
    assert state.store.open_cursors() == 1


async def test_an_answer_that_never_comes_is_a_failure(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker(None)}}
    state.add(1)
    seen = await run(state, {"owner": "*"})
    assert seen["failed"] == 1
    assert seen["errors"] == {f"{UPSTREAM}: no answer from upstream": 1}


@pytest.mark.parametrize("busy", [True, False])
async def test_the_next_connection_is_asked_where_one_is_busy_or_silent(
    busy: bool, autojump_clock: trio.testing.MockClock
) -> None:
    state = FakeState()
    first, second = FakeAsker(None), FakeAsker()
    first.busy = busy
    state.asking = {UPSTREAM: {ALICE: first}}
    state.others = {(UPSTREAM, ALICE): [second]}
    state.add(1)
    seen = await run(state, {"owner": "*"})
    assert (seen["killed"], seen["failed"]) == (1, 0)
    assert (len(first.asked), len(second.asked)) == (0 if busy else 1, 1)


async def test_not_everybody_is_tried_where_upstream_itself_is_silent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    silent = [FakeAsker(None) for _ in range(20)]
    state.asking = {UPSTREAM: {ALICE: silent[0]}}
    state.others = {(UPSTREAM, ALICE): silent[1:]}
    state.add(1)
    seen = await run(state, {"owner": "*"})
    assert seen["errors"] == {f"{UPSTREAM}: no answer from upstream": 1}
    assert sum(len(one.asked) for one in silent) == 4


async def test_many_sessions_go_in_several_commands(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    asker = FakeAsker()
    state.asking = {UPSTREAM: {ALICE: asker}}
    for number in range(1, 2_502):
        state.add(number)
    seen = await run(state, {"owner": "*"})
    assert seen["killed"] == 2_501
    batches = [ids(command) for command in asked(asker)]
    assert sorted(map(len, batches)) == [501, 1_000, 1_000]
    assert set().union(*batches) == set(range(1, 2_502))


async def test_without_authorization_any_connection_will_do(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    state.known = UpstreamFacts(authorization=False)
    asker = FakeAsker()
    state.asking = {UPSTREAM: {NO_OWNER: asker}}
    state.add(1)
    state.add(2, "bob@admin")
    assert (await run(state, {"owner": "*"}))["killed"] == 2
    commands = asked(asker)
    assert len(commands) == 2
    uids = {bytes(one["uid"]) for command in commands for one in command["killSessions"]}
    assert uids == {ALICE, BOB}


async def test_where_upstream_has_no_session_commands_the_effect_is_brought_about(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    state.known = UpstreamFacts(authorization=True, native=False)
    asker = FakeAsker({"ok": 1.0}, {"ok": 0.0, "code": 251})
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = state.add(1, cursor=7)
    open_transaction(state, session)
    state.add(2, command="find")
    state.add(3)
    assert (await run(state, {"owner": "*"}))["killed"] == 3
    kill, abort = asked(asker)
    assert (kill["killCursors"], kill["cursors"], kill["$db"]) == ("orders", [7], "shop")
    assert abort["abortTransaction"] == 1
    assert abort["lsid"] == {"id": bson.Binary(uuid(1), 4)}
    assert state.ended == [InFlight(7, 2)]
    assert (session.state, state.store.open_cursors()) == (State.ABORTED, 0)


@pytest.mark.parametrize("native", [True, False])
async def test_sessions_of_those_who_are_not_there_are_killed_for_them(native: bool) -> None:
    state = FakeState()
    state.known = UpstreamFacts(authorization=True, native=native)
    alice, mongos, busy = FakeAsker(), FakeAsker(), FakeAsker()
    busy.busy = True
    state.asking = {UPSTREAM: {ALICE: alice, MONGOS: mongos}}
    state.others = {(UPSTREAM, MONGOS): [busy]}
    state.for_everybody = [busy, mongos]
    state.add(1)
    for number, owner in ((2, "bob@admin"), (3, "carol@admin")):
        open_transaction(state, state.add(number, owner))
    seen = await run(state, {"owner": "*"})
    assert (seen["killed"], seen["unreachable"], seen["failed"]) == (3, 0, 0)
    lsids = [
        lsid for one in asked(mongos) for lsid in (one["killSessions"] if native else [one["lsid"]])
    ]
    assert {bytes(one["uid"]) for one in lsids} == {BOB, user_digest("carol", "admin")}
    if native:
        assert [ids(one) for one in asked(alice)] == [{1}]


async def test_a_stand_in_that_gives_no_answer_is_reported(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    silent = FakeAsker(None)
    state.asking = {UPSTREAM: {MONGOS: silent}}
    state.for_everybody = [silent]
    state.add(1)
    seen = await run(state, {"owner": "*"})
    assert (seen["killed"], seen["failed"]) == (0, 1)
    assert len(silent.asked) == 1


async def test_a_connection_whose_client_came_first_is_tried_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Busy(FakeAsker):
        """Idle when looked for, and no more when it is its turn, the first two times."""

        looks = 0

        @property
        def speaks_for(self) -> bytes | None:
            self.looks += 1
            return ALICE if self.looks > 2 else None

        @speaks_for.setter
        def speaks_for(self, owner: bytes | None) -> None:
            pass

    state = FakeState()
    asker = Busy()
    state.asking = {UPSTREAM: {ALICE: asker}}
    state.add(1)
    assert (await run(state, {"owner": "*"}))["killed"] == 1
    assert len(asker.asked) == 1
    assert state.counted == [("done", 1)]


async def test_a_connection_that_is_never_idle_leaves_its_sessions_unreachable(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Busy(FakeAsker):
        @property
        def speaks_for(self) -> bytes | None:
            return None

        @speaks_for.setter
        def speaks_for(self, owner: bytes | None) -> None:
            pass

    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: Busy()}}
    state.add(1)
    seen = await run(state, {"owner": "*"})
    assert (seen["killed"], seen["unreachable"], state.counted) == (0, 1, [])


async def test_a_session_that_is_killed_in_two_places_counts_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    state = FakeState()
    here, there = FakeAsker(), FakeAsker()
    state.asking = {UPSTREAM: {ALICE: here}, OTHER: {ALICE: there}}
    session = state.add(1, cursor=7)
    state.store.cursor_opened(CursorId(OTHER, 7), session, "a.b", trio.current_time())
    assert (await run(state, {"owner": "*"}))["killed"] == 1
    assert (len(here.asked), len(there.asked)) == (1, 1)
    assert sorted(state.counted) == [("done", 0), ("done", 1)]
    assert state.store.open_cursors() == 0
