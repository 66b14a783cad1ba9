"""Session control as transcripts: what upstream is asked and sent, and what the client is told.

What each command may do is tested beside `proxy.session.commands`; here it is carried out.
"""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64

from policies.session_budget import SessionBudget
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.rule import Mode
from proxy.errors import CommandError
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.identity import user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.records import Ending, Session
from proxy.wire.compression import deflate, inflate
from proxy.wire.messages import read_request
from proxy.wire.opcodes import HEADER, MORE_TO_COME
from proxy.wire.replies import read_reply
from tests.build import body, command, element, op_command, op_msg, op_query, raw_document, reply
from tests.talk import UPSTREAM, Talk, Watching, connection_status, converse
from tests.upstreams import document

ALICE = user_digest("alice", "app")
SECURED = UpstreamFacts(authorization=True, has_transactions=True)
EMULATED = UpstreamFacts(authorization=True, native=False)
TIMES = {
    "operationTime": bson.Timestamp(7, 1),
    "$clusterTime": {"clusterTime": bson.Timestamp(7, 1)},
}
AS_ALICE = {**connection_status(("alice", "app")), **TIMES}
DONE = {"ok": 1.0, "operationTime": bson.Timestamp(8, 1)}

PING = command({"ping": 1, "$db": "admin"}, 9)
PONG = reply({"ok": 1.0}, 9)


def uuid(number: int) -> Binary:
    return Binary(bytes(15) + bytes([number]), 4)


def lsid(number: int, uid: bytes | None = None) -> dict[str, Any]:
    return {"id": uuid(number)} if uid is None else {"id": uuid(number), "uid": uid}


def control(name: str, argument: Any, request_id: int = 1, **how: Any) -> bytes:
    return command({name: argument, "$db": "admin"}, request_id, **how)


def answer(talk: Talk) -> dict[str, Any]:
    """The one thing that the client is told."""
    [frame] = talk.conversation.to_client
    talk.conversation.to_client.clear()
    return bson.decode(read_reply(frame).body_bytes())


def secured(**how: Any) -> Talk:
    how.setdefault("facts", SECURED)
    return Talk(**how)


def asked(request: bytes, status: dict[str, Any] = AS_ALICE, **how: Any) -> Talk:
    """A session command up to where it is known who asks."""
    return secured(**how).client(request).upstream_is_asked().upstream_says(status)


@pytest.mark.parametrize("name", SESSION_COMMANDS)
def test_first_it_is_asked_who_calls(name):
    talk = secured().client(control(name, [] if name != "startSession" else 1)).upstream_is_asked()
    talk.quiet()
    assert talk.conversation.blocked
    assert not talk.conversation.idle


def test_start_session_is_answered_with_upstreams_times():
    talk = asked(control("startSession", 1))
    made_up = {"id": Binary(bytes(6) + b"\x40" + b"\0" + b"\x80" + bytes(7), 4)}
    talk.upstream_is_sent({"refreshSessions": [made_up], "$db": "admin"}).upstream_says(DONE)
    made = answer(talk)
    assert list(made) == ["id", "timeoutMinutes", "ok", "operationTime"]
    assert made["id"] == made_up
    assert made["operationTime"] == DONE["operationTime"]
    talk.idle()
    session = talk.conversation.desk.store.get(LogicalSessionId(bytes(made["id"]["id"]), ALICE))
    assert session is not None
    assert session.owner.name == "alice@app"
    assert talk.observer.only("control") == [("startSession", "done", 1, "")]


@pytest.mark.parametrize(
    ("name", "argument", "sent"),
    [
        ("refreshSessions", [lsid(1)], [lsid(1, ALICE)]),
        ("endSessions", [lsid(1), lsid(2)], [lsid(1, ALICE), lsid(2, ALICE)]),
        ("killSessions", [lsid(1)], [lsid(1, ALICE)]),
        ("killSessions", [], []),
    ],
)
def test_the_narrowed_command_goes_upstream_and_its_success_to_the_client(name, argument, sent):
    talk = asked(control(name, argument))
    [frame] = talk.conversation.to_upstream
    talk.conversation.to_upstream.clear()
    went = bson.decode(frame[21:])
    assert went[name] == sent or went[name] == argument
    assert "lsid" not in went
    assert talk.conversation.blocked
    talk.quiet()
    talk.upstream(reply(DONE, HEADER.unpack_from(frame)[1]))
    assert answer(talk) == {"ok": 1.0, "operationTime": DONE["operationTime"]}
    talk.idle()


