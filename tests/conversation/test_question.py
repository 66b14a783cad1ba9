"""The question who calls, in front of a session command that goes upstream with it."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary

from policies.kill_guard import KillGuard
from policies.session_budget import SessionBudget
from proxy.conversation import question as question_module
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.rule import Mode
from proxy.errors import CommandError
from proxy.session import identity
from proxy.session.identity import CONNECTION_STATUS, user_digest
from proxy.session.ids import LogicalSessionId
from proxy.wire.messages import read_request
from proxy.wire.replies import read_reply
from tests.build import command, reply
from tests.talk import Talk, connection_status

ALICE = user_digest("alice", "app")
AS_ALICE = connection_status(("alice", "app"))
SECURED = UpstreamFacts(authorization=True, has_transactions=True)
DONE = {"ok": 1.0, "operationTime": bson.Timestamp(8, 1)}
EXPIRED = {"ok": 0.0, "code": 391, "codeName": "ReauthenticationRequired", "errmsg": "expired"}
LATER = {"ok": 0.0, "code": 462, "codeName": "IngressRequestRateLimitExceeded", "errmsg": "later"}


def lsid(number: int, **more: Any) -> dict[str, Any]:
    return {"id": Binary(bytes(15) + bytes([number]), 4), **more}


def key(number: int) -> LogicalSessionId:
    return LogicalSessionId(bytes(15) + bytes([number]), ALICE)


def control(name: str, argument: Any, **more: Any) -> bytes:
    return command({name: argument, **more, "$db": "admin"}, 1)


def logged_in(**how: Any) -> Talk:
    """Alice, of whom upstream has said who she is."""
    how.setdefault("facts", SECURED)
    talk = Talk(**how)
    start = command({"saslContinue": 1, "payload": b"", "$db": "app"}, 3)
    success = reply({"ok": 1.0, "done": True}, 3)
    talk.client(start).upstream_gets(start).upstream(success).upstream_is_asked()
    return talk.upstream_says(AS_ALICE).client_gets(success).idle()


def sent(talk: Talk) -> list[tuple[int, dict[str, Any]]]:
    """What went upstream, each with its number."""
    frames = talk.conversation.to_upstream.copy()
    talk.conversation.to_upstream.clear()
    requests = [read_request(frame) for frame in frames]
    return [(one.request_id, bson.decode(one.body_bytes())) for one in requests]


def told(talk: Talk) -> dict[str, Any]:
    """The one thing that the client is told."""
    [frame] = talk.conversation.to_client
    talk.conversation.to_client.clear()
    return bson.decode(read_reply(frame).body_bytes())


def both(talk: Talk, request: bytes) -> tuple[int, int, dict[str, Any]]:
    """The numbers of the question and of the command that go together, and the command."""
    talk.client(request)
    (question, asked), (number, went) = sent(talk)
    assert asked == CONNECTION_STATUS
    assert talk.conversation.blocked
    return question, number, went


def carried_out(talk: Talk, request: bytes) -> dict[str, Any]:
    question, number, _ = both(talk, request)
    talk.upstream(reply(AS_ALICE, question)).quiet()
    assert talk.conversation.blocked
    talk.upstream(reply(DONE, number))
    return told(talk)


OWN = [
    ("startSession", 1),
    ("refreshSessions", [lsid(1), lsid(2)]),
    ("endSessions", [lsid(1)]),
    ("killSessions", [lsid(1)]),
]


@pytest.mark.parametrize(("name", "argument"), OWN)
def test_where_no_privilege_decides_the_question_and_the_command_go_together(name, argument):
    talk = logged_in()
    done = carried_out(talk, control(name, argument))
    assert (done["ok"], done["operationTime"]) == (1.0, DONE["operationTime"])
    talk.idle()
    assert [entry[:2] for entry in talk.observer.only("control")] == [(name, "done")]


def test_both_answers_may_come_at_once():
    talk = logged_in()
    question, number, went = both(talk, control("refreshSessions", [lsid(1)]))
    assert went == {"refreshSessions": [lsid(1)], "$db": "admin"}
    assert key(1) not in talk.conversation.desk.store
    talk.upstream(reply(AS_ALICE, question) + reply(DONE, number))
    assert told(talk) == DONE
    assert key(1) in talk.conversation.desk.store
    talk.idle()


def test_what_upstream_refuses_the_client_gets_in_its_words():
    talk = logged_in()
    question, number, _ = both(talk, control("endSessions", [lsid(1)]))
    refusal = {"ok": 0.0, "code": 13, "errmsg": "its own words"}
    talk.upstream(reply(AS_ALICE, question), reply(refusal, number))
    assert told(talk) == refusal
    talk.idle()


def test_other_privileges_are_bound_for_the_next_command():
    talk = logged_in()
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
    more = connection_status(("alice", "app"), actions=("killAnySession",))
    talk.upstream(reply(more, question), reply(DONE, number))
    assert told(talk) == DONE
    assert talk.identity.cluster_actions == {"killAnySession"}


class Unconcerned:
    """A rule of one's own whose answer hangs on no privilege."""

    name = "unconcerned"
    judges_privileges = False

    def __init__(self, error: CommandError | None = None) -> None:
        self._error = error

    def refuse(self, context: Any) -> CommandError | None:
        return self._error if context.plan is not None else None


