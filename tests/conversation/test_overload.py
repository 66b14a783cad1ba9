"""Upstream that has too much to do, and tokens that expire, while the proxy asks who is there."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.overload import ATTEMPTS, is_overload, pause
from proxy.wire.replies import read_reply
from tests.build import command, reply
from tests.talk import Talk, connection_status

LATER: dict[str, Any] = {
    "ok": 0.0,
    "errmsg": "Rate limiter 'ingressRequestRateLimiter' rate exceeded",
    "code": 462,
    "codeName": "IngressRequestRateLimitExceeded",
    "errorLabels": ["SystemOverloadedError", "RetryableError"],
}
ALICE = connection_status(("alice", "app"))
LOGIN = command({"saslContinue": 1, "conversationId": 1, "payload": b"", "$db": "app"}, 1)
LET_IN = reply({"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}, 1)
SECURED = UpstreamFacts(authorization=True, has_transactions=True)
KILL = command({"killSessions": [], "$db": "admin"}, 2)
KILL_ALL = command({"killAllSessions": [], "$db": "admin"}, 2)
DONE = reply({"ok": 1.0}, 2)


@pytest.mark.parametrize(
    ("document", "overload"),
    [
        (LATER, True),
        ({**LATER, "errorLabels": []}, True),
        ({**LATER, "code": 433}, True),
        ({**LATER, "code": 433, "errorLabels": ["RetryableError"]}, False),
        ({**LATER, "code": 433, "errorLabels": "SystemOverloadedError"}, False),
        ({**LATER, "ok": 1.0}, False),
        ({"ok": 0.0, "code": 13}, False),
    ],
)
def test_what_is_an_overload(document: dict[str, Any], overload: bool) -> None:
    assert is_overload(read_reply(reply(document, 1))) is overload


@pytest.mark.parametrize(
    ("more", "attempt", "seconds"),
    [
        ({}, 0, 0.1),
        ({}, 3, 0.8),
        ({}, 9, 10.0),
        ({"baseBackoffMS": 500}, 1, 1.0),
        ({"baseBackoffMS": 0}, 1, 0.2),
        ({"baseBackoffMS": -5}, 1, 0.2),
        ({"baseBackoffMS": 10**9}, 1, 0.2),
        ({"baseBackoffMS": "1"}, 1, 0.2),
    ],
)
def test_how_long_is_waited(more: dict[str, Any], attempt: int, seconds: float) -> None:
    refusal = read_reply(reply({**LATER, **more}, 1))
    assert pause(refusal, attempt, 1.0) == pytest.approx(seconds)
    assert pause(refusal, attempt, 0.5) == pytest.approx(seconds / 2)
    assert pause(refusal, attempt, 0.0) == 0.0


def logging_in(facts: UpstreamFacts = SECURED) -> Talk:
    talk = Talk(facts=facts).client(LOGIN).upstream_gets(LOGIN).upstream(LET_IN)
    return talk.upstream_is_asked()


def test_a_login_is_kept_waiting_and_goes_on() -> None:
    talk = logging_in()
    for _ in range(3):
        talk.upstream_says(LATER).quiet()
        [again] = talk.observer.waiting
        talk.observer.waiting.clear()
        again(5.0)
        talk.upstream_is_asked()
    talk.upstream_says(ALICE).client_gets(LET_IN).idle()
    assert talk.identity.name == "alice@app"


def test_it_is_not_asked_for_ever() -> None:
    talk = logging_in()
    for _ in range(ATTEMPTS - 1):
        talk.upstream_says(LATER)
        talk.observer.waiting.pop()(5.0)
        talk.upstream_is_asked()
    talk.upstream_says(LATER).closes("upstream identity")


def test_nothing_is_asked_of_a_connection_that_is_over() -> None:
    talk = logging_in().upstream_says(LATER)
    talk.conversation.upstream_broke("upstream framing", "over")
    talk.observer.waiting.pop()(5.0)
    talk.closes("upstream framing")


def logged_in(facts: UpstreamFacts = SECURED) -> Talk:
    return logging_in(facts).upstream_says(ALICE).client_gets(LET_IN)


def test_a_session_command_gets_the_refusal_as_it_is() -> None:
    talk = logged_in().client(KILL).upstream_is_asked()
    talk.upstream_says(LATER).client_is_told(KILL, LATER).idle()
    assert talk.observer.waiting == []
    assert ("failed", 462, "upstream") in talk.observer.seen


def test_an_expired_token_is_upstreams_to_name() -> None:
    talk = logged_in().client(KILL).upstream_is_asked()
    talk.upstream_says(connection_status()).upstream_gets(KILL)
    expired = reply({"ok": 0.0, "code": 391, "codeName": "ReauthenticationRequired"}, 2)
    talk.upstream(expired).client_gets(expired).idle()
    assert talk.identity.name == "alice@app"
    # The driver logs in again on the same connection, and asks again.
    talk.client(LOGIN).upstream_gets(LOGIN).upstream(LET_IN).upstream_is_asked()
    talk.upstream_says(ALICE).client_gets(LET_IN)
    talk.client(KILL).upstream_is_asked()


def test_what_upstream_does_for_an_expired_token_after_all_is_noticed() -> None:
    talk = logged_in().client(KILL).upstream_is_asked()
    talk.upstream_says(connection_status()).upstream_gets(KILL)
    talk.upstream(DONE).client_gets(DONE).upstream_is_asked()
    [(error, command, _)] = talk.observer.only("surprised")
    assert (error, command) == (13, "killSessions")


@pytest.mark.parametrize("authorization", [False, None])
def test_where_nobody_needs_to_log_in_nothing_expires(authorization: bool | None) -> None:
    """Somebody who was dropped: upstream would kill for nobody, too."""
    facts = UpstreamFacts(authorization=authorization, has_transactions=True)
    talk = logged_in(facts=facts).client(KILL_ALL).upstream_is_asked()
    talk.upstream_says(connection_status())
    assert KILL_ALL not in talk.conversation.to_upstream
    assert talk.identity.name == ""


def test_who_was_nobody_before_is_refused_here() -> None:
    authorized = UpstreamFacts(authorization=True)
    talk = Talk(facts=authorized).client(KILL).upstream_is_asked()
    talk.upstream_says(connection_status())
    assert talk.conversation.to_client
    assert not talk.conversation.to_upstream