def test_what_upstream_refuses_the_client_gets_in_its_words():
    refusal = {"ok": 0.0, "errmsg": "its own words", "code": 13, "odd": [1]}
    talk = asked(control("endSessions", [lsid(1)]))
    [frame] = talk.conversation.to_upstream
    talk.conversation.to_upstream.clear()
    talk.upstream(reply(refusal, HEADER.unpack_from(frame)[1]))
    assert answer(talk) == refusal
    talk.idle()
    assert len(talk.conversation.desk.store) == 0
    assert talk.observer.only("control") == [("endSessions", "failed", 1, "13")]


def test_what_may_not_be_is_refused_with_the_times_around_it():
    talk = asked(control("killAllSessions", []))
    refusal = answer(talk)
    assert refusal["code"] == 13
    # As mongos has it, since its times came in this order.
    assert list(refusal) == ["ok", "errmsg", "code", "codeName", "operationTime", "$clusterTime"]
    talk.idle()
    [(name, decision, _, _)] = talk.observer.only("control")
    assert (name, decision) == ("killAllSessions", "refused")


@pytest.mark.parametrize(
    ("form", "kept"),
    [
        (lambda document: command({**document, "$db": "app"}, 1), {"$db": "app"}),
        (lambda document: op_query("app.$cmd", document), {}),
        (lambda document: op_query("app.$cmd", {"$query": document}), {}),
        (lambda document: op_command("app", "killSessions", document), {}),
        (lambda document: deflate(command({**document, "$db": "app"}, 1), 2), {"$db": "app"}),
    ],
)
def test_help_is_asked_for_anew(form, kept):
    sent = form({"killSessions": [], "x": 1, "help": 5.5, "stmtId": 3})
    made = form({"killSessions": 1, "help": True})
    talk = asked(sent).upstream_gets(made)
    assert bson.decode(read_request(made).body_bytes()) == {"killSessions": 1, "help": True, **kept}
    helped = reply({"help": "text", "ok": 1.0}, 1)
    talk.upstream(helped).client_gets(helped).idle()
    assert not talk.observer.only("control")


#: The second of two is not a part of the command, and servers have read it before they drop it.
_TWICE_AND_BROKEN = (
    element("$queryOptions", {"$readPreference": {"mode": "primary"}}),
    element("killAllSessions", []),
    b"\x03$queryOptions\0" + raw_document(b"\x02x\0\2\0\0\0a"),
)


def _with_metadata(*elements, also=()):
    document = {"killAllSessions": [], **dict(also)}
    return op_command("admin", "killAllSessions", document, raw_document(*elements))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (op_msg(b"\2token\0", body({"killAllSessions": [], "$db": "admin"})), 40432),
        (op_msg(body({"killAllSessions": [], "$db": "admin"}), b"\2\0", checksum=True), 40432),
        (op_query("admin.$cmd", {"killAllSessions": []}, count=0), 16979),
        (op_query("admin.$cmd", {"killAllSessions": []}, count=-2), 16979),
        (op_query("admin.$cmd", {"killAllSessions": []}, flags=1 << 6), 18527),
        (op_query("admin.$cmd", {"killAllSessions": [], "$db": "x"}), 40621),
        (op_query("admin.$cmd", raw_document(*_TWICE_AND_BROKEN)), 22),
        (_with_metadata(element("$a", 1), element("$a", 2)), 40413),
        (_with_metadata(element("$a", 1), also={"$a": 1}), 40413),
    ],
)
def test_what_no_server_takes_is_not_carried_out(sent, code):
    talk = secured().client(sent)
    [frame] = talk.conversation.to_client
    talk.conversation.to_client.clear()
    assert bson.decode(read_reply(frame).body_bytes())["code"] == code
    talk.idle()


