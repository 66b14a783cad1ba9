from __future__ import annotations

import pytest

from proxy.admin.naming import SessionName, session_name, sessions_named
from proxy.admin.query import QueryError
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.store import SessionStore

ALICE, BOB = user_digest("alice", "admin"), user_digest("bob", "admin")
ONE, TWO, FAR = (bytes.fromhex(f"1a2b3c4d{end}".ljust(32, "0")) for end in ("05", "06", "07"))
OTHER = bytes.fromhex("ff" * 16)


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("1a2b3c4d", "1a2b3c4d"),
        ("1A2B3C4D", "1a2b3c4d"),
        ("1a2b3c4d-05", "1a2b3c4d05"),
        ("1a2b3c4d-0500-0000-0000-000000000000", ONE.hex()),
        (ONE.hex(), ONE.hex()),
        ("{1a2b3c4d-0500-0000-0000-000000000000}", ONE.hex()),
    ],
)
def test_an_id_is_named_whole_or_by_its_beginning(text: str, digits: str) -> None:
    assert session_name(text) == SessionName(digits)


def test_the_digest_may_stand_behind_an_id_as_incidents_say_it() -> None:
    said = str(LogicalSessionId(ONE, ALICE))
    assert session_name(said) == SessionName(ONE.hex(), ALICE)
    for wrong in (f"{said} - ", said[:-4], f"{said[:-1]}!"):
        with pytest.raises(ValueError, match=r"digest|base64|padding"):
            session_name(wrong)


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        *[
            (text, None)
            for text in ("", "1a2b3c4", "1a2b3c4g", "*", ONE.hex() + "0", "\uff11a2b3c4d")
        ],
        *[(what, None) for what in (None, 7, [], {})],
        *[("1a2b3c4d", uid) for uid in ("", "00", "x" * 64, 7)],
    ],
)
def test_what_names_none_is_refused(text: object, uid: object) -> None:
    with pytest.raises(ValueError, match=r"id and digest|badly formed|hexadecimal|invalid literal"):
        session_name(text, uid)


def store(*keys: tuple[bytes, bytes]) -> SessionStore:
    made = SessionStore()
    for session_id, uid in keys:
        user = {ALICE: "alice@admin", BOB: "bob@admin"}[uid]
        made.use(LogicalSessionId(session_id, uid), 0.0, user)
    return made


async def found(kept: SessionStore, *names: SessionName) -> tuple[set[bytes], list[str]]:
    sessions, missing = await sessions_named(names, kept)
    assert len({one.key for one in sessions}) == len(sessions)
    return {one.id for one in sessions}, [str(one) for one in missing]


async def test_the_beginning_of_one_id_is_enough() -> None:
    kept = store((ONE, ALICE), (OTHER, ALICE))
    assert await found(kept, session_name("1a2b3c4d"), session_name("1a2b3c4e")) == (
        {ONE},
        ["1a2b3c4e"],
    )
    assert await found(kept, session_name("1a2b3c4d"), session_name(ONE.hex())) == ({ONE}, [])


async def test_of_several_the_text_lists_them() -> None:
    kept = store((ONE, ALICE), (TWO, BOB), (OTHER, ALICE))
    with pytest.raises(QueryError) as caught:
        await found(kept, session_name("1a2b3c4d"))
    said = str(caught.value)
    assert said.startswith("1a2b3c4d: several ids begin so: ")
    for one in (
        "1a2b3c4d-0500-0000-0000-000000000000 of alice@admin",
        "1a2b3c4d-0600-0000-0000-000000000000 of bob@admin",
    ):
        assert one in said
    assert await found(kept, session_name("1a2b3c4d06")) == ({TWO}, [])
    assert await found(kept, session_name("1a2b3c4d", ALICE.hex())) == ({ONE}, [])


async def test_one_id_of_two_owners_is_one_id() -> None:
    kept = store((ONE, ALICE), (ONE, BOB))
    sessions, missing = await sessions_named([session_name("1a2b3c4d")], kept)
    assert ({one.owner.uid for one in sessions}, missing) == ({ALICE, BOB}, [])


async def test_very_many_are_listed_in_part() -> None:
    kept = store(*((bytes.fromhex(f"1a2b3c4d{n:024x}"), ALICE) for n in range(12)))
    with pytest.raises(QueryError, match=r"of alice@admin, 2 more; give more of it"):
        await found(kept, session_name("1a2b3c4d"))
