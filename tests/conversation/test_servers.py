"""Callers that are servers: what they pass on goes upstream as it came, and is somebody else's."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.conversation.facts import UpstreamFacts
from proxy.session.identity import Identity, user_digest
from proxy.session.ids import LogicalSessionId
from tests.build import command, reply
from tests.talk import Talk, connection_status

MODERN = UpstreamFacts(authorization=True, has_transactions=True, wire_version=21)
SYSTEM = connection_status(("__system", "local"), actions=("anyAction",))
ROUTER = connection_status(("router", "admin"), actions=("internal", "impersonate"))
PERSON = connection_status(("root", "admin"), actions=("anyAction",))
BOB = user_digest("bob", "app")
UUID = Binary(bytes(16), 4)
BOBS = LogicalSessionId(bytes(16), BOB)
WHO = {"users": [{"user": "root", "db": "admin"}], "roles": []}
LOGIN = command({"saslContinue": 1, "conversationId": 1, "payload": b"", "$db": "local"}, 1)
LET_IN = reply({"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}, 1)


def logged_in(who: dict[str, Any], **how: Any) -> Talk:
    talk = Talk(**{"facts": MODERN, **how}).client(LOGIN).upstream_gets(LOGIN).upstream(LET_IN)
    return talk.upstream_is_asked().upstream_says(who).client_gets(LET_IN)


def with_a_session(who: dict[str, Any], **how: Any) -> Talk:
    talk = logged_in(who, **how)
    find = command({"find": "c", "lsid": {"id": UUID, "uid": Binary(BOB)}, "$db": "app"}, 2)
    found = reply({"cursor": {"id": Int64(5), "firstBatch": [], "ns": "app.c"}, "ok": 1.0}, 2)
    return talk.client(find).upstream_gets(find).upstream(found).client_gets(found)


@pytest.mark.parametrize("who", [SYSTEM, ROUTER])
@pytest.mark.parametrize(
    "pattern",
    [
        WHO,
        {"users": [], "roles": []},
        {"uid": Binary(BOB), **WHO},
        {"lsid": {"id": UUID, "uid": Binary(BOB)}, **WHO},
        {},
    ],
)
def test_a_kill_that_a_router_passes_on_reaches_upstream_and_the_books(
    who: dict[str, Any], pattern: dict[str, Any]
) -> None:
    talk = with_a_session(who)
    store = talk.conversation.desk.store
    assert store.open_cursors() == 1
    kill = command({"killAllSessionsByPattern": [pattern], "$db": "admin"}, 3)
    talk.client(kill).upstream_is_asked().upstream_says(who).upstream_gets(kill)
    done = reply({"ok": 1.0}, 3)
    talk.upstream(done).client_gets(done).idle()
    assert store.open_cursors() == 0


def test_what_upstream_refuses_has_not_happened() -> None:
    talk = with_a_session(SYSTEM)
    kill = command({"killAllSessionsByPattern": [WHO], "$db": "admin"}, 3)
    talk.client(kill).upstream_is_asked().upstream_says(SYSTEM).upstream_gets(kill)
    refused = reply({"ok": 0.0, "code": 13}, 3)
    talk.upstream(refused).client_gets(refused).idle()
    assert talk.conversation.desk.store.open_cursors() == 1


@pytest.mark.parametrize("asking", [True, 1, "please"])
@pytest.mark.parametrize("name", ["killAllSessionsByPattern", "killSessions", "endSessions"])
def test_who_asks_for_help_has_done_nothing(name: str, asking: object) -> None:
    talk = with_a_session(SYSTEM)
    store = talk.conversation.desk.store
    named = [] if name == "killAllSessionsByPattern" else [{"id": UUID, "uid": Binary(BOB)}]
    asked = command({name: named, "help": asking, "$db": "admin"}, 3)
    talk.client(asked).upstream_is_asked().upstream_says(SYSTEM).upstream_gets(asked)
    helped = reply({"help": "text", "ok": 1.0}, 3)
    talk.upstream(helped).client_gets(helped).idle()
    session = store.get(BOBS)
    assert session is not None
    assert session.ended is None
    assert store.open_cursors() == 1
    assert not talk.observer.only("control")


def test_a_kill_that_nobody_answers_may_have_been_refused() -> None:
    talk = with_a_session(SYSTEM)
    kill = command({"killAllSessionsByPattern": [WHO], "$db": "admin"}, 3, flags=2)
    talk.client(kill).upstream_is_asked().upstream_says(SYSTEM).upstream_gets(kill).idle()
    assert talk.conversation.desk.store.open_cursors() == 1


@pytest.mark.parametrize("authorization", [True, False])
def test_without_authorization_a_server_s_own_sessions_are_everybody_s(authorization: bool) -> None:
    facts = UpstreamFacts(authorization=authorization, has_transactions=True, wire_version=21)
    talk = with_a_session(SYSTEM, facts=facts)
    kill = command({"killSessions": [], "$db": "admin"}, 3)
    talk.client(kill).upstream_is_asked().upstream_says(SYSTEM).upstream_gets(kill)
    done = reply({"ok": 1.0}, 3)
    talk.upstream(done).client_gets(done).idle()
    assert talk.conversation.desk.store.open_cursors() == int(authorization)


@pytest.mark.parametrize("name", ["startSession", "refreshSessions", "endSessions"])
def test_other_session_commands_pass_as_they_came(name: str) -> None:
    talk = with_a_session(SYSTEM)
    named = 1 if name == "startSession" else [{"id": UUID, "uid": Binary(BOB)}]
    asked = command({name: named, "$db": "admin"}, 3)
    talk.client(asked).upstream_is_asked().upstream_says(SYSTEM).upstream_gets(asked)
    done = reply({"ok": 1.0}, 3)
    talk.upstream(done).client_gets(done).idle()


def test_any_action_may_be_a_persons_and_changes_nothing() -> None:
    talk = logged_in(PERSON)
    kill = command({"killAllSessionsByPattern": [WHO], "$db": "admin"}, 3)
    talk.client(kill).upstream_is_asked().upstream_says(PERSON)
    # Narrowed to the sessions of root, where the server would kill everybody's.
    assert kill not in talk.conversation.to_upstream


def test_a_session_belongs_to_whom_its_uid_names() -> None:
    talk = with_a_session(SYSTEM)
    session = talk.conversation.desk.store.get(BOBS)
    assert session is not None
    # Nobody has seen bob yet, and it is not __system's all the same.
    assert session.owner.name == ""
    assert session.owner.uid == BOB


def test_an_owner_who_was_seen_has_a_name() -> None:
    talk = logged_in(connection_status(("bob", "app")))
    desk = talk.conversation.desk
    assert desk.facts(None).known.name_of(BOB) == "bob@app"
    assert desk.facts(None).known.name_of(bytes(32)) == ""


def test_no_rule_and_no_incident_applies_to_a_server() -> None:
    talk = with_a_session(SYSTEM)
    ids = {"insert": "c", "documents": [{}, {}], "stmtIds": [-1, -1], "txnNumber": Int64(1)}
    insert = command({**ids, "lsid": {"id": UUID, "uid": Binary(BOB)}, "$db": "app"}, 3)
    talk.client(insert).upstream_gets(insert)
    again = command({"find": "c", "lsid": {"id": UUID, "uid": Binary(BOB)}, "$db": "app"}, 4)
    talk.client(again).upstream_gets(again)
    assert not [seen for seen in talk.observer.seen if seen[0] in ("incident", "ruled")]


def test_what_a_server_refreshes_is_its_owners() -> None:
    talk = logged_in(SYSTEM)
    desk = talk.conversation.desk
    desk.facts(None).known.seen(Identity((("bob", "app"),)))
    others = LogicalSessionId(bytes(16), bytes(32))
    named = [{"id": UUID, "uid": Binary(key.uid)} for key in (BOBS, others)]
    asked = command({"refreshSessions": named, "$db": "admin"}, 3)
    talk.client(asked).upstream_is_asked().upstream_says(SYSTEM).upstream_gets(asked)
    assert desk.store.get(BOBS) is None
    done = reply({"ok": 1.0}, 3)
    talk.upstream(done).client_gets(done).idle()
    found = [session.owner.name for key in (BOBS, others) if (session := desk.store.get(key))]
    assert found == ["bob@app", ""]
