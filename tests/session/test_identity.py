"""Who upstream says is authenticated, from the replies of a real server."""

from __future__ import annotations

import hashlib
from pathlib import Path

import bson
import pytest
from bson import json_util
from hypothesis import given
from hypothesis import strategies as st

from proxy.session import identity
from proxy.session.identity import (
    NO_OWNER,
    NOBODY,
    Identity,
    IdentityUnknownError,
    read_connection_status,
    reading_connection_status,
    user_digest,
)
from proxy.session.steps import in_one_go
from tests.talk import connection_status

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "transcripts"


@pytest.mark.parametrize(
    ("user", "database", "text"),
    [
        ("alice", "app", b"alice@app"),
        ("gr\u00fc\u00dfe", "db", "gr\u00fc\u00dfe@db".encode()),
        ("a@b", "c", b"a@b@c"),
        ("", "app", b"@app"),
        ("alice", "", b"alice@"),
        ("", "", b""),
    ],
)
def test_the_digest_is_over_user_at_db_and_of_nothing_for_nobody(user, database, text):
    assert user_digest(user, database) == hashlib.sha256(text).digest()
    assert (user_digest(user, database) == NO_OWNER) == (not text)


def test_nobody():
    identity = read_connection_status(bson.encode(connection_status()))
    assert identity == NOBODY
    assert identity.name == ""


def test_users_roles_and_what_they_may_do_to_the_cluster():
    status = connection_status(("alice", "app"), ("alice", "other"), actions=("killAnySession",))
    info = status["authInfo"]
    info["authenticatedUserRoles"] = [{"role": "readWrite", "db": "app"}]
    info["authenticatedUserPrivileges"] += [
        {"resource": {"db": "app", "collection": ""}, "actions": ["find"]},
        {"resource": {"anyResource": True}, "actions": ["anyAction"]},
        {"resource": {"cluster": False}, "actions": ["shutdown"]},
    ]
    identity = read_connection_status(bson.encode(status))
    assert identity == Identity(
        (("alice", "app"), ("alice", "other")),
        (("readWrite", "app"),),
        frozenset({"killAnySession", "anyAction"}),
    )
    assert identity.name == "alice@app,alice@other"


def test_a_reply_without_privileges_grants_none():
    status = connection_status(("a", "b"))
    del status["authInfo"]["authenticatedUserPrivileges"]
    assert read_connection_status(bson.encode(status)).cluster_actions == frozenset()


@pytest.mark.parametrize("ok", [1, 1.0, bson.Int64(1), True])
def test_ok_in_any_type(ok):
    assert read_connection_status(bson.encode({**connection_status(), "ok": ok})) == NOBODY


INFO = connection_status(("a", "b"))["authInfo"]


@pytest.mark.parametrize(
    "reply",
    [
        {"ok": 0.0, "errmsg": "no", "code": 13},
        {"authInfo": INFO},
        {"authInfo": INFO, "ok": "1"},
        {"ok": 1.0},
        {"ok": 1.0, "authInfo": None},
        {"ok": 1.0, "authInfo": "x"},
        {"ok": 1.0, "authInfo": {}},
        {"ok": 1.0, "authInfo": {**INFO, "authenticatedUsers": None}},
        {"ok": 1.0, "authInfo": {**INFO, "authenticatedUsers": [1]}},
        {"ok": 1.0, "authInfo": {**INFO, "authenticatedUsers": [{"user": "a"}]}},
        {"ok": 1.0, "authInfo": {**INFO, "authenticatedUserRoles": [{"role": "a"}]}},
        {"ok": 1.0, "authInfo": {**INFO, "authenticatedUserPrivileges": [{}]}},
        {"ok": 1.0, "authInfo": {**INFO, "authenticatedUserPrivileges": [{"resource": 1}]}},
        {
            "ok": 1.0,
            "authInfo": {**INFO, "authenticatedUserPrivileges": [{"resource": {"cluster": True}}]},
        },
    ],
)
def test_an_answer_that_does_not_say_it_is_none(reply):
    with pytest.raises(IdentityUnknownError):
        read_connection_status(bson.encode(reply))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_document_are_no_answer(data):
    with pytest.raises(IdentityUnknownError):
        read_connection_status(data)


@given(st.data())
def test_a_changed_byte_gives_an_identity_or_an_error(draw):
    data = bytearray(bson.encode(connection_status(("alice", "app"), actions=("listSessions",))))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        identity = read_connection_status(bytes(data))
    except IdentityUnknownError:
        return
    assert all(type(text) is str for pair in identity.users for text in pair)


