"""Budgets count what is under way, on whichever command it comes."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from policies.ownership import Ownership
from policies.session_budget import SessionBudget
from policies.transaction_guard import TransactionGuard
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.rule import Mode
from proxy.session.identity import Identity, user_digest
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.records import CursorId
from proxy.session.store import SessionStore
from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from proxy.wire.opcodes import MORE_TO_COME
from tests.build import command, op_get_more, op_query, reply
from tests.talk import UPSTREAM, Talk, connection_status

SECURED = UpstreamFacts(authorization=True, has_transactions=True)
ALICE = Identity((("alice", "app"),))
TOO_MANY = {
    "ok": 0.0,
    "errmsg": "cannot add session into the cache",
    "code": 261,
    "codeName": "TooManyLogicalSessions",
}


def lsid(number: int) -> dict[str, Any]:
    return {"id": Binary(number.to_bytes(16, "big"), 4)}


def talk(store: SessionStore, *rules: Any, **facts: Any) -> Talk:
    rules = rules or (SessionBudget(SessionBudget.Settings(per_user=3)),)
    made = Talk(
        facts=UpstreamFacts(authorization=True, has_transactions=True, **facts),
        rules=[(rule, Mode.ENFORCE) for rule in rules],
        store=store,
    )
    made.conversation.desk.identified(ALICE)
    return made


@pytest.mark.parametrize(
    "document",
    [
        {"hello": 1},
        {"isMaster": 1},
        {"ismaster": 1},
        {"saslStart": 1, "mechanism": "X", "payload": b""},
        {"saslContinue": 1, "conversationId": 1, "payload": b""},
        {"authenticate": 1},
        {"logout": 1},
        {"hello": 1, "speculativeAuthenticate": {"saslStart": 1}},
        {"ping": 1},
        {"anything": 1},
        {"find": "c", "txnNumber": Int64(-1)},
        {"find": "c", "autocommit": False},
        {"find": "c", "txnNumber": Int64(1), "autocommit": True},
        {"find": "c", "startTransaction": True},
    ],
)
@pytest.mark.parametrize("flags", [0, MORE_TO_COME])
def test_a_session_counts_on_whichever_command_it_comes(document, flags):
    store = SessionStore()
    for number in range(4):
        frame = command({**document, "lsid": lsid(number), "$db": "admin"}, 1, flags=flags)
        one = talk(store).client(frame)
        if number < 3:
            assert sent(one)
            assert len(store) == number + 1
            # It counts until upstream says that it did not take the session.
            one.conversation.closed(1.0)
        elif flags:
            assert one.conversation.to_upstream == []
        else:
            one.client_is_told(frame, TOO_MANY)
            assert one.conversation.to_upstream == []
    assert len(store) == 3


def test_help_makes_a_session_too():
    store = SessionStore()
    help_of = {"help": True, "lsid": lsid(1), "$db": "admin"}
    talk(store).client(
        command({"refreshSessions": [], **help_of}, 1)
    ).upstream_is_asked().upstream_says(connection_status(("alice", "app"))).upstream_gets(
        command({"refreshSessions": 1, **help_of}, 1)
    )
    assert len(store) == 1


def refreshing(store: SessionStore, *numbers: int, name: str = "refreshSessions") -> Talk:
    """A command that was judged and sent, if the budget allowed it."""
    argument: Any = 1 if name == "startSession" else [lsid(number) for number in numbers]
    one = talk(store).client(command({name: argument, "$db": "admin"}, 1))
    return one.upstream_is_asked().upstream_says(connection_status(("alice", "app")))


def sent(one: Talk) -> bool:
    return bool(one.conversation.to_upstream)


def answered(one: Talk, document: dict[str, Any]) -> None:
    [frame] = one.conversation.to_upstream
    one.conversation.to_upstream.clear()
    one.upstream(reply(document, read_request(frame).request_id))


def test_what_several_connections_are_about_to_make_counts_together():
    store = SessionStore()
    first, second = refreshing(store, 1, 2), refreshing(store, name="startSession")
    assert (sent(first), sent(second), sent(refreshing(store, 4))) == (True, True, False)
    assert (len(store), store.owner_sessions("alice@app"), store.promised()) == (0, 3, 3)
    answered(first, {"ok": 1.0})
    assert (len(store), store.owner_sessions("alice@app"), store.promised()) == (2, 3, 1)
    answered(second, {"ok": 0.0, "code": 6, "errmsg": "no"})
    assert (len(store), store.owner_sessions("alice@app"), store.promised()) == (2, 2, 0)
    assert sent(refreshing(store, 1, 2, 5))


def test_what_was_sent_and_not_answered_may_be_there():
    store = SessionStore()
    one = refreshing(store, 1, 2)
    one.conversation.closed(1.0)
    assert (len(store), store.promised()) == (2, 0)


def test_what_one_application_and_what_everybody_is_about_to_make():
    store = SessionStore(max_sessions=10)
    one = refreshing(store, 1, 2)
    assert one.conversation.desk.origin == Origin("client")
    assert store.application_sessions("") == 2
    rule = SessionBudget(SessionBudget.Settings(reserved=8))
    other = talk(store, rule).client(command({"find": "c", "lsid": lsid(9), "$db": "db"}, 1))
    assert not sent(other)


def test_starts_that_are_pipelined_count_before_any_is_answered():
    store = SessionStore()
    one = talk(store, TransactionGuard(TransactionGuard.Settings(per_user=2)))
    for number in range(5):
        start = {"insert": "c", "lsid": lsid(number), "txnNumber": Int64(1), "$db": "db"}
        start |= {"autocommit": False, "startTransaction": True}
        one.conversation.on_request(command(start, number), 0.0)
    assert len(one.conversation.to_upstream) == 2
    assert store.owner_transactions("alice@app") == 2


MORE = {"getMore": Int64(7), "collection": "c", "$db": "db"}


@pytest.mark.parametrize(
    "frame",
    [
        command({**MORE, "lsid": lsid(1)}, 1),
        command(MORE, 1),
        command({**MORE, "getMore": 7.0}, 1),
        op_query("db.$cmd", {"getMore": 7.0, "collection": "c"}),
        op_get_more("db.c", 7),
        deflate(op_get_more("db.c", 7), 2),
    ],
)
@pytest.mark.parametrize(("maker", "refused"), [("bob@app", True), ("alice@app", False)])
def test_whose_cursor_it_is_does_not_depend_on_how_it_is_read(frame, maker, refused):
    store = SessionStore()
    made = store.use(LogicalSessionId(bytes(16), user_digest(*maker.split("@"))), 0.0, maker)
    assert made is not None
    store.cursor_opened(CursorId(UPSTREAM, 7), made, "db.c", 0.0)
    one = talk(store, Ownership(Ownership.Settings()), native=False).client(frame)
    assert sent(one) is not refused


def key(number: int) -> LogicalSessionId:
    return LogicalSessionId(number.to_bytes(16, "big"), user_digest("alice", "app"))


def ending(store: SessionStore, *numbers: int, name: str = "endSessions") -> Talk:
    argument = [lsid(number) for number in numbers]
    one = talk(store).at(5.0).client(command({name: argument, "$db": "admin"}, 1))
    return one.upstream_is_asked().upstream_says(connection_status(("alice", "app")))


def test_only_what_upstream_has_confirmed_is_over():
    store = SessionStore()
    for number in range(3):
        store.use(key(number), 0.0, "alice@app")
    unanswered, failed, done = ending(store, 0), ending(store, 1), ending(store, 2)
    assert store.live() == 3
    unanswered.conversation.closed(6.0)
    answered(failed, {"ok": 0.0, "code": 6, "errmsg": "no"})
    assert store.live() == 3
    answered(done, {"ok": 1.0})
    assert (store.live(), len(store)) == (2, 3)
    find = command({"find": "c", "lsid": lsid(2), "$db": "db"}, 1)
    store.use(key(9), 0.0, "alice@app")
    # Used again it is one more.
    talk(store).client(find).client_is_told(find, TOO_MANY)


def test_what_is_used_while_it_ends_is_not_over():
    store = SessionStore()
    one_key, other = key(0), key(1)
    store.use_all((one_key, other), 0.0, "alice@app", Origin())
    running = store.operation_started(other, 1.0, "alice@app")
    assert running is not None
    one = ending(store, 0, 1)
    store.use(one_key, 5.5, "alice@app")
    answered(one, {"ok": 1.0})
    assert store.live() == 2
    # Upstream may have carried it out after the end.
    store.operation_finished(running, 7.0)
    assert store.live() == 2


def test_what_nobody_answers_is_over_for_nobody():
    store = SessionStore()
    frame = command({"insert": "c", "lsid": lsid(0), "$db": "db"}, 1, flags=MORE_TO_COME)
    talk(store).client(frame)
    answered(ending(store, 0), {"ok": 1.0})
    assert store.live() == 1


@pytest.mark.parametrize("answers", [True, False])
def test_a_long_list_counts_all_the_while_where_upstream_lacks_the_commands(answers):
    store, many = SessionStore(), 5_000
    budget = SessionBudget(SessionBudget.Settings(per_user=many))
    one = talk(store, budget, native=False).at(5.0)
    one.client(command({"refreshSessions": [lsid(n) for n in range(many)], "$db": "admin"}, 1))
    one.upstream_is_asked().upstream_says(connection_status(("alice", "app")))
    desk = one.conversation.desk
    if answers:
        [frame] = one.conversation.to_upstream
        told = reply({"ok": 1.0}, read_request(frame).request_id)
        one.conversation.on_upstream(told, 5.0, lambda: True)
        assert 0 < len(store) < many
    one.conversation.closed(6.0)
    (left,) = desk._sessions.unfinished
    assert sent(talk(store, budget).client(command({"ping": 1, "lsid": lsid(many)}, 1))) is False
    for _ in left:
        pass
    assert (len(store), store.promised()) == (many, 0)
