from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64

from proxy.session.asking import learn, questions
from proxy.session.identity import user_digest
from proxy.session.plans import Ask
from tests.session.sessions import ALICE, KILLER, caller, uuid

LISTER = caller("root@admin", may=("killAnySession", "listSessions"))
WITH_ROLES = Ask((b"",), ("users with roles",))
OWNERS = Ask((b"",), ("owners of an lsid without uid",))


@pytest.mark.parametrize(
    ("roles", "ids", "who", "commands"),
    [
        (False, 0, LISTER, []),
        (True, 0, KILLER, ["usersInfo"]),
        (False, 1, KILLER, []),
        (False, 1, LISTER, ["aggregate"]),
        (True, 1000, LISTER, ["usersInfo", "aggregate"]),
        (True, 1001, LISTER, ["usersInfo", "aggregate", "aggregate"]),
    ],
)
def test_only_what_helps_is_asked(roles: bool, ids: int, who: Any, commands: list[str]) -> None:
    asked = questions(roles, [uuid(number) for number in range(ids)], who)
    names = [] if asked is None else [next(iter(bson.decode(one))) for one in asked.commands]
    assert names == commands


def test_users_with_roles() -> None:
    users = [
        {"user": "a", "db": "d", "roles": [{"role": "r", "db": "d"}, {"role": "s", "db": "e"}]},
        {"user": "b", "db": "d", "roles": []},
    ]
    learnt = learn(WITH_ROLES, [bson.encode({"users": users, "ok": 1.0})])
    assert learnt.roles == {
        user_digest("a", "d"): {("r", "d"), ("s", "e")},
        user_digest("b", "d"): frozenset(),
    }
    assert learnt.gaps == []


def test_owners() -> None:
    batch = [{"_id": {"id": Binary(uuid(2), 4), "uid": uid}} for uid in (ALICE, b"x" * 32)]
    reply = {"cursor": {"firstBatch": batch, "id": Int64(0), "ns": "x"}, "ok": 1.0}
    learnt = learn(OWNERS, [bson.encode(reply)])
    assert learnt.owners == {uuid(2): {ALICE, b"x" * 32}}
    assert learnt.gaps == []


@pytest.mark.parametrize(
    ("ask", "reply", "gap"),
    [
        (WITH_ROLES, {"ok": 0.0, "errmsg": "not authorized"}, "users with roles: not authorized"),
        (WITH_ROLES, None, "users with roles: no reply"),
        (WITH_ROLES, {"ok": 1.0}, "users with roles: 'users'"),
        (WITH_ROLES, {"ok": 1.0, "users": [1]}, "users with roles: "),
        (
            OWNERS,
            {"ok": 1.0, "cursor": {"firstBatch": [], "id": Int64(5)}},
            "owners of an lsid without uid: more than 10000 sessions",
        ),
    ],
)
def test_what_was_not_told_is_a_gap(ask: Ask, reply: dict[str, Any] | None, gap: str) -> None:
    learnt = learn(ask, [None if reply is None else bson.encode(reply)])
    (found,) = learnt.gaps
    assert found.startswith(gap)


def test_a_reply_that_is_no_bson_is_a_gap() -> None:
    assert len(learn(WITH_ROLES, [b"junk"]).gaps) == 1