def test_metadata_that_is_no_part_of_the_command_may_be_doubled():
    talk = asked(_with_metadata(element("$ssm", 1), element("$ssm", 2)))
    assert answer(talk)["code"] == 13
    talk.idle()


def _known(version):
    return UpstreamFacts(authorization=True, has_transactions=True, wire_version=version)


def test_what_upstream_is_known_not_to_take_by_op_query_is_not_carried_out():
    sent = op_query("admin.$cmd", {"killSessions": []})
    talk = secured(facts=_known(14)).client(sent)
    refusal = answer(talk)
    assert (refusal["code"], refusal["codeName"]) == (352, "UnsupportedOpQueryCommand")
    talk.idle()
    secured(facts=_known(13)).client(sent).upstream_is_asked()


@pytest.mark.parametrize(("version", "code"), [(6, 9), (7, 9), (9, 9), (13, None), (None, None)])
def test_a_preference_beside_a_command_that_has_one_is_one_too_many(version, code):
    command = {"killSessions": [], "$readPreference": {"mode": "nearest"}}
    for beside in ({"mode": "nearest"}, {"mode": "x"}, 5):
        sent = op_query("admin.$cmd", {"$query": command, "$readPreference": beside})
        talk = secured(facts=_known(version)).client(sent)
        if code is None:
            talk.upstream_is_asked()
        else:
            assert answer(talk)["code"] == code
            talk.idle()


def test_op_command_closes_where_upstream_is_known_not_to_take_it():
    sent = op_command("admin", "killSessions", {"killSessions": []})
    secured(facts=_known(8)).client(sent).closes("client message")
    secured(facts=_known(7)).client(sent).upstream_is_asked()


@pytest.mark.parametrize("flag", [1 << bit for bit in range(2, 16)])
def test_unknown_required_flags_close(flag):
    secured().client(control("killAllSessions", [], flags=flag)).closes("client message")


def test_unknown_optional_flags_do_not_matter():
    sent = control("killSessions", [], flags=0x7FFE0000)
    talk = asked(sent).upstream_is_sent({"killSessions": [], "$db": "admin"}).upstream_says(DONE)
    assert answer(talk)["ok"] == 1.0


@pytest.mark.parametrize("compressor", [None, 2])
def test_a_command_behind_query_options_is_decided_as_any_other(compressor):
    document = {"$queryOptions": {"$readPreference": {"mode": "primary"}}, "killAllSessions": []}
    sent = op_query("admin.$cmd", document)
    talk = asked(sent if compressor is None else deflate(sent, compressor))
    assert answer(talk)["code"] == 13
    talk.idle()
    [(name, decision, _, _)] = talk.observer.only("control")
    assert (name, decision) == ("killAllSessions", "refused")


def test_who_asks_for_help_uses_a_session_like_anybody():
    def helping(number):
        document = {"endSessions": [], "help": 1, "lsid": lsid(number), "$db": "admin"}
        return command(document, number)

    made = {"endSessions": 1, "help": True, "lsid": lsid(1), "$db": "admin"}
    budget = SessionBudget(SessionBudget.Settings(per_user=1))
    talk = asked(helping(1), rules=[(budget, Mode.ENFORCE)]).upstream_gets(command(made, 1))
    helped = reply({"help": "text", "ok": 1.0}, 1)
    talk.upstream(helped).client_gets(helped).idle()
    assert len(talk.conversation.desk.store) == 1
    talk.client(helping(2)).upstream_is_asked().upstream_says(AS_ALICE)
    assert answer(talk)["code"] == 261
    talk.idle()


def test_values_that_python_does_not_know_are_values_all_the_same():
    far = b"\x09when\0" + b"\xff" * 7 + b"\x7f"
    sent = raw_document(element("killAllSessions", []), far, element("$db", "admin"))
    assert answer(asked(command(sent)))["code"] == 13