class Concerned:
    """One that does not say so."""

    name = "concerned"

    def refuse(self, context: Any) -> CommandError | None:
        return None


@pytest.mark.parametrize(
    ("name", "argument", "how"),
    [
        ("killSessions", [], {}),
        ("killAllSessions", [], {}),
        ("killAllSessionsByPattern", [{"lsid": lsid(1, uid=ALICE)}], {}),
        ("refreshSessions", [], {}),
        ("refreshSessions", [lsid(1, uid=ALICE)], {}),
        ("refreshSessions", [lsid(1, uid=bytes(32))], {}),
        ("refreshSessions", 5, {}),
        ("refreshSessions", [lsid(one) for one in range(100)], {}),
        ("killSessions", [lsid(1)], {"facts": UpstreamFacts(authorization=True, native=False)}),
        ("endSessions", [lsid(1)], {"facts": UpstreamFacts(authorization=None)}),
        ("endSessions", [lsid(1)], {"facts": UpstreamFacts(authorization=False)}),
        ("endSessions", [lsid(1)], {"rules": [(Concerned(), Mode.ENFORCE)]}),
        (
            "killSessions",
            [lsid(1)],
            {"rules": [(KillGuard(KillGuard.Settings(permission="root@admin")), Mode.REPORT)]},
        ),
        (
            "startSession",
            1,
            {"rules": [(SessionBudget(SessionBudget.Settings(reserved=1)), Mode.ENFORCE)]},
        ),
    ],
)
def test_where_the_answer_could_change_something_it_is_waited_for(name, argument, how):
    talk = logged_in(**how)
    talk.client(control(name, argument)).upstream_is_asked().quiet()
    assert talk.conversation.blocked


def test_the_first_question_on_a_connection_is_waited_for_where_nobody_logs_in():
    talk = Talk(facts=UpstreamFacts(authorization=False))
    talk.client(control("endSessions", [lsid(1)])).upstream_is_asked()
    talk.upstream_says(connection_status())
    talk.upstream_is_sent({"endSessions": [lsid(1)], "$db": "admin"}).upstream_says(DONE)
    assert told(talk) == DONE
    question, number, _ = both(talk, control("endSessions", [lsid(1)]))
    talk.upstream(reply(connection_status(), question), reply(DONE, number))
    assert told(talk) == DONE


def test_a_server_is_asked_for_first():
    talk = logged_in()
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
    server = connection_status(("__system", "local"), actions=("internal",))
    talk.upstream(reply(server, question), reply(DONE, number))
    assert told(talk) == DONE
    talk.client(control("refreshSessions", [lsid(1)])).upstream_is_asked().quiet()


def test_a_budget_without_reserve_waits_for_nothing():
    budget = SessionBudget(SessionBudget.Settings(per_user=1))
    talk = logged_in(rules=[(budget, Mode.ENFORCE), (Unconcerned(), Mode.ENFORCE)])
    assert carried_out(talk, control("startSession", 1))["ok"] == 1.0
    talk.client(control("refreshSessions", [lsid(2)])).upstream_is_asked()
    talk.upstream_says({**AS_ALICE, "operationTime": bson.Timestamp(9, 1)})
    refused = told(talk)
    assert (refused["code"], refused["operationTime"]) == (261, bson.Timestamp(9, 1))
    talk.idle()
    assert len(talk.observer.only("ruled")) == 1


def test_what_a_rule_refuses_is_refused_once_and_not_sent():
    no = CommandError(20, "IllegalOperation", "not today")
    talk = logged_in(rules=[(Unconcerned(no), Mode.ENFORCE)])
    talk.client(control("killSessions", [lsid(1)])).upstream_is_asked().upstream_says(AS_ALICE)
    assert told(talk)["errmsg"] == "not today"
    talk.idle()
    assert talk.observer.only("ruled") == [("unconcerned", "killSessions")]


# ------------------------------------------------------------------ no answer, or another one


def test_where_upstream_says_later_the_answer_to_the_command_counts():
    talk = logged_in()
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
    talk.upstream(reply(LATER, question)).quiet()
    talk.upstream(reply(DONE, number))
    assert told(talk) == DONE
    # Nobody has said it now.
    talk.client(control("refreshSessions", [lsid(1)])).upstream_is_asked().upstream_says(AS_ALICE)
    talk.upstream_is_sent({"refreshSessions": [lsid(1)], "$db": "admin"}).upstream_says(LATER)
    assert told(talk) == LATER
    both(talk, control("refreshSessions", [lsid(1)]))


