"""Whom a server's session command hits: by the uid, else by the lsid, else everybody."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.passed_on import LONGEST, hit, named
from proxy.session.records import Selection

SYSTEM = user_digest("__system", "local")
BOB = user_digest("bob", "app")
ID = bytes(15) + b"\1"
UUID = Binary(ID, 4)
WHO = {
    "users": [{"user": "root", "db": "admin"}],
    "roles": [{"role": "root", "db": "admin"}],
}
NOBODY = {"users": [], "roles": []}
EVERYBODY = Selection(everything=True)
BOBS = Selection(uids=frozenset((BOB,)))
ONE = Selection(keys=frozenset((LogicalSessionId(ID, BOB),)))


def by_pattern(*patterns: dict[str, Any]) -> bytes:
    return bson.encode({"killAllSessionsByPattern": list(patterns), "$db": "admin"})


@pytest.mark.parametrize(
    ("command", "selection"),
    [
        # What a router makes of killAllSessions: [], with authorization on and off.
        (by_pattern(WHO), EVERYBODY),
        (by_pattern(NOBODY), EVERYBODY),
        # Of killAllSessions of one user, of killSessions of one id, of killSessions: [].
        (by_pattern({"uid": Binary(BOB), **WHO}), BOBS),
        (by_pattern({"lsid": {"id": UUID, "uid": Binary(BOB)}, **WHO}), ONE),
        (by_pattern({"uid": Binary(BOB), **NOBODY}), BOBS),
        # Of patterns as a client gave them.
        (by_pattern(), EVERYBODY),
        (by_pattern({}), EVERYBODY),
        (by_pattern({"uid": Binary(BOB)}, {"users": []}), EVERYBODY),
        (bson.encode({"killAllSessions": []}), EVERYBODY),
        (bson.encode({"killAllSessions": [{"user": "bob", "db": "app"}]}), BOBS),
        (bson.encode({"killSessions": []}), Selection(uids=frozenset((SYSTEM,)))),
        (bson.encode({"killSessions": [{"id": UUID, "uid": Binary(BOB)}]}), ONE),
        (b"\5\0\0\0\0", Selection(uids=frozenset((SYSTEM,)))),
    ],
)
def test_whom_a_kill_hits(command: bytes, selection: Selection) -> None:
    found = hit(command, SYSTEM)
    assert (found.everything, found.uids, set(found.keys)) == (
        selection.everything,
        selection.uids,
        set(selection.keys),
    )


def test_which_sessions_are_named() -> None:
    command = {"endSessions": [{"id": UUID}, {"id": UUID, "uid": Binary(BOB)}, 1, {"id": "x"}]}
    assert named(bson.encode(command), SYSTEM) == [
        LogicalSessionId(ID, SYSTEM),
        LogicalSessionId(ID, BOB),
    ]


def test_a_command_that_is_too_long_says_nothing() -> None:
    command = bson.encode({"endSessions": [{"id": UUID}], "more": "x" * LONGEST})
    assert named(command, SYSTEM) == []


@given(st.binary(max_size=60))
def test_garbage_is_no_error(tail: bytes) -> None:
    document = (4 + len(tail)).to_bytes(4, "little") + tail
    hit(document, SYSTEM)
    named(document, SYSTEM)