@pytest.mark.parametrize("help_", [b"\x06help\0", b"\x13help\0" + bson.Decimal128("-0E9").bid])
def test_what_is_false_to_a_server_asks_for_no_help(help_):
    request = command(raw_document(element("killAllSessions", []), help_, element("$db", "admin")))
    talk = asked(request)
    assert answer(talk)["code"] == 13
    talk.idle()
    assert [entry[:2] for entry in talk.observer.only("control")] == [
        ("killAllSessions", "refused")
    ]


def test_mongods_times_stand_around_a_refusal():
    swapped = dict(reversed(TIMES.items()))
    refusal = answer(
        asked(control("killAllSessions", []), {**connection_status(("alice", "app")), **swapped})
    )
    assert list(refusal) == ["operationTime", "ok", "errmsg", "code", "codeName", "$clusterTime"]


def test_a_standalone_has_no_times():
    refusal = answer(asked(control("killAllSessions", []), connection_status(("alice", "app"))))
    assert list(refusal) == ["ok", "errmsg", "code", "codeName"]


@pytest.mark.parametrize("compressor", [None, 1, 2, 3])
def test_the_answer_has_the_form_of_the_question(compressor):
    request = control("killAllSessions", [], 77, checksum=True)
    talk = asked(request if compressor is None else deflate(request, compressor))
    [frame] = talk.conversation.to_client
    assert (HEADER.unpack_from(frame)[3] == 2012) == (compressor is not None)
    plain = frame if compressor is None else inflate(frame)
    assert HEADER.unpack_from(plain)[2] == 77
    assert plain[16] & 1


def test_op_query_is_no_side_door():
    talk = asked(op_query("admin.$cmd", {"killAllSessions": []}))
    [frame] = talk.conversation.to_client
    told = read_reply(frame)
    assert told.opcode == 1
    assert bson.decode(told.body_bytes())["code"] == 13


def test_without_a_reply_it_happens_all_the_same():
    talk = asked(control("endSessions", [lsid(1)], flags=MORE_TO_COME))
    [frame] = talk.conversation.to_upstream
    talk.conversation.to_upstream.clear()
    talk.upstream(reply(DONE, HEADER.unpack_from(frame)[1])).idle()
    assert talk.observer.only("control") == [("endSessions", "done", 1, "")]
    talk.client(PING).upstream_gets(PING).upstream(PONG).client_gets(PONG).idle()


def test_a_wrong_checksum_is_not_mended():
    request = bytearray(control("killSessions", [], checksum=True))
    request[-1] ^= 1
    secured().client(bytes(request)).closes("client message")


def test_earlier_requests_are_answered_first():
    talk = secured().client(PING).upstream_gets(PING).client(control("killAllSessions", []))
    talk.upstream_is_asked().upstream(PONG).client_gets(PONG).quiet()
    talk.upstream_says(AS_ALICE)
    assert answer(talk)["code"] == 13
    talk.idle()


def test_who_it_is_is_learnt_on_the_way():
    talk = asked(control("killSessions", []))
    assert talk.identity.name == "alice@app"
    assert talk.observer.only("identified") == [("alice@app",)]


def test_when_nobody_can_say_who_asks_the_connection_closes():
    talk = secured().client(control("killSessions", [])).upstream_is_asked()
    talk.upstream_says({"ok": 0.0, "code": 1}).closes("upstream identity")


def test_a_rule_may_refuse_what_would_be_allowed():
    class No:
        name = "no"

        def refuse(self, context: Any) -> CommandError | None:
            return CommandError(20, "IllegalOperation", "not today") if context.plan else None

    talk = asked(control("killSessions", [lsid(1)]), rules=[(No(), Mode.ENFORCE)])
    assert answer(talk)["errmsg"] == "not today"
    talk.idle()
    assert talk.observer.only("ruled") == [("no", "killSessions")]
    reported = asked(control("killSessions", [lsid(1)]), rules=[(No(), Mode.REPORT)])
    assert reported.conversation.to_upstream


# ------------------------------------------------------------------ effects


