"""Whom a client claims to be, and that upstream's no is recorded with that."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.conversation.logins import claimed
from proxy.wire.messages import read_request
from tests.build import command, reply
from tests.talk import Talk


def start(payload: Any, mechanism: str = "SCRAM-SHA-256", **more: Any) -> dict[str, Any]:
    return {"saslStart": 1, "mechanism": mechanism, "payload": payload, **more}


CLAIMS = [
    (start(b"n,,n=alice,r=abc", **{"$db": "app"}), "alice@app"),
    (start(b"n,,n=a=2Cb=3Dc,r=abc", **{"$db": "app"}), "a,b=c@app"),
    (start(b"\0alice\0secret", "PLAIN", **{"$db": "$external"}), "alice@$external"),
    ({"authenticate": 1, "user": "CN=a", "$db": "$external"}, "CN=a@$external"),
    (
        {"hello": 1, "speculativeAuthenticate": start(b"n,,n=bob,r=x", db="app"), "$db": "admin"},
        "bob@app",
    ),
    ({"hello": 1, "$db": "admin"}, ""),
    ({"hello": 1, "speculativeAuthenticate": 1, "$db": "admin"}, ""),
    (start(b"\0\0secret", "PLAIN", **{"$db": "a"}), ""),
    (start(b"\0alice", "PLAIN", **{"$db": "a"}), ""),
    (start(b"secret", "OTHER", **{"$db": "a"}), ""),
    (start("n,,n=alice,r=abc", **{"$db": "app"}), ""),
    (start(b"", **{"$db": "app"}), ""),
]


@pytest.mark.parametrize(("document", "name"), CLAIMS)
def test_who_is_claimed(document, name):
    assert claimed(read_request(command(document, 1))) == name


FAILED = reply({"ok": 0.0, "errmsg": "Authentication failed.", "code": 18}, 1)


def test_a_failed_login_is_recorded_with_who_it_claimed_to_be():
    talk = Talk()
    first = command(start(b"n,,n=alice,r=abc", **{"$db": "app"}), 1)
    answer = reply({"ok": 1.0, "done": False}, 1)
    talk.client(first).upstream_gets(first).upstream(answer).client_gets(answer)
    then = command({"saslContinue": 1, "payload": b"c", "$db": "app"}, 1)
    talk.client(then).upstream_gets(then).upstream(FAILED).client_gets(FAILED)
    told = talk.observer.only("login failed")
    assert told == [("saslContinue", "alice@app", "18: Authentication failed.")]


def test_a_logout_that_fails_is_no_login():
    talk = Talk()
    logout = command({"logout": 1, "$db": "app"}, 1)
    talk.client(logout).upstream_gets(logout).upstream(FAILED).client_gets(FAILED)
    assert talk.observer.only("login failed") == []