RECORDED = {
    "mongos.alice": "alice@app",
    "rs.anonymous": "",
    "rsauth.alice": "alice@app",
    "rsauth.killer": "killer@admin",
    "rsauth.root": "root@admin",
    "rsauth.two-users": "alice@app,alice@other",
    "rsauth.unauthenticated": "",
    "standalone.anonymous": "",
}


@pytest.mark.parametrize("name", RECORDED)
def test_what_the_server_said(name):
    first = (TRANSCRIPTS / f"{name}.jsonl").read_text().splitlines()[1]
    identity = read_connection_status(bson.encode(json_util.loads(first)["reply"]))
    assert identity.name == RECORDED[name]
    may_kill = name in ("rsauth.killer", "rsauth.root")
    assert ("killAnySession" in identity.cluster_actions) == may_kill


def long_status(**more: int) -> dict[str, object]:
    """An answer with so many users, roles, privileges and actions on the cluster."""
    status = connection_status()
    status["authInfo"] = {
        "authenticatedUsers": [{"user": f"u{n}", "db": "d"} for n in range(more.get("users", 1))],
        "authenticatedUserRoles": [
            {"role": "readWrite", "db": f"tenant{n}"} for n in range(more.get("roles", 0))
        ],
        "authenticatedUserPrivileges": [
            *(
                {"resource": {"db": "d", "collection": f"c{n}"}, "actions": ["find", "insert"]}
                for n in range(more.get("privileges", 0))
            ),
            *(
                {"resource": {"cluster": True}, "actions": [f"action{n}"]}
                for n in range(more.get("actions", 1))
            ),
        ],
    }
    return status


def test_somebody_with_many_roles_and_privileges_is_read_in_steps():
    status = long_status(roles=4_000, privileges=20_000)
    steps = reading_connection_status(bson.encode(status))
    assert next(steps) is None
    found = in_one_go(steps)
    assert found.users == (("u0", "d"),)
    assert len(found.roles) == 4_000
    assert found.cluster_actions == {"action0"}


@pytest.mark.parametrize(
    "too_many",
    [{"users": 4_000}, {"roles": 8_000}, {"actions": 1_001, "privileges": 1_000}],
    ids=str,
)
def test_more_than_anybody_has_is_not_read(too_many):
    with pytest.raises(IdentityUnknownError, match="more than"):
        read_connection_status(bson.encode(long_status(**too_many)))


def test_one_entry_that_is_longer_than_any_is_not_read():
    status = long_status()
    status["authInfo"]["authenticatedUserPrivileges"].append(
        {"resource": {"cluster": True}, "actions": ["x" * 70_000]}
    )
    with pytest.raises(IdentityUnknownError):
        read_connection_status(bson.encode(status))


NAMED = st.fixed_dictionaries({"user": st.text(max_size=5), "db": st.text(max_size=5)})
ROLE = st.fixed_dictionaries({"role": st.text(max_size=5), "db": st.text(max_size=5)})
RESOURCE = st.sampled_from(
    [{"cluster": True}, {"cluster": False}, {"anyResource": True}, {"db": "d", "collection": ""}]
)
PRIVILEGE = st.fixed_dictionaries(
    {"resource": RESOURCE, "actions": st.lists(st.text(max_size=5), max_size=3)}
)
SOMETHING = st.one_of(st.none(), st.integers(-5, 5), st.text(max_size=3), st.just({}))


@given(
    users=st.one_of(st.lists(NAMED, max_size=3), SOMETHING),
    roles=st.one_of(st.lists(st.one_of(ROLE, SOMETHING), max_size=3), SOMETHING),
    privileges=st.one_of(st.lists(st.one_of(PRIVILEGE, SOMETHING), max_size=40), SOMETHING),
    ok=st.sampled_from([1, 1.0, True, 0, "1"]),
)
def test_long_answers_are_read_as_short_ones_are(users, roles, privileges, ok):
    info = {
        "authenticatedUsers": users,
        "authenticatedUserRoles": roles,
        "authenticatedUserPrivileges": privileges,
    }
    body = bson.encode({"authInfo": info, "ok": ok})

    def read(at_once: int) -> Identity | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(identity, "_AT_ONCE", at_once)
            try:
                return read_connection_status(body)
            except IdentityUnknownError:
                return None

    assert read(0) == read(65_536)


def test_answers_that_were_read_are_known_again_as_long_as_there_are_few():
    known = identity.Identities()
    alice = identity.Identity((("alice", "app"),))
    known.learn(b"alice", alice)
    assert known.get(b"alice") is alice
    assert known.get(b"alicf") is None
    known.learn(bytes(identity._AT_ONCE + 1), alice)
    known.learn(b"", alice)
    assert len(known._known) == 1
    for number in range(1000):
        known.learn(b"%d" % number, alice)
    assert len(known._known) <= identity._REMEMBERED
    assert known.get(b"999") is alice