def busy(**how: Any) -> Talk:
    """Alice, with a session that has an operation in flight."""
    talk = secured(**how)
    start = command({"saslContinue": 1, "payload": b"", "$db": "app"}, 3)
    success = reply({"ok": 1.0, "done": True}, 3)
    talk.client(start).upstream_gets(start).upstream(success).upstream_is_asked()
    return talk.upstream_says(AS_ALICE).client_gets(success).idle()


def session_one(talk: Talk) -> Session:
    session = talk.conversation.desk.store.get(LogicalSessionId(bytes(uuid(1)), ALICE))
    assert session is not None
    return session


def use(talk: Talk, cursor: int = 0) -> None:
    """A find in session 1 that leaves a cursor open."""
    find = command({"find": "c", "lsid": lsid(1), "$db": "db"}, 5)
    value = {"cursor": {"firstBatch": [], "id": Int64(cursor), "ns": "db.c"}, "ok": 1.0}
    told = reply(value, 5)
    talk.client(find).upstream_gets(find).upstream(told).client_gets(told).idle()


def test_a_kill_that_succeeded_is_remembered():
    talk = busy()
    use(talk, 77)
    session = session_one(talk)
    assert session.activity is not None
    talk.client(control("killSessions", [lsid(1)]))
    [question, frame] = talk.conversation.to_upstream
    talk.conversation.to_upstream.clear()
    talk.upstream(reply(AS_ALICE, HEADER.unpack_from(question)[1]))
    assert session.activity is not None, "not before it has happened"
    talk.upstream(reply(DONE, HEADER.unpack_from(frame)[1]))
    assert answer(talk)["ok"] == 1.0
    assert not session.activity
    assert session.ended is Ending.KILLED


def test_where_upstream_knows_no_sessions_a_kill_is_emulated():
    talk = busy(facts=EMULATED)
    use(talk, 77)
    talk.client(control("killSessions", [lsid(1)])).upstream_is_asked().upstream_says(AS_ALICE)
    talk.upstream_is_sent({"killCursors": "c", "cursors": [Int64(77)], "$db": "db"})
    talk.upstream_says({"cursorsKilled": [Int64(77)], "ok": 1.0})
    talk.upstream_is_sent({"ping": 1, "$db": "admin"}).upstream_says(DONE)
    assert answer(talk)["ok"] == 1.0
    talk.idle()


def test_emulated_kills_of_others_go_over_their_own_connections():
    talk = busy(facts=EMULATED)
    use(talk, 77)
    killer = {
        **connection_status(("bob", "app"), actions=("killAnySession",)),
        **TIMES,
    }
    talk.observer.has_connections_of = {ALICE}
    talk.client(control("killAllSessions", [])).upstream_is_asked().upstream_says(killer)
    assert [told[:2] for told in talk.observer.only("ask as")] == [(ALICE, UPSTREAM)]
    talk.upstream_is_sent({"ping": 1, "$db": "admin"}).upstream_says(DONE)
    assert answer(talk)["ok"] == 1.0


# ------------------------------------------------------------------ interruption


def test_an_operation_that_is_killed_is_answered_as_interrupted_and_its_connection_closes():
    talk = busy(facts=EMULATED)
    find = command({"find": "c", "lsid": lsid(1), "$db": "db"}, 5)
    talk.client(find).upstream_gets(find)
    session = session_one(talk)
    assert session.activity is not None
    [operation] = session.activity.operations
    assert talk.conversation.interrupt(operation.request_id, 0.0, "why")
    assert not talk.conversation.interrupt(operation.request_id, 0.0, "why")
    told = answer(talk)
    assert (told["code"], told["codeName"]) == (11601, "Interrupted")
    talk.closes("interrupted")
    talk.conversation.closed(1.0)
    assert not session.activity
    assert talk.conversation.in_flight == 0


def test_only_the_operation_that_upstream_works_at_is_interrupted():
    talk = busy(facts=EMULATED)
    find = command({"find": "c", "lsid": lsid(1), "$db": "db"}, 5)
    talk.client(PING).upstream_gets(PING).client(find).upstream_gets(find)
    session = session_one(talk)
    assert session.activity is not None
    [operation] = session.activity.operations
    assert not talk.conversation.interrupt(operation.request_id, 0.0, "why")
    talk.quiet()


