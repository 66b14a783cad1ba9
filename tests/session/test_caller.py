from __future__ import annotations

from base64 import b64encode

import pytest

from proxy.errors import CommandError
from proxy.session import refusals
from proxy.session.caller import Caller, owner_name
from proxy.session.identity import NO_OWNER, Identity, user_digest
from tests.session.sessions import ALICE, BOB, caller


@pytest.mark.parametrize(
    ("user", "database", "digest"),
    [
        ("", "", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        ("simple", "admin", "MWJtOQY7uZVfHyhZkuoFkhBmLDg3oTKGA1B+Dp9UzjU="),
        ("émile", "admin", "K18VYuFGcjszu89JdioPSuvuCN7nTwu7tYHplmwute0="),
        ("bob", "$external", "PAUlX3zNMbW/P5mrreKbxjHnSWILuR+GqH9NgYAmH9g="),
        ("__system", "local", "u4nTF1+wmByGgmwndZCCo3FgRx9gUEtGEkFRhsYwq3A="),
    ],
)
def test_digests(user: str, database: str, digest: str) -> None:
    assert b64encode(user_digest(user, database)).decode() == digest


@pytest.mark.parametrize(
    ("who", "digest", "error"),
    [
        (caller("alice@app"), ALICE, None),
        (caller("alice@app", authorization=None), ALICE, None),
        (caller("alice@app", authorization=False), NO_OWNER, None),
        (caller(authorization=False), NO_OWNER, None),
        (caller(authorization=None), NO_OWNER, None),
        (caller(), None, refusals.NO_USERS),
        (caller("alice@app", "bob@app"), None, refusals.TOO_MANY_USERS),
        (caller("alice@app", "bob@app", authorization=False), NO_OWNER, None),
        (caller("a" * 9993 + "@admin"), user_digest("a" * 9993, "admin"), None),
        (caller("a" * 9994 + "@admin"), None, refusals.NAME_TOO_LONG),
        (caller("é" * 4997 + "@admin"), None, refusals.NAME_TOO_LONG),
        (caller("a" * 9994 + "@admin", authorization=False), NO_OWNER, None),
    ],
)
def test_own_digest(who: Caller, digest: bytes | None, error: CommandError | None) -> None:
    assert who.digest == digest
    if error is None:
        assert who.own_digest() == digest
    else:
        with pytest.raises(CommandError) as caught:
            who.own_digest()
        assert caught.value == error


@pytest.mark.parametrize(
    ("who", "uid", "actions", "expected"),
    [
        (caller("alice@app"), None, (), ALICE),
        (caller("alice@app"), ALICE, (), ALICE),
        (caller("alice@app"), BOB, (), refusals.FOREIGN_DIGEST),
        (caller("alice@app"), NO_OWNER, (), refusals.FOREIGN_DIGEST),
        (caller("alice@app", may=("impersonate",)), BOB, (), BOB),
        (caller("alice@app", may=("killAnySession",)), BOB, (), refusals.FOREIGN_DIGEST),
        (caller("alice@app", may=("killAnySession",)), BOB, ("killAnySession",), BOB),
        (caller(authorization=False), BOB, (), BOB),
        (caller(authorization=None), BOB, (), BOB),
        (caller(), None, (), refusals.NO_USERS),
        (caller(), BOB, (), refusals.NO_USERS),
        (caller("alice@app", "bob@app"), ALICE, (), refusals.TOO_MANY_USERS),
        (caller("a" * 9994 + "@admin"), ALICE, (), refusals.NAME_TOO_LONG),
    ],
)
def test_the_uid_that_an_lsid_stands_for(
    who: Caller, uid: bytes | None, actions: tuple[str, ...], expected: bytes | CommandError
) -> None:
    if isinstance(expected, bytes):
        assert who.session_uid(uid, *actions) == expected
    else:
        with pytest.raises(CommandError) as caught:
            who.session_uid(uid, *actions)
        assert caught.value == expected


def test_names_and_privileges() -> None:
    assert owner_name("", "") == ""
    assert caller("alice@app", authorization=False).name == "alice@app"
    assert caller("alice@app", authorization=False).may("killAnySession")
    assert not caller("alice@app").may("killAnySession")
    assert not caller("alice@app", authorization=None).may("killAnySession")
    assert caller().anonymous
    assert not caller(authorization=None).anonymous
    assert Caller.of(Identity(), True).users == frozenset()


def test_names_that_are_not_utf8_have_a_digest() -> None:
    assert len(user_digest("\udcff", "app")) == 32
