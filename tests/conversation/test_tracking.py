"""What the session store learns from requests and their replies."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64

from proxy.conversation.facts import UpstreamFacts
from proxy.session.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId
from proxy.session.records import CursorId, Session
from proxy.session.store import SessionStore
from proxy.session.transactions import State
from proxy.wire.compression import deflate
from proxy.wire.opcodes import EXHAUST_ALLOWED, MORE_TO_COME
from tests.build import body, command, op_msg, op_query, op_reply, reply, sequence
from tests.talk import UPSTREAM, Talk

OPEN = UpstreamFacts(authorization=False, has_transactions=True)
LSID = {"id": Binary(bytes(16), 4)}
KEY = LogicalSessionId(bytes(16), NO_OWNER)


def talk(**how: Any) -> Talk:
    return Talk(facts=OPEN, **how)


def run(one: Talk, request: dict[str, Any], answer: dict[str, Any] | None, **how: Any) -> Talk:
    """One request and its reply, None for none."""
    frame = command({**request, "$db": "db"}, 1, **how)
    one.client(frame).upstream_gets(frame)
    if answer is not None:
        told = reply({"ok": 1.0, **answer}, 1)
        one.upstream(told).client_gets(told)
    return one.quiet()


def store(one: Talk) -> SessionStore:
    return one.conversation.desk.store


def session(one: Talk) -> Session:
    found = store(one).get(KEY)
    assert found is not None
    return found


def operations(one: Talk) -> int:
    activity = session(one).activity
    return len(activity.operations) if activity else 0


def cursor(number: int, name: str = "firstBatch", batch: Any = ()) -> dict[str, Any]:
    return {"cursor": {name: list(batch), "id": Int64(number), "ns": "db.c"}}


def cursors(one: Talk) -> dict[CursorId, str]:
    activity = session(one).activity
    return dict(activity.cursors) if activity else {}


# ------------------------------------------------------------------ sessions and operations


def test_a_request_without_a_session_is_nobodys():
    one = run(talk(), {"find": "c"}, cursor(5))
    assert len(store(one)) == 0


def test_a_request_with_an_lsid_makes_its_session_and_is_in_flight_until_answered():
    one = run(talk().at(3.0), {"find": "c", "lsid": LSID}, None)
    assert (session(one).first_use, operations(one)) == (3.0, 1)
    told = reply({"ok": 1.0}, 1)
    one.at(8.0).upstream(told).client_gets(told)
    assert (session(one).last_use, operations(one)) == (8.0, 0)


def test_a_request_without_a_reply_uses_its_session_all_the_same():
    one = talk().at(3.0)
    frame = command({"insert": "c", "lsid": LSID, "$db": "db"}, flags=MORE_TO_COME)
    one.client(frame).upstream_gets(frame).idle()
    assert (session(one).last_use, operations(one)) == (3.0, 0)


def test_every_form_of_a_command_counts():
    for frame in (
        command({"find": "c", "lsid": LSID, "$db": "db"}, checksum=True),
        deflate(command({"find": "c", "lsid": LSID, "$db": "db"}), 2),
        op_query("db.$cmd", {"find": "c", "lsid": LSID}),
        op_query("db.$cmd", {"$query": {"find": "c", "lsid": LSID}}),
        op_msg(sequence("a"), body({"find": "c", "lsid": LSID, "$db": "db"})),
    ):
        one = talk().client(frame).upstream_gets(frame)
        assert operations(one) == 1


def test_an_operation_ends_with_its_connection():
    one = run(talk(), {"find": "c", "lsid": LSID}, None)
    one.conversation.closed(9.0)
    assert operations(one) == 0
    assert session(one).last_use == 9.0


def test_a_stream_is_one_operation():
    one = run(talk(), {"getMore": Int64(7), "lsid": LSID}, None, flags=EXHAUST_ALLOWED)
    for request_id, response_to, flags in ((501, 1, MORE_TO_COME), (502, 501, MORE_TO_COME)):
        told = reply({"ok": 1.0, **cursor(7, "nextBatch")}, response_to, request_id, flags=flags)
        one.upstream(told).client_gets(told)
        assert operations(one) == 1
    told = reply({"ok": 1.0, **cursor(0, "nextBatch")}, 502, 503)
    one.upstream(told).client_gets(told).idle()
    assert operations(one) == 0


@pytest.mark.parametrize("code", [261, 322, 324, 352, 391, 433, 449, 450, 462, 498870, 4886600])
def test_a_session_that_upstream_did_not_take_is_none(code):
    one = run(talk(), {"find": "c", "lsid": LSID}, {"ok": 0.0, "code": code})
    assert store(one).get(KEY) is None


@pytest.mark.parametrize("said", ["no such command: 'find'", "no such cmd: find"])
def test_a_session_of_a_command_that_there_is_not_is_none(said):
    one = run(talk(), {"find": "c", "lsid": LSID}, {"ok": 0.0, "code": 59, "errmsg": said})
    assert store(one).get(KEY) is None


@pytest.mark.parametrize("said", ["Explain failed due to unknown command: x", "", "no"])
def test_a_command_in_another_that_there_is_not_has_made_its_session(said):
    answer = {"ok": 0.0, "code": 59, "errmsg": said}
    assert session(run(talk(), {"explain": {"x": 1}, "lsid": LSID}, answer))


def test_a_session_that_upstream_had_no_time_to_look_at_is_none():
    labels = ["SystemOverloadedError", "RetryableError"]
    answer = {"ok": 0.0, "code": 9999, "errorLabels": labels}
    one = run(talk(), {"find": "c", "lsid": LSID}, answer)
    assert store(one).get(KEY) is None


def test_other_failures_leave_it():
    one = run(talk(), {"find": "c", "lsid": LSID}, {"ok": 0.0, "code": 26})
    assert operations(one) == 0
    assert session(one)


def test_tracking_stops_at_a_full_store():
    one = talk(store=SessionStore(max_sessions=0))
    run(one, {"find": "c", "lsid": LSID}, cursor(5))
    assert len(store(one)) == 0
    assert store(one).untracked == 1


# ------------------------------------------------------------------ cursors


def test_a_cursor_lives_from_its_find_to_its_last_batch():
    one = run(talk(), {"find": "c", "lsid": LSID}, cursor(77))
    assert cursors(one) == {CursorId(UPSTREAM, 77): "db.c"}
    more = {"getMore": Int64(77), "collection": "c", "lsid": LSID}
    run(one, more, cursor(77, "nextBatch"))
    assert len(cursors(one)) == 1
    run(one, more, cursor(0, "nextBatch"))
    assert cursors(one) == {}


@pytest.mark.parametrize(
    ("fields", "number"),
    [
        ({"startTransaction": True, "autocommit": False}, 5),
        ({"autocommit": False}, 5),
        ({}, -1),
        (None, -1),
    ],
    ids=["start", "continue", "write", "outside"],
)
def test_of_which_transaction_a_cursor_is(fields, number):
    one = talk()
    within = {} if fields is None else {"txnNumber": Int64(5), **fields}
    run(one, {"find": "c", "lsid": LSID, **within}, cursor(77))
    assert store(one).cursor_number(CursorId(UPSTREAM, 77)) == number
    store(one).cursor_closed(CursorId(UPSTREAM, 77))
    assert store(one).cursor_number(CursorId(UPSTREAM, 77)) == -1


def test_a_find_that_fits_opens_none():
    assert cursors(run(talk(), {"find": "c", "lsid": LSID}, cursor(0))) == {}


@pytest.mark.parametrize(("code", "left"), [(43, 0), (237, 0), (50, 1)])
def test_a_cursor_that_is_gone(code, left):
    one = run(talk(), {"find": "c", "lsid": LSID}, cursor(77))
    run(one, {"getMore": Int64(77), "lsid": LSID}, {"ok": 0.0, "code": code})
    assert len(cursors(one)) == left


@pytest.mark.parametrize("with_lsid", [True, False])
def test_kill_cursors_closes_what_upstream_says_is_gone(with_lsid):
    one = talk()
    for number in (1, 2, 3, 4):
        run(one, {"find": "c", "lsid": LSID}, cursor(number))
    kill = {"killCursors": "c", "cursors": [Int64(n) for n in (1, 2, 3)]}
    told = {
        "cursorsKilled": [Int64(1)],
        "cursorsNotFound": [Int64(2)],
        "cursorsAlive": [Int64(3)],
        "cursorsUnknown": [],
    }
    run(one, {**kill, "lsid": LSID} if with_lsid else kill, told)
    assert sorted(found.id for found in cursors(one)) == [3, 4]


def test_a_kill_that_fails_closes_none():
    one = run(talk(), {"find": "c", "lsid": LSID}, cursor(1))
    run(one, {"killCursors": "c", "cursors": [Int64(1)]}, {"ok": 0.0, "code": 13})
    assert len(cursors(one)) == 1


@pytest.mark.parametrize("order", ["mongod", "mongos"])
@pytest.mark.parametrize("piece", [1_448, 30_000, 65_536])
def test_a_long_reply_tells_its_cursor_on_the_way(order, piece):
    batch = [{"_id": n, "text": "x" * 1000} for n in range(200)]
    value = cursor(77, "firstBatch", batch)["cursor"]
    if order == "mongos":
        value = {name: value[name] for name in ("id", "ns", "firstBatch")}
    one = run(talk(), {"find": "c", "lsid": LSID}, None)
    told = reply({"cursor": value, "ok": 1.0}, 1)
    for at in range(0, len(told), piece):
        one.upstream(told[at : at + piece])
        one.conversation.to_client.clear()
    one.idle()
    assert cursors(one) == {CursorId(UPSTREAM, 77): "db.c"}
    assert operations(one) == 0
    last = reply({"cursor": {**value, "id": Int64(0)}, "ok": 1.0}, 1)
    run(one, {"getMore": Int64(77), "lsid": LSID}, None)
    for at in range(0, len(last), piece):
        one.upstream(last[at : at + piece])
        one.conversation.to_client.clear()
    assert cursors(one) == {}


def test_a_compressed_reply_tells_its_cursor_if_it_is_not_too_long():
    for size, seen in ((1_000, 1), (2_000_000, 0)):
        one = run(talk(), {"find": "c", "lsid": LSID}, None)
        told = deflate(reply({"ok": 1.0, **cursor(77, batch=[{"b": bytes(size)}])}, 1), 2)
        one.upstream(told).client_gets(told).idle()
        assert len(cursors(one)) == seen
        assert operations(one) == 0


def test_what_a_long_reply_does_not_tell_is_not_made_up():
    one = run(talk(), {"find": "c", "lsid": LSID}, None)
    told = reply({"ok": 1.0, "text": "x" * 100_000}, 1)
    one.upstream(told[:70_000]).client_gets(told[:70_000])
    one.upstream(told[70_000:]).client_gets(told[70_000:]).idle()
    assert cursors(one) == {}
    assert operations(one) == 0


@pytest.mark.parametrize("size", [10, 200_000])
def test_op_reply_tells_its_cursor_too(size):
    one = talk()
    for name, value in (("find", "c"), ("getMore", Int64(77))):
        frame = op_query("db.$cmd", {name: value, "lsid": LSID})
        told = op_reply({**cursor(77, batch=[{"b": bytes(size)}]), "ok": 1.0}, response_to=1)
        one.client(frame).upstream_gets(frame)
        one.upstream(told[:70_000]).client_gets(told[:70_000])
        if told[70_000:]:
            one.upstream(told[70_000:]).client_gets(told[70_000:])
        one.idle()
        assert cursors(one) == {CursorId(UPSTREAM, 77): "db.c"}


# ------------------------------------------------------------------ transactions


def in_transaction(name: str, number: int = 1, **more: Any) -> dict[str, Any]:
    return {name: 1, "lsid": LSID, "txnNumber": Int64(number), "autocommit": False, **more}


def test_a_transaction_is_what_upstream_accepted():
    one = run(talk(), in_transaction("find", startTransaction=True), None)
    assert session(one).state is State.NONE
    told = reply({"ok": 1.0}, 1)
    one.upstream(told).client_gets(told)
    assert (session(one).state, session(one).txn_number) == (State.IN_PROGRESS, 1)
    tracker = session(one).transaction
    assert tracker is not None
    assert tracker.upstream == UPSTREAM
    run(one, in_transaction("find"), {})
    assert session(one).state is State.IN_PROGRESS
    run(one, in_transaction("commitTransaction"), {})
    assert session(one).state is State.COMMITTED
    run(one, in_transaction("find", 2, startTransaction=True), {})
    run(one, in_transaction("abortTransaction", 2), {})
    assert (session(one).state, session(one).txn_number) == (State.ABORTED, 2)


def test_a_commit_whose_reply_never_came_is_unknown():
    one = run(talk(), in_transaction("find", startTransaction=True), {})
    run(one, in_transaction("commitTransaction"), None)
    one.conversation.closed(5.0)
    assert session(one).state is State.UNKNOWN


def test_a_statement_that_aborts_the_transaction():
    one = run(talk(), in_transaction("find", startTransaction=True), {})
    run(one, in_transaction("find"), {"ok": 0.0, "code": 251})
    assert session(one).state is State.ABORTED


def test_the_statements_of_a_retryable_write_are_counted():
    one = talk()
    write = {"insert": "c", "lsid": LSID, "txnNumber": Int64(4), "$db": "db"}
    frame = op_msg(body(write), sequence("documents", *[{"_id": n} for n in range(3)]))
    told = reply({"ok": 1.0, "n": 3}, 1)
    one.client(frame).upstream_gets(frame).upstream(told).client_gets(told)
    tracker = session(one).transaction
    assert tracker is not None
    assert tracker.number == 4
    assert session(one).state is State.NONE


def test_a_transaction_whose_replies_are_long_is_followed_all_the_same():
    one = run(talk(), in_transaction("find", startTransaction=True), None)
    told = reply({"ok": 1.0, "text": "x" * 100_000}, 1)
    for part in (told[:70_000], told[70_000:]):
        one.upstream(part).client_gets(part)
    tracker = session(one).transaction
    assert tracker is not None
    assert (tracker.state, tracker.upstream, tracker.connection) == (
        State.IN_PROGRESS,
        UPSTREAM,
        1,
    )


LONG_ERROR = {"ok": 0.0, "errmsg": "x" * 100_000, "code": 40415, "codeName": "Location40415"}


@pytest.mark.parametrize("compressor", [None, 1, 2, 3])
@pytest.mark.parametrize("end", ["commitTransaction", "abortTransaction"])
@pytest.mark.parametrize("before", [{}, {"errorLabels": ["RetryableWriteError"]}])
def test_an_end_that_upstream_refuses_at_length_ends_nothing(end, compressor, before):
    one = run(talk(), in_transaction("find", startTransaction=True), {})
    run(one, in_transaction(end), None)
    told = reply({**before, **LONG_ERROR}, 1)
    if compressor is not None:
        told = deflate(told, compressor)
        one.upstream(told).client_gets(told)
    else:
        for part in (told[:70_000], told[70_000:]):
            one.upstream(part).client_gets(part)
    tracker = session(one).transaction
    assert tracker is not None
    assert tracker.counts
    assert tracker.may_be_open


@pytest.mark.parametrize("compressor", [1, 2, 3])
def test_another_write_that_upstream_refuses_at_length_ends_no_transaction(compressor):
    one = run(talk(), in_transaction("find", startTransaction=True), {})
    run(one, {"insert": "c", "lsid": LSID, "txnNumber": Int64(99)}, None)
    told = deflate(reply(LONG_ERROR, 1), compressor)
    one.upstream(told).client_gets(told)
    assert session(one).state is State.IN_PROGRESS


@pytest.mark.parametrize(("code", "state"), [(251, State.ABORTED), (13, State.IN_PROGRESS)])
def test_a_long_error_that_says_so_aborts_its_transaction(code, state):
    one = run(talk(), in_transaction("find", startTransaction=True), {})
    run(one, in_transaction("find"), None)
    told = reply({**LONG_ERROR, "code": code}, 1)
    for part in (told[:70_000], told[70_000:]):
        one.upstream(part).client_gets(part)
    assert session(one).state is state


def test_bytes_that_only_look_like_killed_cursors_are_passed_over():
    one = run(talk(), {"find": "c", "lsid": LSID}, cursor(1))
    frame = command({"killCursors": "c", "cursors": [Int64(1)], "$db": "db"}, 1)
    odd = bson.encode({"cursorsKilled": ["1", None, {"a": 1}], "cursorsNotFound": 7, "ok": 1.0})
    told = reply(odd, 1)
    one.client(frame).upstream_gets(frame).upstream(told).client_gets(told).idle()
    assert len(cursors(one)) == 1


# ------------------------------------------------------------------ cursors in other places


@pytest.mark.parametrize("within", [{"lsid": LSID}, {}])
def test_a_kill_that_nobody_answers_closes_the_callers_cursors(within):
    one = talk()
    for number in (1, 2):
        run(one, {"find": "c", "lsid": LSID}, cursor(number))
    kill = {"killCursors": "c", "cursors": [Int64(1)], **within, "$db": "db"}
    silent = command(kill, 3, flags=MORE_TO_COME)
    one.client(silent).upstream_gets(silent).idle()
    assert [found.id for found in cursors(one)] == [2]


def test_a_kill_that_upstream_refuses_without_a_word_closes_none():
    one = run(talk(), {"find": "c", "lsid": LSID}, cursor(1))
    wrong = {"killCursors": "c", "cursors": [Int64(1)], "lsid": LSID, "txnNumber": Int64(-1)}
    silent = command({**wrong, "$db": "db"}, 3, flags=MORE_TO_COME)
    one.client(silent).upstream_gets(silent)
    assert [found.id for found in cursors(one)] == [1]


def test_a_kill_that_nobody_answers_closes_nobody_elses():
    one = run(talk(), {"find": "c", "lsid": LSID}, cursor(1))
    other = {"id": Binary(b"2" * 16, 4), "uid": Binary(b"u" * 32)}
    kill = {"killCursors": "c", "cursors": [Int64(1)], "lsid": other, "$db": "db"}
    silent = command(kill, 3, flags=MORE_TO_COME)
    one.client(silent).upstream_gets(silent)
    assert [found.id for found in cursors(one)] == [1]


def test_several_cursors_of_one_reply():
    several = [{**cursor(number), "ok": 1.0} for number in (5, 6)]
    one = run(talk(), {"aggregate": "c", "lsid": LSID}, {"cursors": several})
    assert {found.id: name for found, name in cursors(one).items()} == {5: "db.c", 6: "db.c"}


@pytest.mark.parametrize(
    "odd", [[], [1, None, {}], [{"cursor": 1}], [{"cursor": {"id": "x"}}], {"a": 1}, 7]
)
def test_what_only_looks_like_several_cursors_is_none(odd):
    one = run(talk(), {"aggregate": "c", "lsid": LSID}, {"cursors": odd})
    assert cursors(one) == {}


def test_bulk_writes_cursor_is_one_like_others():
    written = {"cursor": {"id": Int64(9), "firstBatch": [], "ns": "admin.$cmd.bulkWrite"}}
    one = run(talk(), {"bulkWrite": 1, "ops": [], "lsid": LSID}, {**written, "nErrors": 0})
    assert {found.id: name for found, name in cursors(one).items()} == {9: "admin.$cmd.bulkWrite"}


# ------------------------------------------------------------------ what may be open


START = {
    "insert": "c",
    "lsid": LSID,
    "txnNumber": Int64(1),
    "autocommit": False,
    "startTransaction": True,
}
NEXT = {"insert": "c", "lsid": LSID, "txnNumber": Int64(1), "autocommit": False}
END = {"abortTransaction": 1, "lsid": LSID, "txnNumber": Int64(1), "autocommit": False}


def counted(one: Talk) -> int:
    return session(one).owner.counted_transactions


def test_a_start_counts_from_its_request_on():
    one = run(talk(), START, None)
    assert (counted(one), store(one).open_transactions) == (1, 0)
    told = reply({"ok": 1.0}, 1)
    one.upstream(told).client_gets(told)
    assert (counted(one), store(one).open_transactions) == (1, 1)
    run(one, END, {})
    assert (counted(one), store(one).open_transactions) == (0, 0)


def test_a_start_that_nobody_confirms_may_be_open():
    one = talk().at(3.0)
    frame = command({**START, "$db": "db"}, flags=MORE_TO_COME)
    one.client(frame).upstream_gets(frame).idle()
    assert (counted(one), store(one).open_transactions) == (1, 0)
    run(one, END, {"ok": 0.0, "code": 251})
    assert counted(one) == 0


def test_a_start_whose_connection_ends_may_be_open():
    one = run(talk(), START, None)
    one.conversation.closed(9.0)
    assert counted(one) == 1


@pytest.mark.parametrize("code", [13, 72, 40571])
def test_a_start_that_was_refused_at_the_door_does_not_count(code):
    assert counted(run(talk(), START, {"ok": 0.0, "code": code})) == 0


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ({"ok": 0.0, "code": 40571}, 1),
        ({"ok": 0.0, "code": 40472}, 1),
        ({"ok": 0.0, "code": 50}, 1),
        ({"ok": 0.0, "code": 251}, 0),
        ({"ok": 0.0, "code": 112, "errorLabels": ["TransientTransactionError"]}, 0),
        ({"n": 0, "writeErrors": [{"index": 0, "code": 11000}]}, 0),
    ],
)
def test_what_ends_a_transaction(answer, left):
    one = run(run(talk(), START, {}), NEXT, answer)
    assert (counted(one), store(one).open_transactions) == (left, left)


@pytest.mark.parametrize(
    "document",
    [
        END,
        {
            "commitTransaction": 1,
            **{name: END[name] for name in ("lsid", "txnNumber", "autocommit")},
        },
        {"insert": "c", "lsid": LSID, "txnNumber": Int64(2)},
        {**NEXT, "txnNumber": Int64(2)},
        {**START, "txnNumber": Int64(2)},
    ],
)
def test_asking_for_help_ends_no_transaction(document):
    one = run(talk(), START, {})
    run(one, {**document, "help": True}, {"help": "no help"})
    assert (counted(one), session(one).txn_number, session(one).state) == (1, 1, State.IN_PROGRESS)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("Provided apiStrict:true, but the command count is not in API Version 1", False),
        ("stage $listSessions is not allowed with apiStrict", True),
    ],
)
def test_whether_323_came_before_the_session(text, taken):
    one = run(talk(), {"find": "c", "lsid": LSID}, {"ok": 0.0, "code": 323, "errmsg": text})
    assert (store(one).get(KEY) is not None) is taken


def test_a_shard_may_start_or_continue_a_transaction():
    either = {**NEXT, "startOrContinueTransaction": True}
    one = run(talk(), either, {})
    assert (session(one).state, session(one).txn_number) == (State.IN_PROGRESS, 1)
    run(one, either, {})
    assert one.conversation.desk.store.counts.transactions_started == 1
    run(one, {**either, "txnNumber": Int64(2)}, {})
    assert (session(one).state, session(one).txn_number) == (State.IN_PROGRESS, 2)


def test_the_coordinator_of_a_commit_has_committed():
    one = run(talk(), START, {})
    end = {"coordinateCommitTransaction": 1, "participants": [{"shardId": "a"}]}
    run(one, {**end, "lsid": LSID, "txnNumber": Int64(1), "autocommit": False}, {})
    assert (counted(one), session(one).state) == (0, State.COMMITTED)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("command find requires authentication", False),
        ("Command find requires authentication", False),
        ("there are no users authenticated", False),
        ("Logical sessions require authentication", False),
        ("abortTransaction may only be run against the admin database.", True),
        ('not authorized on db to execute command { x: "requires authentication" }', True),
    ],
)
def test_whether_13_came_before_the_session(text, taken):
    one = run(talk(), {"find": "c", "lsid": LSID}, {"ok": 0.0, "code": 13, "errmsg": text})
    assert (store(one).get(KEY) is not None) is taken
