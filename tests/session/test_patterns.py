from __future__ import annotations

from typing import Any

import bson
import pytest

from proxy.errors import CommandError
from proxy.session import patterns
from proxy.session.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId
from proxy.session.known import KnownUsers
from proxy.session.patterns import Learnt, Pattern, id_of_any_owner, read_pattern, select
from proxy.session.records import Selection
from proxy.session.store import SessionStore
from proxy.wire.fields import walk
from tests.session.sessions import ALICE, BOB, KILLER, caller, lsid, uuid

PATH = "Cmd.patterns"


def read(value: Any) -> Pattern:
    data = bson.encode({"f": value})
    return read_pattern(data, walk(data, 0, len(data))[b"f"], f"{PATH}.0")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, Pattern()),
        ({"lsid": lsid(2)}, Pattern(lsid=(uuid(2), None))),
        ({"lsid": lsid(2, BOB), "uid": ALICE}, Pattern(lsid=(uuid(2), BOB), uid=ALICE)),
        ({"users": []}, Pattern(users=())),
        ({"users": {}}, Pattern(users=())),
        ({"users": [None]}, Pattern(users=())),
        ({"users": [{"user": "u", "db": "d"}]}, Pattern(users=(("u", "d"),))),
        ({"roles": [{"role": "r", "db": "d"}]}, Pattern(roles=(("r", "d"),))),
    ],
)
def test_grammar(value: Any, expected: Pattern) -> None:
    assert read(value) == expected


@pytest.mark.parametrize(
    ("value", "code", "errmsg"),
    [
        (1, 14, f"BSON field '{PATH}.0' is the wrong type 'int', expected type 'object'"),
        ({"x": 1}, 40415, f"BSON field '{PATH}.x' is an unknown field."),
        ({"lsid": {}}, 40414, f"BSON field '{PATH}.lsid.id' is missing but a required field"),
        ({"uid": bytes(31)}, 12, "Unsupported SHA256Block hash length: 31"),
        ({"users": 1}, 10065, "invalid parameter: expected an object (users)"),
        ({"roles": "x"}, 10065, "invalid parameter: expected an object (roles)"),
        (
            {"users": [1]},
            14,
            f"BSON field '{PATH}.users.0' is the wrong type 'int', expected type 'object'",
        ),
        (
            {"users": [{"user": "u"}]},
            40414,
            f"BSON field '{PATH}.users.db' is missing but a required field",
        ),
        (
            {"roles": [{"user": "u", "db": "d"}]},
            40415,
            f"BSON field '{PATH}.roles.user' is an unknown field.",
        ),
        (
            {"users": {"user": "u", "db": "d"}},
            40422,
            f"BSON array field '{PATH}.users' has an invalid value 'user' for an array field name.",
        ),
    ],
)
def test_malformed(value: Any, code: int, errmsg: str) -> None:
    with pytest.raises(CommandError) as caught:
        read(value)
    assert (caught.value.code, caught.value.errmsg) == (code, errmsg)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (Pattern(lsid=(uuid(2), None)), uuid(2)),
        (Pattern(lsid=(uuid(2), ALICE)), None),
        (Pattern(lsid=(uuid(2), None), uid=ALICE), None),
        (Pattern(lsid=(uuid(2), None), users=(), roles=()), uuid(2)),
        (Pattern(lsid=(uuid(2), None), users=(("u", "d"),)), None),
        (Pattern(uid=ALICE), None),
    ],
)
def test_ids_that_anybody_may_own(pattern: Pattern, found: bytes | None) -> None:
    assert id_of_any_owner(pattern) == found


def test_without_authorization_users_select_what_they_made() -> None:
    store = SessionStore()
    mine = LogicalSessionId(uuid(1), NO_OWNER)
    store.use(mine, 0.0, "alice@app")
    store.use(LogicalSessionId(uuid(2), NO_OWNER), 0.0, "bob@app")
    store.use(LogicalSessionId(uuid(3), NO_OWNER), 0.0)
    who = caller("root@admin", authorization=False)
    pattern = Pattern(users=(("alice", "app"),))
    found = select([pattern], who, store, KnownUsers(), Learnt())
    assert found == Selection(uids=frozenset((ALICE,)), keys=frozenset((mine,)))
    other = Pattern(users=(("alice", "app"),), lsid=(uuid(2), None))
    assert select([other], who, store, KnownUsers(), Learnt()).keys == {
        LogicalSessionId(uuid(2), ALICE)
    }
    with_roles = Pattern(users=(("alice", "app"),), roles=(("r", "d"),))
    assert not select([with_roles], who, store, KnownUsers(), Learnt())


def test_too_many_possible_owners_are_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownUsers()
    known.seen(caller("alice@app", "bob@app").identity)
    learnt = Learnt()
    pattern = Pattern(lsid=(uuid(2), None))
    found = select([pattern], KILLER, SessionStore(), known, learnt)
    assert {key.uid for key in found.keys} == {ALICE, BOB} | KILLER.users
    assert learnt.gaps == []
    monkeypatch.setattr(patterns, "_MAX_KEYS", 1)
    found = select([pattern, pattern], KILLER, SessionStore(), known, learnt)
    assert {key.uid for key in found.keys} == KILLER.users
    assert len(learnt.gaps) == 1