def test_where_upstream_demands_a_version_the_next_question_carries_one():
    talk = logged_in()
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)], apiVersion="1"))
    demanded = {"ok": 0.0, "code": 498870, "errmsg": "required"}
    talk.upstream(reply(demanded, question), reply(DONE, number))
    assert told(talk) == DONE
    talk.client(control("refreshSessions", [lsid(1)])).upstream_is_asked()
    talk.upstream_says(demanded).upstream_is_asked(apiVersion="1").upstream_says(AS_ALICE)


def test_for_whom_has_expired_upstream_does_nothing_and_says_so():
    talk = logged_in()
    question, number, _ = both(talk, control("endSessions", [lsid(1)]))
    talk.upstream(reply(connection_status(), question), reply(EXPIRED, number))
    assert told(talk) == EXPIRED
    talk.idle()
    assert talk.identity.name == "alice@app"
    assert talk.observer.only("surprised") == []
    talk.client(control("endSessions", [lsid(1)])).upstream_is_asked().quiet()


def test_where_it_does_something_all_the_same_that_is_noticed():
    talk = logged_in()
    question, number, _ = both(talk, control("endSessions", [lsid(1)]))
    talk.upstream(reply(connection_status(), question), reply(DONE, number))
    assert told(talk) == DONE
    assert len(talk.observer.only("surprised")) == 1


def test_an_answer_that_says_nothing_of_that_kind_ends_the_connection():
    talk = logged_in()
    question, _, _ = both(talk, control("endSessions", [lsid(1)]))
    talk.upstream(reply({"ok": 1.0}, question)).closes("upstream identity")


def test_a_long_answer_is_read_in_steps_before_the_command_is_over(monkeypatch):
    monkeypatch.setattr(identity, "_AT_ONCE", 10)
    many = [f"action{number}" for number in range(200)]
    talk = logged_in()
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
    long = connection_status(("alice", "app"), actions=tuple(many))
    talk.upstream(reply(long, question) + reply(DONE, number))
    assert told(talk) == DONE
    assert talk.identity.cluster_actions == set(many)
    talk.idle()


def test_an_answer_that_is_known_is_not_read_again(monkeypatch):
    talk = logged_in()
    monkeypatch.setattr(question_module, "reading_connection_status", None)
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
    talk.upstream(reply({**AS_ALICE, "operationTime": bson.Timestamp(9, 9)}, question))
    talk.upstream(reply(DONE, number))
    assert told(talk) == DONE


def test_a_refusal_is_no_answer_whatever_else_is_in_it():
    talk = logged_in()
    question, _, _ = both(talk, control("refreshSessions", [lsid(1)]))
    talk.upstream(reply({**AS_ALICE, "ok": 0.0}, question)).closes("upstream identity")


def test_an_answer_in_the_same_words_is_not_even_looked_into(monkeypatch):
    talk = logged_in()
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
    with monkeypatch.context() as patch:
        patch.setattr(question_module, "_reading_along", None)
        talk.upstream(reply(AS_ALICE, question), reply(DONE, number))
    assert told(talk) == DONE
    more = connection_status(("alice", "app"), actions=("killAnySession",))
    for answer, actions in ((more, {"killAnySession"}), (AS_ALICE, set()), (AS_ALICE, set())):
        question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
        talk.upstream(reply(answer, question) + reply(DONE, number))
        assert told(talk) == DONE
        assert talk.identity.cluster_actions == actions
    talk.idle()


def test_somebody_else_who_logs_in_is_not_taken_for_whom_upstream_named_before():
    talk = logged_in()
    assert carried_out(talk, control("refreshSessions", [lsid(1)])) == DONE
    start = command({"saslContinue": 1, "payload": b"", "$db": "app"}, 3)
    talk.client(start).upstream_gets(start).upstream(reply({"ok": 1.0, "done": True}, 3))
    talk.upstream_is_asked().upstream_says(connection_status(("bob", "app")))
    talk.conversation.to_client.clear()
    assert talk.identity.name == "bob@app"
    # Upstream does not know of Bob any more, whoever it was that it named before.
    question, number, _ = both(talk, control("refreshSessions", [lsid(1)]))
    talk.upstream(reply(AS_ALICE, question))
    assert talk.identity.name == "alice@app"
    talk.upstream(reply(DONE, number))


def test_an_answer_in_the_same_words_that_answers_something_else_ends_the_connection():
    talk = logged_in()
    question, _, _ = both(talk, control("refreshSessions", [lsid(1)]))
    talk.upstream(reply(AS_ALICE, question + 1)).closes("upstream pairing")
