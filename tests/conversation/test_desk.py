"""Where a connection meets the sessions: who calls, and what may pass."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from bson import Binary, Int64

from policies.ownership import Ownership
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.hello import ClientMetadata
from proxy.conversation.rule import Context, Mode, Rules
from proxy.errors import CommandError
from proxy.session.identity import NO_OWNER, Identity, user_digest
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.records import CursorId
from proxy.session.refusals import TOO_MANY_SESSIONS
from proxy.wire.messages import read_request
from tests.build import (
    body,
    command,
    frame,
    op_delete,
    op_insert,
    op_msg,
    op_query,
    op_reply,
    reply,
    sequence,
)
from tests.talk import UPSTREAM, Talk, Watching, connection_status, converse

ALICE = Identity((("alice", "app"),))
SECURED = UpstreamFacts(authorization=True, has_transactions=True)
LSID = {"id": Binary(bytes(16), 4)}
FIND = command({"find": "c", "lsid": LSID, "$db": "db"}, 1)


class Rule:
    """Refuses finds, and remembers what it was shown."""

    name = "no_finds"
    judges_routine = True

    def __init__(self) -> None:
        self.seen: list[Context] = []

    def refuse(self, context: Context) -> CommandError | None:
        self.seen.append(context)
        if context.request.command == "find":
            return CommandError(20, "IllegalOperation", "no finds")
        return None


def test_the_caller_follows_the_identity():
    desk = converse(Watching(), facts=SECURED).desk
    assert desk.caller.anonymous
    desk.identified(ALICE)
    assert desk.identity is ALICE
    assert desk.caller.digest == user_digest("alice", "app")
    desk.identified(Identity())
    assert desk.caller.digest is None


def test_the_caller_follows_what_is_known_of_upstream():
    observer = Watching()
    known = [UpstreamFacts()]
    desk = converse(observer, facts=known[0]).desk
    desk._find_facts = lambda: known[0]
    desk.identified(ALICE)
    before = desk.caller
    assert before.digest == user_digest("alice", "app")
    assert desk.caller is before
    known[0] = UpstreamFacts(authorization=False, native=False)
    assert desk.caller.digest == NO_OWNER
    assert not desk.upstream_facts.native


def test_whether_another_process_demands_logins_is_open_for_who_logs_in():
    known = [UpstreamFacts(authorization=False, process=b"p")]
    desk = converse(Watching(), facts=known[0]).desk
    desk._find_facts = lambda: known[0]
    assert not desk.meets(b"p")
    assert desk.meets(b"q")
    # It may stand beside the other one for good: who does not log in may do there what it lets.
    assert desk.caller.may("killAnySession")
    desk.identified(ALICE)
    assert not desk.caller.may("killAnySession")
    assert desk.caller.digest == user_digest("alice", "app")
    assert desk.upstream_facts is desk.upstream_facts
    desk.identified(Identity())
    assert desk.caller.may("killAnySession")
    desk.identified(ALICE)
    # It was asked itself, or its operator says so.
    for process in (b"q", b""):
        known[0] = UpstreamFacts(authorization=False, process=process)
        assert desk.caller.digest == NO_OWNER


def test_a_read_of_a_cursor_without_a_session_is_judged_by_what_is_known_by_then():
    known = [UpstreamFacts(authorization=False)]
    talk = Talk(facts=known[0], rules=[(Ownership(Ownership.Settings()), Mode.ENFORCE)])
    desk = talk.conversation.desk
    desk._find_facts = lambda: known[0]
    key = LogicalSessionId(bytes(16), user_digest("alice", "app"))
    session = desk.store.use(key, 0.0, "alice@app")
    desk.store.cursor_opened(CursorId(UPSTREAM, 7), session, "db.c", 0.0)
    more = read_request(command({"getMore": Int64(7), "collection": "c", "$db": "db"}, 1))
    assert not isinstance(desk.admit(more, 1.0), CommandError)
    known[0] = SECURED
    assert isinstance(desk.admit(more, 1.0), CommandError)


def test_origin_is_what_the_client_says_of_itself():
    desk = converse(Watching()).desk
    assert desk.origin == Origin("client")
    desk.introduced(ClientMetadata("shop", "PyMongo", "4.20", "Linux"))
    assert desk.origin == Origin("client", "shop", "PyMongo", "4.20")


def test_a_rule_that_refuses_keeps_the_request_from_upstream_and_leaves_no_trace():
    rule = Rule()
    talk = Talk(facts=SECURED, rules=[(rule, Mode.ENFORCE)])
    talk.conversation.desk.identified(ALICE)
    refused = {"ok": 0.0, "errmsg": "no finds", "code": 20, "codeName": "IllegalOperation"}
    talk.client(FIND).client_is_told(FIND, refused).idle()
    assert len(talk.conversation.desk.store) == 0
    assert talk.observer.only("ruled") == [("no_finds", "find")]


@pytest.mark.parametrize(
    ("error", "as_server", "text"),
    [
        (
            CommandError(20, "IllegalOperation", "no"),
            False,
            "no (mongo-session-proxy: rule no_finds)",
        ),
        (CommandError(20, "IllegalOperation", "no"), True, "no"),
        (
            TOO_MANY_SESSIONS.because("3 of 3", "per_user", 3),
            False,
            "Unable to add session into the cache because the number of active sessions is too high"
            " (mongo-session-proxy: rule no_finds; per_user = 3; 3 of 3)",
        ),
    ],
)
def test_an_error_says_that_the_proxy_refused_unless_upstream_says_the_same(error, as_server, text):
    rule = Rule()
    rule.refuse = lambda context: error
    rule.speaks_as_server = as_server
    facts = replace(SECURED, wire_version=9)
    talk = Talk(facts=facts, rules=[(rule, Mode.ENFORCE)], sign_refusals=True)
    talk.conversation.desk.identified(ALICE)
    refused = {"ok": 0.0, "errmsg": text, "code": error.code, "codeName": error.code_name}
    talk.client(FIND).client_is_told(FIND, refused)


def test_whose_session_it_is_is_seen_anew_whenever_the_session_or_the_caller_is_another():
    rule = Rule()
    known = [SECURED]
    talk = Talk(facts=SECURED, rules=[(rule, Mode.ENFORCE)])
    desk = talk.conversation.desk
    desk._find_facts = lambda: known[0]
    bob = Identity((("bob", "app"),))
    first, other = bytes(16), bytes(15) + b"\1"

    def used(number: bytes, **more: Any) -> LogicalSessionId | None:
        document = {"count": "c", "lsid": {"id": Binary(number, 4)}, **more, "$db": "db"}
        desk.admit(read_request(command(document, 1)), 1.0)
        return rule.seen[-1].info.lsid

    for who in (ALICE, bob, ALICE):
        desk.identified(who)
        digest = user_digest(*who.users[0])
        for number in (first, first, other, other, first):
            assert used(number) == LogicalSessionId(number, digest)
            assert rule.seen[-1].info.txn_number is None
            assert used(number, txnNumber=Int64(5)) == LogicalSessionId(number, digest)
            assert rule.seen[-1].info.txn_number == 5
    desk.identified(Identity())
    assert used(first) is None
    assert used(first) is None
    assert rule.seen[-1].info.malformed is not None
    desk.identified(ALICE)
    assert used(first) == LogicalSessionId(first, user_digest("alice", "app"))
    known[0] = UpstreamFacts(authorization=False)
    assert used(first) == LogicalSessionId(first, NO_OWNER)


def test_a_rule_that_reports_only_reports():
    talk = Talk(facts=SECURED, rules=[(Rule(), Mode.REPORT)])
    talk.conversation.desk.identified(ALICE)
    talk.client(FIND).upstream_gets(FIND).quiet()
    assert talk.observer.only("ruled") == [("no_finds", "find")]


def test_what_a_rule_is_shown():
    rule = Rule()
    talk = Talk(facts=SECURED, rules=[(rule, Mode.ENFORCE)]).at(7.0)
    desk = talk.conversation.desk
    desk.identified(ALICE)
    count = command({"count": "c", "lsid": LSID, "$db": "db"}, 1)
    answer = reply({"ok": 1.0, "n": 0}, 1)
    for _ in range(2):
        talk.client(count).upstream_gets(count).upstream(answer).client_gets(answer)
    first, second = rule.seen
    assert first.info.lsid == LogicalSessionId(bytes(16), user_digest("alice", "app"))
    assert (first.now, first.upstream, first.origin) == (7.0, UPSTREAM, Origin("client"))
    assert first.caller is desk.caller
    assert first.session is None
    assert second.session is desk.store.get(first.info.lsid)
    assert second.upstream_checks


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("judges", [True, False])
def test_routine_requests_are_judged_where_a_rule_wants_that(judges, numbered, early):
    rule = Rule()
    rule.judges_routine = judges
    rule.judges_transactions = numbered
    talk = Talk(facts=SECURED, rules=[(rule, Mode.ENFORCE)], refuse_early=early)
    talk.conversation.desk.identified(ALICE)
    answer = reply({"ok": 1.0, "n": 0}, 1)
    routine = {"count": "c", "lsid": LSID, "$db": "db"}
    opening = reply({"ok": 1.0, "cursor": {"id": Int64(2), "ns": "db.c", "firstBatch": []}}, 1)
    for document, asked in (
        (
            {"aggregate": "c", "lsid": LSID, "$db": "db"},
            True,
        ),  # of a session that was not seen before
        (routine, judges),
        ({**routine, "txnNumber": Int64(1)}, judges or numbered or early),
        ({**routine, "txnNumber": Int64(1), "autocommit": False}, judges or numbered or early),
        ({"getMore": Int64(1), "collection": "c", "lsid": LSID, "$db": "db"}, True),
        ({"getMore": Int64(2), "collection": "c", "lsid": LSID, "$db": "db"}, judges),
        (routine, judges),
    ):
        rule.seen.clear()
        frame, told = command(document, 1), opening if "aggregate" in document else answer
        talk.client(frame).upstream_gets(frame).upstream(told).client_gets(told)
        assert bool(rule.seen) is asked, document


def test_requests_that_say_nothing_of_sessions_are_not_judged():
    rule = Rule()
    plain = command({"find": "c", "$db": "db"}, 1)
    Talk(facts=SECURED, rules=[(rule, Mode.ENFORCE)]).client(plain).upstream_gets(plain).quiet()
    assert rule.seen == []


def test_tracking_can_be_turned_off():
    talk = Talk(facts=SECURED, rules=[(Rule(), Mode.ENFORCE)])
    talk.conversation.desk._sessions.enabled = False
    talk.client(FIND).upstream_gets(FIND).quiet()
    assert len(talk.conversation.desk.store) == 0


BROKEN = command({"find": "c", "lsid": 1, "$db": "db"}, 1)


def test_wrong_session_fields_are_upstreams_to_refuse():
    talk = Talk(facts=SECURED)
    talk.conversation.desk.identified(ALICE)
    talk.client(BROKEN).upstream_gets(BROKEN).quiet()
    assert talk.observer.only("malformed") == [(14,)]


@pytest.mark.parametrize(
    "how",
    [
        {"facts": SECURED, "refuse_early": True},
        {"facts": UpstreamFacts(authorization=True, native=False)},
    ],
)
def test_unless_upstream_would_not_or_need_not(how: dict[str, Any]):
    talk = Talk(**how)
    talk.conversation.desk.identified(ALICE)
    talk.client(BROKEN)
    [frame] = talk.conversation.to_client
    assert b"\x10code\0\x0e\0\0\0" in frame
    talk.conversation.to_client.clear()
    talk.idle()


def test_what_became_of_a_command_is_recorded():
    observer = Watching()
    desk = converse(observer).desk
    desk.decided("killSessions", "done", 3, "why")
    assert observer.only("control") == [("killSessions", "done", 3, "why")]


def test_facts_for_session_control():
    desk = converse(Watching(), facts=UpstreamFacts(native=False, timeout_minutes=5)).desk
    facts = desk.facts(None)
    assert (facts.native, facts.timeout_minutes, facts.caller) == (False, 5, desk.caller)
    assert facts.store is desk.store


class All:
    """Forbids to drop anything, and remembers what it was shown."""

    name = "no_drops"
    judges = "all"
    #: Of no effect beside that.
    judges_routine = False
    judges_transactions = False
    judges_plans = False

    def __init__(self) -> None:
        self.seen: list[Context] = []

    def refuse(self, context: Context) -> CommandError | None:
        self.seen.append(context)
        if context.command in ("drop", "delete"):
            return CommandError(13, "Unauthorized", "nothing is dropped here")
        return None


class Sessionful(All):
    """As that, but asks for no more than what has to do with sessions."""

    name = "sessionful"
    judges = "sessions"


REFUSED = {"ok": 0.0, "errmsg": "nothing is dropped here", "code": 13, "codeName": "Unauthorized"}
DROP = command({"drop": "c", "$db": "db"}, 1)


def of_all(mode: Mode = Mode.ENFORCE, **how: Any) -> tuple[All, Sessionful, Talk]:
    rule, other = All(), Sessionful()
    talk = Talk(facts=SECURED, rules=[(other, mode), (rule, mode)], **how)
    talk.conversation.desk.identified(Identity((("alice", "app"),), (("read", "db"),)))
    talk.conversation.desk.introduced(ClientMetadata("shop", "PyMongo", "4.20", "Linux"))
    return rule, other, talk


def test_a_rule_that_judges_all_is_shown_what_says_nothing_of_sessions():
    rule, other, talk = of_all(clock=1000.0)
    talk.at(7.0).client(DROP).client_is_told(DROP, REFUSED).idle()
    (seen,) = rule.seen
    assert other.seen == []
    assert (seen.command, seen.namespaces, seen.writes) == ("drop", ("db.c",), True)
    assert (seen.caller.name, seen.caller.identity.roles) == ("alice@app", (("read", "db"),))
    assert seen.origin.application == "shop"
    assert (seen.info.lsid, seen.session, seen.now, seen.wall_now) == (None, None, 7.0, 1000.0)
    assert talk.observer.only("ruled") == [("no_drops", "drop")]


def test_where_it_reports_the_request_goes_on():
    rule, _, talk = of_all(Mode.REPORT)
    talk.client(DROP).upstream_gets(DROP).quiet()
    assert talk.observer.only("ruled") == [("no_drops", "drop")]
    garbage = frame(2013, b"\0\0\0\0\0garbage")
    talk.upstream(reply({"ok": 1.0}, 1)).client_gets(reply({"ok": 1.0}, 1))
    talk.client(garbage).upstream_gets(garbage)
    assert talk.observer.only("ruled")[1:] == [("no_drops", "")]
    assert len(rule.seen) == 1


def test_hello_and_logins_come_to_no_rule():
    rule, _, talk = of_all()
    hello = command({"hello": 1, "$db": "admin"}, 1)
    talk.client(hello).upstream_gets(hello)
    login = command({"saslStart": 1, "mechanism": "PLAIN", "payload": b"", "$db": "admin"}, 1)
    talk.client(login).upstream_gets(login)
    assert rule.seen == []


def test_what_has_to_do_with_sessions_comes_to_all_rules():
    rule, other, talk = of_all()
    for _ in range(2):
        talk.client(FIND).upstream_gets(FIND)
        talk.upstream(reply({"ok": 1.0}, 1)).client_gets(reply({"ok": 1.0}, 1))
    # The second is routine, of which it says that it has nothing to say.
    assert (len(rule.seen), len(other.seen)) == (2, 1)
    assert rule.seen[1].session is not None
    kill = command({"killSessions": [], "$db": "admin"}, 1)
    talk.client(kill).upstream_is_asked().upstream_says(connection_status(("alice", "app")))
    assert (rule.seen[2].command, len(other.seen)) == ("killSessions", 1)


def test_without_tracking_it_is_asked_too():
    rule, other, talk = of_all(enabled=False)
    talk.client(FIND).upstream_gets(FIND)
    drop = command({"drop": "c", "lsid": LSID, "$db": "db"}, 2)
    talk.client(drop)
    assert [seen.command for seen in rule.seen] == ["find", "drop"]
    assert rule.seen[1].info.lsid == LogicalSessionId(bytes(16), user_digest("alice", "app"))
    assert (other.seen, b"".join(talk._taken("to_upstream"))) == ([], b"")


def test_opcodes_of_old_and_what_cannot_be_read():
    rule, _, talk = of_all()
    talk.client(op_delete("db.c", {})).idle()
    insert = op_insert("db.c", {})
    talk.client(insert).upstream_gets(insert).idle()
    assert [seen.command for seen in rule.seen] == ["delete", "insert"]
    garbage = frame(2013, b"\0\0\0\0\0garbage")
    talk.client(garbage)
    assert b"InvalidBSON" in b"".join(talk._taken("to_client"))
    assert len(rule.seen) == 2
    assert talk.observer.only("ruled") == [("no_drops", "delete"), ("no_drops", "")]


def test_a_query_of_old_is_refused_in_its_own_form():
    rule, _, talk = of_all()
    rule.refuse = lambda context: CommandError(13, "Unauthorized", "no")
    query = op_query("db.c", {})
    talk.client(query)
    told = {"$err": "no", "ok": 0.0, "errmsg": "no", "code": 13, "codeName": "Unauthorized"}
    assert b"".join(talk._taken("to_client"))[16:] == op_reply(told, response_to=1, flags=10)[16:]


def test_unacknowledged_writes_are_each_shown_to_it():
    rule, _, talk = of_all()
    write = op_msg(
        body({"delete": "c", "$db": "db"}), sequence("deletes", {"q": {}, "limit": 0}), flags=2
    )
    insert = op_msg(body({"insert": "c", "$db": "db"}), sequence("documents", {}), flags=2)
    for _ in range(2):
        talk.client(insert).upstream_gets(insert)
    talk.client(write).idle()
    assert talk.conversation.burst is None
    assert [seen.command for seen in rule.seen] == ["insert", "insert", "delete"]


def test_a_burst_that_began_before_the_rule_came_is_looked_at():
    rule, _, talk = of_all()
    sessions = talk.conversation.desk._sessions
    new, sessions.rules = sessions.rules, Rules([])
    write = op_msg(body({"delete": "c", "$db": "db"}), sequence("deletes", {}), flags=2)
    talk.client(write).upstream_gets(write)
    waiting = deque((write,))
    assert talk.conversation.burst is not None
    sessions.rules = new
    talk.conversation.repeat(waiting)
    assert talk.conversation.repeat_run(write, 1000) == 0
    assert len(waiting) == 1
    talk.client(write).idle()
    assert len(rule.seen) == 1


def test_servers_are_asked_for_by_nobody():
    rule, _, talk = of_all()
    talk.conversation.desk.identified(Identity((("__system", "local"),)))
    talk.client(DROP).upstream_gets(DROP)
    assert rule.seen == []
