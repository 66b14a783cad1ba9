"""What upstream must refuse: its words go out, and its success makes the proxy ask who calls."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64

from policies.session_budget import SessionBudget
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.rule import Mode
from proxy.session.identity import Identity, user_digest
from proxy.session.ids import LogicalSessionId
from proxy.wire.compression import deflate
from proxy.wire.opcodes import EXHAUST_ALLOWED, MORE_TO_COME
from tests.build import command, frame, op_insert, op_query, op_reply, reply
from tests.talk import Talk, connection_status

SECURED = UpstreamFacts(authorization=True, has_transactions=True)
ALICE = Identity((("alice", "app"),))
BOB = connection_status(("bob", "app"))
PING = command({"ping": 1, "$db": "admin"}, 9)
PONG = reply({"ok": 1.0}, 9)


def find(request_id: int = 1, flags: int = 0, **fields: Any) -> bytes:
    fields.setdefault("lsid", {"id": Binary(bytes(16), 4)})
    return command({"find": "c", **fields, "$db": "t"}, request_id, flags=flags)


NEGATIVE = {"txnNumber": Int64(-1)}
OK = {"ok": 1.0}
NO = {"ok": 0.0, "code": 72}


def as_alice(**how: Any) -> Talk:
    talk = Talk(facts=SECURED, **how)
    talk.conversation.desk.identified(ALICE)
    return talk


@pytest.mark.parametrize(
    ("sent", "code", "name"),
    [
        (find(**NEGATIVE), 72, "find"),
        (deflate(find(**NEGATIVE), 2), 72, "find"),
        (find(lsid=5), 14, "find"),
        (find(lsid={"id": Binary(bytes(16), 4), "txnUUID": 5}), 40415, "find"),
        (frame(2013, b"\0\0\0\0\0garbage"), 22, ""),
    ],
)
def test_a_success_makes_the_proxy_ask_who_calls(sent: bytes, code: int, name: str) -> None:
    talk = as_alice().client(sent).upstream_gets(sent).quiet()
    assert talk.conversation.blocked
    talk.upstream(reply(OK, 1)).client_gets(reply(OK, 1))
    assert talk.observer.only("surprised") == [(code, name, True)]
    talk.upstream_is_asked().upstream_says(BOB).idle()
    assert talk.identity.name == "bob@app"
    # Each time, but it is said once.
    talk.client(sent).upstream_gets(sent).upstream(reply(OK, 1)).client_gets(reply(OK, 1))
    talk.upstream_is_asked().upstream_says(BOB).idle()
    assert talk.observer.only("surprised")[1:] == [(code, name, False)]
    talk.client(PING).upstream_gets(PING).upstream(PONG).client_gets(PONG).idle()


def test_a_refusal_is_passed_on() -> None:
    refused = reply(NO, 1)
    talk = as_alice().client(find(**NEGATIVE)).upstream_gets(find(**NEGATIVE))
    talk.upstream(refused).client_gets(refused).idle()
    assert not talk.observer.only("surprised")
    [(name, _, ok)] = talk.observer.only("replied")
    assert (name, ok) == ("find", False)


def test_an_answer_that_does_not_say_who_calls_closes() -> None:
    talk = as_alice().client(find(**NEGATIVE)).upstream_gets(find(**NEGATIVE))
    talk.upstream(reply(OK, 1)).client_gets(reply(OK, 1))
    talk.upstream_is_asked().upstream_says({"ok": 0.0, "code": 13}).closes("upstream identity")


def test_an_exhaust_stream_goes_to_its_end_first() -> None:
    sent = find(flags=EXHAUST_ALLOWED, **NEGATIVE)
    first = reply(OK, 1, 1000, flags=MORE_TO_COME)
    second, last = reply(OK, 1000, 1001, flags=MORE_TO_COME), reply(NO, 1001, 1002)
    talk = as_alice().client(sent).upstream_gets(sent)
    talk.upstream(first).client_gets(first).quiet()
    talk.upstream(second).client_gets(second).quiet()
    assert talk.conversation.blocked
    talk.upstream(last).client_gets(last).upstream_is_asked().upstream_says(BOB).idle()
    assert talk.observer.only("surprised") == [(72, "find", True)]


def test_what_has_no_reply_blocks_nothing() -> None:
    for sent in (find(flags=MORE_TO_COME, **NEGATIVE), op_insert("t.c", {})):
        as_alice().client(sent).upstream_gets(sent).idle()


def test_legacy_messages_are_not_doubted() -> None:
    sent, answer = op_query("t.c", {"a": 1}), op_reply({"ok": 1.0}, response_to=1)
    talk = as_alice().client(sent).upstream_gets(sent).upstream(answer).client_gets(answer).idle()
    assert not talk.observer.only("surprised")


@pytest.mark.parametrize(
    "identity", [Identity((("__system", "local"),)), Identity((), (), frozenset({"internal"}))]
)
def test_servers_may_use_fields_of_their_own(identity: Identity) -> None:
    child = {"id": Binary(bytes(16), 4), "uid": bytes(32), "txnUUID": Binary(bytes(16), 4)}
    sent, done = find(lsid=child), reply(OK, 1)
    talk = Talk(facts=UpstreamFacts(authorization=False))
    talk.conversation.desk.identified(identity)
    talk.client(sent).upstream_gets(sent).upstream(done).client_gets(done).idle()
    assert not talk.observer.only("surprised")
    # A child's use is its parent's.
    assert talk.conversation.desk.store.get(LogicalSessionId(bytes(16), bytes(32))) is not None


# ------------------------------------------------------------------ sessions of such requests


@pytest.mark.parametrize(
    ("fields", "answer", "known"),
    [
        # Noted before it was refused.
        (NEGATIVE, NO, True),
        ({"autocommit": False}, NO, True),
        (NEGATIVE, {"ok": 0.0, "code": 261}, False),
        # The fields could not be read.
        ({"startTransaction": 5}, {"ok": 0.0, "code": 14}, False),
        # They could: startTransaction is nothing to 3.6.
        ({"startTransaction": 5}, {"ok": 0.0, "code": 2}, True),
        ({"startTransaction": 5}, OK, True),
        ({"lsid": {"id": Binary(bytes(16), 4), "x": 1}}, {"ok": 0.0, "code": 40415}, False),
        ({"lsid": {"id": Binary(bytes(16), 4), "x": 1}}, OK, True),
    ],
)
def test_a_session_is_known_where_upstream_has_noted_it(
    fields: dict[str, Any], answer: dict[str, Any], known: bool
) -> None:
    sent = find(**fields)
    talk = as_alice().client(sent).upstream_gets(sent)
    talk.upstream(reply(answer, 1)).client_gets(reply(answer, 1))
    if answer == OK:
        talk.upstream_is_asked().upstream_says(BOB)
    talk.idle()
    session = talk.conversation.desk.store.get(
        LogicalSessionId(bytes(16), user_digest("alice", "app"))
    )
    assert (session is not None) is known
    assert session is None or session.txn_number == -1


def test_rules_hold_for_sessions_of_malformed_requests() -> None:
    budget = SessionBudget(SessionBudget.Settings(per_user=1))
    talk = as_alice(rules=[(budget, Mode.ENFORCE)])
    talk.client(find(**NEGATIVE)).upstream_gets(find(**NEGATIVE))
    talk.upstream(reply(NO, 1)).client_gets(reply(NO, 1)).idle()
    other = find(2, lsid={"id": Binary(bytes([1]) * 16, 4)}, **NEGATIVE)
    talk.client(other)
    assert refused(talk)["code"] == 261
    talk.idle()


@pytest.mark.parametrize("null", [None, "undefined"])
def test_the_session_that_everybody_would_share_is_refused(null: str | None) -> None:
    """Servers up to 4.0 take an id of null for the all-zero UUID."""
    sent = find(lsid={"id": None})
    if null is not None:
        sent = sent.replace(b"\x0aid\0", b"\x06id\0")
    talk = as_alice().client(sent)
    assert refused(talk)["code"] == 40414
    talk.idle()


def refused(talk: Talk) -> dict[str, Any]:
    [made] = talk.conversation.to_client
    talk.conversation.to_client.clear()
    return bson.decode(made[21:])
