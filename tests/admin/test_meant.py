from __future__ import annotations

import json
from uuid import UUID

import pytest

from proxy.admin.meant import read_kill, resolve
from proxy.admin.query import QueryError
from proxy.listing import session_listing
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from tests.admin.endpoint import FakeState, asking

BOB = user_digest("bob", "admin")


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ([], "the body has to be an object"),
        (None, "the body has to be an object"),
        ({}, "name sessions or patterns"),
        ({"patterns": [], "sessions": []}, "name sessions or patterns"),
        ({"pattern": []}, "pattern: no such field"),
        ({"patterns": {}}, "patterns: has to be a list of at most 100"),
        ({"patterns": [{"owner": "a"}] * 101}, "patterns: has to be a list of at most 100"),
        ({"patterns": None}, "patterns: has to be a list"),
        ({"patterns": [{}]}, "patterns: {} would mean everybody"),
        ({"patterns": [None]}, "patterns: each has to be an object"),
        ({"patterns": ["alice"]}, "patterns: each has to be an object"),
        ({"patterns": [{"owner": None}]}, "patterns: owner has to be a text or a number"),
        ({"patterns": [{"owner": True}]}, "patterns: owner has to be"),
        ({"patterns": [{"owner": ["a"]}]}, "patterns: owner has to be"),
        ({"patterns": [{"ownr": "a"}]}, "ownr: no such filter"),
        ({"patterns": [{"limit": 5}]}, "limit: no such filter"),
        ({"patterns": [{"session": "1234567"}]}, "session: give an id, 8 or more of its first"),
        ({"sessions": "x"}, "sessions: has to be a list"),
        ({"sessions": [""]}, "sessions: each has to be a UUID"),
        ({"sessions": [None]}, "sessions: each has to be a UUID"),
        ({"sessions": [{}]}, "sessions: each has to be a UUID"),
        ({"sessions": [{"session": "0" * 32, "uid": "00"}]}, "sessions: each"),
        ({"sessions": [{"session": "0" * 32, "uid": "x" * 64}]}, "sessions: each"),
        ({"sessions": [{"session": "0" * 32, "uid": 7}]}, "sessions: each"),
        ({"sessions": [{"session": "0" * 32, "id": "0"}]}, "sessions: each"),
        ({"sessions": ["0" * 32], "dry_run": "no"}, "dry_run: has to be true or false"),
        ({"sessions": ["0" * 32], "dry_run": 0}, "dry_run: has to be true or false"),
    ],
)
def test_what_is_wrong_is_said_and_widens_nothing(document: object, problem: str) -> None:
    listing = session_listing(SessionStore())
    with pytest.raises(QueryError) as caught:
        read_kill(json.dumps(document).encode(), listing, 0.0)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(QueryError, match="the body is not JSON"):
        read_kill(body, session_listing(SessionStore()), 0.0)


async def test_sessions_are_named_by_id_and_owner() -> None:
    state = FakeState()
    state.add(1)
    state.add(1, "bob@admin")
    state.add(2)
    async with asking(state) as client:
        first, second, nobody = (str(UUID(int=n)) for n in (1, 2, 3))
        for sessions, owners, unknown in (
            ([first], ["alice@admin", "bob@admin"], []),
            ([{"session": first, "uid": BOB.hex()}], ["bob@admin"], []),
            ([first, first, second], ["alice@admin", "bob@admin", "alice@admin"], []),
            ([second.upper().replace("-", "")], ["alice@admin"], []),
            ([nobody, {"session": second, "uid": BOB.hex()}], [], [nobody, second]),
        ):
            _, seen = await client.kill({"sessions": sessions})
            assert [row["owner"] for row in seen["sessions"]] == owners
            assert (seen["matched"], seen["unknown"]) == (len(owners), unknown)


async def test_a_filter_that_is_but_an_id_says_if_nobody_has_it() -> None:
    state = FakeState()
    state.add(1)
    known, nobody = (str(UUID(int=n << 96 or 1)) for n in (0, 0xFFFFFFFF))
    async with asking(state) as client:
        for pattern, unknown in (
            ({"session": known}, []),
            ({"session": nobody}, [nobody]),
            ({"session": nobody[:8]}, [nobody[:8]]),
            # What is asked for here is more than an id, or less.
            ({"session": nobody, "owner": "*"}, []),
            ({"session": f"{nobody[:8]}*"}, []),
            ({"owner": "nobody@admin"}, []),
        ):
            _, seen = await client.kill({"patterns": [pattern]})
            assert (seen["unknown"], seen["matched"]) == (
                unknown,
                int(pattern == {"session": known}),
            )


async def test_what_is_named_and_matches_several_patterns_is_meant_once() -> None:
    state = FakeState()
    for number in (1, 2, 3):
        state.add(number)
    async with asking(state) as client:
        patterns = [{"owner": "alice@*"}, {"session": "*2"}]
        document = {"sessions": [str(UUID(int=2))], "patterns": patterns}
        _, seen = await client.kill(document)
        assert seen["matched"] == 3
        assert [row["session"][-1] for row in seen["sessions"]] == ["2", "1", "3"]


async def test_a_pattern_may_name_a_session_by_how_its_id_begins_if_no_other_does() -> None:
    state = FakeState()
    for number in (0x1A2B3C4D05 << 88, 0x1A2B3C4D06 << 88):
        state.add(number)
        state.add(number, "bob@admin")
    async with asking(state) as client:
        for named, matched in (
            ("1a2b3c4d05", 2),
            ("1A2B3C4D-06", 2),
            (f"{UUID(int=0x1A2B3C4D06 << 88)} - digest", 2),
            (UUID(int=0x1A2B3C4D06 << 88).hex, 2),
            ("1a2b3c4d*", 4),
            ("1a2b3c4d07", 0),
        ):
            status, seen = await client.kill({"patterns": [{"session": named}]})
            assert (status, seen["matched"]) == (200, matched), named
        one = {"session": "1a2b3c4d05", "owner": "bob@admin"}
        _, seen = await client.kill({"patterns": [one]})
        assert [row["owner"] for row in seen["sessions"]] == ["bob@admin"]
        status, problem = await client.kill({"patterns": [{"session": "1a2b3c4d"}]})
        assert status == 400
        assert "1a2b3c4d: several ids begin so: 1a2b3c4d-0500-" in str(problem)


async def test_a_session_is_killed_wherever_a_transaction_of_its_own_may_be_open() -> None:
    store = SessionStore()
    session = store.use(LogicalSessionId(bytes(16), BOB), 0.0, "bob@admin")
    assert session is not None
    for number, outcome in ((1, Outcome.OK), (2, Outcome.LOST), (3, Outcome.LOST)):
        info = OperationSessionInfo(session.key, number, False, True)
        store.transaction_step(session, Step.START, outcome, info, 0.0, f"{number}:1")
    body = json.dumps({"patterns": [{"owner": "bob@*"}]}).encode()
    targets, _ = await resolve(read_kill(body, session_listing(store), 0.0), store)
    assert [one.open_at for one in targets] == [{"1:1", "2:1", "3:1"}]
