"""Whom a server's session command hits: by the uid, else by the lsid, else everybody."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.caller import Caller
from proxy.session.identity import NO_OWNER, Identity, user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.passed_on import LONGEST, hit, is_help, named
from proxy.session.records import Selection
from proxy.wire.messages import read_request
from tests.build import command, element, raw_document

SYSTEM = user_digest("__system", "local")
BOB = user_digest("bob", "app")
SERVER = Caller.of(Identity((("__system", "local"),)), True)
ID = bytes(15) + b"\1"
UUID = Binary(ID, 4)
WHO = {
    "users": [{"user": "root", "db": "admin"}],
    "roles": [{"role": "root", "db": "admin"}],
}
NOBODY = {"users": [], "roles": []}
OF_BOB = {"id": UUID, "uid": Binary(BOB)}
CHILD = {**OF_BOB, "txnUUID": UUID}
RETRYABLE_CHILD = {**OF_BOB, "txnNumber": Int64(3), "txnUUID": UUID}
NOTHING = Selection()
EVERYBODY = Selection(everything=True)
BOBS = Selection(uids=frozenset((BOB,)))
OWN = Selection(uids=frozenset((SYSTEM,)))
ONE = Selection(keys=frozenset((LogicalSessionId(ID, BOB),)))


def by_pattern(*patterns: dict[str, Any] | None) -> dict[str, Any]:
    return {"killAllSessionsByPattern": list(patterns), "$db": "admin"}


def whom(document: dict[str, Any] | bytes, caller: Caller = SERVER) -> Selection:
    found = hit(read_request(command(document)), caller)
    return Selection(found.everything, found.uids, frozenset(found.keys))


@pytest.mark.parametrize(
    ("asked", "selection"),
    [
        # What a router makes of killAllSessions: [], with authorization on and off.
        (by_pattern(WHO), EVERYBODY),
        (by_pattern(NOBODY), EVERYBODY),
        # Of killAllSessions of one user, of killSessions of one id, of killSessions: [].
        (by_pattern({"uid": Binary(BOB), **WHO}), BOBS),
        (by_pattern({"lsid": OF_BOB, **WHO}), ONE),
        (by_pattern({"uid": Binary(BOB), **NOBODY}), BOBS),
        # Of patterns as a client gave them.
        (by_pattern(), EVERYBODY),
        (by_pattern({}), EVERYBODY),
        (by_pattern({"uid": Binary(BOB)}, {"users": []}), EVERYBODY),
        (by_pattern({"uid": Binary(BOB), "lsid": {"id": UUID, "uid": Binary(SYSTEM)}}), BOBS),
        # Nulls are as if they were not there.
        (by_pattern(None), EVERYBODY),
        (by_pattern({"uid": Binary(BOB)}, None), BOBS),
        (by_pattern({"uid": None, "lsid": None}), EVERYBODY),
        (by_pattern({"uid": None, "lsid": OF_BOB}), ONE),
        ({"killAllSessions": []}, EVERYBODY),
        ({"killAllSessions": [None]}, EVERYBODY),
        ({"killAllSessions": [{"user": "bob", "db": "app"}]}, BOBS),
        ({"killSessions": []}, OWN),
        ({"killSessions": [None]}, OWN),
        ({"killSessions": [OF_BOB]}, ONE),
        (
            {"killSessions": [{"id": UUID, "uid": None}]},
            Selection(keys=frozenset((LogicalSessionId(ID, SYSTEM),))),
        ),
        # Servers to 4.4 take a document for a list.
        ({"killSessions": {}}, OWN),
        ({"killAllSessions": {}}, EVERYBODY),
        ({"killSessions": {"0": OF_BOB}}, ONE),
        # Kills look for parents: a child is none of them.
        ({"killSessions": [CHILD]}, NOTHING),
        ({"killSessions": [RETRYABLE_CHILD, OF_BOB]}, ONE),
        (by_pattern({"lsid": CHILD}), NOTHING),
        (by_pattern({"lsid": RETRYABLE_CHILD}, {"lsid": OF_BOB}), ONE),
        # A list that cannot be read says nothing.
        ({"killSessions": 1}, NOTHING),
        ({"killSessions": [1]}, NOTHING),
        ({"killSessions": None}, NOTHING),
        ({"killAllSessions": [{"user": "bob", "db": "app", "x": "x" * LONGEST}]}, NOTHING),
        # The first of two counts. What else is in the command is nothing to it.
        (raw_document(element("killSessions", [OF_BOB]), element("killSessions", [])), ONE),
        (raw_document(element("killSessions", [OF_BOB]), b"\x09when\0" + b"\x7f" * 8), ONE),
    ],
)
def test_whom_a_kill_hits(asked: dict[str, Any] | bytes, selection: Selection) -> None:
    assert whom(asked) == selection


def test_an_unreadable_list_hits_nobody() -> None:
    inner = raw_document(b"\x030\0" + b"\x09\0\0\0\x7fx\0\0\0")
    assert whom(raw_document(b"\x04killSessions\0" + inner)) == NOTHING


def test_without_authorization_one_s_own_sessions_are_everybody_s() -> None:
    caller = Caller.of(Identity((("__system", "local"),)), False)
    assert whom({"killSessions": []}, caller) == EVERYBODY
    found = whom({"killSessions": [{"id": UUID}]}, caller)
    assert found == Selection(keys=frozenset((LogicalSessionId(ID, NO_OWNER),)))


def test_several_users_have_each_their_own() -> None:
    users = (("__system", "local"), ("bob", "app"))
    caller = Caller.of(Identity(users, (), frozenset({"internal"})), True)
    assert whom({"killSessions": []}, caller) == Selection(uids=frozenset((SYSTEM, BOB)))


def test_which_sessions_are_named() -> None:
    asked = {"endSessions": [{"id": UUID}, OF_BOB, CHILD, {"id": "x"}]}
    assert named(read_request(command(asked)), SERVER) == [
        LogicalSessionId(ID, SYSTEM),
        LogicalSessionId(ID, BOB),
        LogicalSessionId(ID, BOB),
    ]


def test_a_list_that_is_too_long_names_nobody() -> None:
    asked = {"endSessions": [{"id": UUID, "more": "x" * LONGEST}]}
    assert named(read_request(command(asked)), SERVER) == []


@pytest.mark.parametrize(
    ("value", "helps"), [(True, True), (1, True), ("", True), (False, False), (None, False)]
)
def test_what_may_be_help(value: object, helps: bool) -> None:
    request = read_request(command({"killSessions": [], "help": value}))
    assert is_help(request) is helps


@given(st.binary(max_size=60))
def test_garbage_is_no_error(tail: bytes) -> None:
    inner = (5 + len(tail)).to_bytes(4, "little") + tail + b"\0"
    request = read_request(command(raw_document(b"\x04killSessions\0" + inner)))
    hit(request, SERVER)
    named(request, SERVER)