# ------------------------------------------------------------------ questions in between


def test_upstream_can_be_asked_between_the_clients_requests():
    talk = secured()
    assert talk.conversation.quiet
    told: list[Any] = []
    question = bson.encode({"ping": 1, "$db": "admin"})
    talk.conversation.ask_between([question], lambda _, r, now: told.append((r.ok(), now)), 0.0)
    assert talk.conversation.blocked
    assert not talk.conversation.quiet
    talk.upstream_is_sent({"ping": 1, "$db": "admin"}).at(2.0).upstream_says(DONE).idle()
    assert told == [(True, 2.0)]
    assert talk.conversation.quiet


def test_it_is_not_quiet_while_anything_is_under_way():
    talk = secured().client(PING).upstream_gets(PING)
    assert not talk.conversation.quiet
    ended = secured()
    ended.conversation.on_garbage("x")
    assert not ended.conversation.quiet


# ------------------------------------------------------------------ the Stable API

MODERN = UpstreamFacts(authorization=False, has_transactions=True, wire_version=21)


def test_what_is_made_for_a_command_carries_its_api_version() -> None:
    start = command({"startSession": 1, "apiVersion": "1", "$db": "admin"}, 1)
    talk = Talk(facts=MODERN).client(start).upstream_is_asked().upstream_says(connection_status())
    [frame] = talk.conversation.to_upstream
    sent = document(frame)
    assert (next(iter(sent)), sent["apiVersion"]) == ("refreshSessions", "1")


def test_where_a_version_is_demanded_everything_carries_one() -> None:
    demanding = UpstreamFacts(authorization=False, wire_version=21, needs_api_version=True)
    kill = command({"killSessions": [], "apiVersion": "1", "$db": "admin"}, 1)
    talk = Talk(facts=demanding).client(kill).upstream_is_asked(apiVersion="1")
    talk.upstream_says(connection_status())
    [frame] = talk.conversation.to_upstream
    assert document(frame)["apiVersion"] == "1"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"apiVersion": "1", "apiStrict": True}, 323),
        ({"apiVersion": "2"}, 322),
        ({"apiStrict": True}, 4886600),
    ],
)
def test_the_parameters_are_judged_before_anything_else(given: Any, code: int) -> None:
    start = command({"startSession": "of a wrong type", **given, "$db": "admin"}, 1)
    talk = Talk(facts=MODERN).client(start).upstream_is_asked().upstream_says(connection_status())
    [frame] = talk.conversation.to_client
    assert document(frame)["code"] == code
    assert talk.conversation.to_upstream == []


def test_servers_of_old_are_sent_no_version_that_they_would_refuse() -> None:
    start = command({"startSession": 1, "apiVersion": "1", "$db": "admin"}, 1)
    old = UpstreamFacts(authorization=False, wire_version=8)
    talk = Talk(facts=old).client(start).upstream_is_asked().upstream_says(connection_status())
    [frame] = talk.conversation.to_upstream
    assert "apiVersion" not in document(frame)


def test_a_version_that_is_carried_along_is_not_added_again() -> None:
    end = {"endSessions": [lsid(1)], "apiVersion": "1", "apiStrict": True, "$db": "admin"}
    frame = command(end, 1)
    talk = Talk(facts=MODERN).client(frame).upstream_is_asked().upstream_says(connection_status())
    [sent] = talk.conversation.to_upstream
    assert sent.count(b"apiVersion") == 1
    assert document(sent)["apiStrict"] is True


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"killSessions": [], "$db": "admin"}, 40621),
        ({"$query": {"killSessions": [], "$db": "admin"}}, 40621),
        ({"$query": {"killSessions": []}, "$maxTimeMS": 5}, 72),
    ],
)
def test_what_no_server_takes_beside_a_command_by_op_query(
    document: dict[str, object], code: int
) -> None:
    observer = Watching()
    conversation = converse(observer)
    conversation.on_request(op_query("admin.$cmd", document), 0.0)
    assert not conversation.to_upstream
    assert observer.only("failed") == [(code, "proxy")]
