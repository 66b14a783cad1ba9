"""The store as requests and replies in all their forms fill it."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Int64

from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import read_operation_session_info
from proxy.session.records import CursorId, Session
from proxy.session.store import SessionStore
from proxy.session.tracking import Exchange, Tracking
from proxy.session.transactions import State
from proxy.wire.compression import deflate
from proxy.wire.messages import Request, read_reply, read_request
from proxy.wire.opcodes import MORE_TO_COME
from tests import build
from tests.session.sessions import ALICE, AS_ALICE, NOBODY, lsid, uuid

UPSTREAM = "a:27017"
KEY = LogicalSessionId(uuid(2), ALICE)
ORIGIN = Origin("10.0.0.1", "shop", "PyMongo", "4.15")


@pytest.fixture
def tracking() -> Tracking:
    return Tracking(SessionStore(), AS_ALICE, ORIGIN, 7, UPSTREAM)


def begin(tracking: Tracking, one: Request | dict[str, Any], now: float = 1.0) -> Exchange | None:
    if isinstance(one, dict):
        one = read_request(build.command({**one, "$db": "app"}))
    info = read_operation_session_info(one, tracking.caller)
    return tracking.request(one, info, now)


def end(tracking: Tracking, exchange: Exchange | None, reply: dict[str, Any] | None) -> None:
    assert exchange is not None
    read = None if reply is None else read_reply(build.reply(reply, 1))
    tracking.reply(exchange, read, 2.0)


def run(tracking: Tracking, document: dict[str, Any], reply: dict[str, Any] | None) -> None:
    end(tracking, begin(tracking, document), reply)


def session(tracking: Tracking) -> Session:
    found = tracking.store.get(KEY)
    assert found is not None
    return found


FIND = {"find": "c", "lsid": lsid()}
OPEN = {"cursor": {"firstBatch": [], "id": Int64(9), "ns": "app.c"}, "ok": 1.0}
GET_MORE = {"getMore": Int64(9), "collection": "c", "lsid": lsid()}


def forms() -> list[bytes]:
    document = {**FIND, "$db": "app"}
    plain = build.command(document)
    return [
        plain,
        build.command(document, checksum=True),
        build.op_msg(build.sequence("x"), build.body(document)),
        build.op_query("app.$cmd", FIND),
        build.op_query("app.$cmd", {"$query": FIND, "$readPreference": {"mode": "primary"}}),
        build.op_command("app", "find", FIND),
        *(deflate(plain, one) for one in (0, 1, 2, 3)),
    ]


@pytest.mark.parametrize("frame", forms())
def test_every_form_of_a_request_is_a_use(tracking: Tracking, frame: bytes) -> None:
    exchange = begin(tracking, read_request(frame))
    assert exchange is not None
    found = session(tracking)
    assert (found.owner.name, found.origin) == ("alice@app", ORIGIN)
    assert exchange.operation is not None
    assert exchange.operation.connection == 7
    assert found.activity is not None
    end(tracking, exchange, {"ok": 1.0})
    assert found.activity is None
    assert (found.first_use, found.last_use) == (1.0, 2.0)


def test_what_says_nothing_of_sessions_is_not_followed(tracking: Tracking) -> None:
    assert begin(tracking, {"find": "c"}) is None
    assert begin(tracking, {"find": "c", "lsid": 1}) is None
    assert begin(tracking, {"getMore": "x", "collection": "c"}) is None
    tracking.caller = NOBODY
    assert begin(tracking, FIND) is None
    assert len(tracking.store) == 0


def test_without_a_reply_it_is_a_use_and_nothing_more(tracking: Tracking) -> None:
    document = {"insert": "c", "lsid": lsid(), "txnNumber": Int64(3), "$db": "app"}
    one = read_request(build.command(document, flags=MORE_TO_COME))
    assert begin(tracking, one) is None
    assert session(tracking).activity is None
    assert session(tracking).txn_number == -1


@pytest.mark.parametrize(
    ("code", "errmsg", "known"),
    [
        (13, "not authorized on app to execute command { find: 1 }", True),
        (13, "there are no users authenticated", False),
        (13, "command find requires authentication", False),
        (261, "cannot add session into the cache", False),
        (14, "BSON field 'OperationSessionInfo.lsid' is the wrong type", False),
        (14, "BSON field 'find.filter' is the wrong type", True),
        (11000, "E11000 duplicate key", True),
    ],
)
def test_a_session_that_upstream_refused_is_not_kept(
    tracking: Tracking, code: int, errmsg: str, known: bool
) -> None:
    run(tracking, FIND, {"ok": 0.0, "errmsg": errmsg, "code": code})
    assert (KEY in tracking.store) is known


def test_a_lost_connection_ends_its_operations(tracking: Tracking) -> None:
    run(tracking, FIND, None)
    assert session(tracking).activity is None


def test_cursors(tracking: Tracking) -> None:
    cursor = CursorId(UPSTREAM, 9)
    run(tracking, FIND, OPEN)
    assert tracking.store.cursor_session(cursor) is session(tracking)
    more = {"cursor": {"nextBatch": [], "id": Int64(9), "ns": "app.c"}, "ok": 1.0}
    run(tracking, GET_MORE, more)
    assert tracking.store.cursor_session(cursor) is session(tracking)
    more["cursor"]["id"] = Int64(0)
    run(tracking, GET_MORE, more)
    assert tracking.store.cursor_session(cursor) is None


@pytest.mark.parametrize(
    ("code", "open_"), [(43, False), (237, False), (11601, False), (13, True), (50738, True)]
)
def test_a_failed_get_more(tracking: Tracking, code: int, open_: bool) -> None:
    run(tracking, FIND, OPEN)
    run(tracking, GET_MORE, {"ok": 0.0, "code": code})
    assert (tracking.store.cursor_session(CursorId(UPSTREAM, 9)) is not None) is open_


def test_a_get_more_without_lsid_is_a_use_of_the_cursors_session(tracking: Tracking) -> None:
    run(tracking, FIND, OPEN)
    exchange = begin(tracking, {"getMore": Int64(9), "collection": "c"}, 50.0)
    assert session(tracking).last_use == 50.0
    end(tracking, exchange, {"ok": 0.0, "code": 43})
    assert tracking.store.cursor_session(CursorId(UPSTREAM, 9)) is None


def test_kill_cursors(tracking: Tracking) -> None:
    run(tracking, FIND, OPEN)
    kill = {"killCursors": "c", "cursors": [Int64(9)]}
    run(tracking, kill, {"cursorsKilled": [], "cursorsAlive": [Int64(9)], "ok": 1.0})
    assert tracking.store.cursor_session(CursorId(UPSTREAM, 9)) is not None
    run(tracking, kill, {"cursorsKilled": [Int64(9)], "cursorsNotFound": [], "ok": 1.0})
    assert tracking.store.cursor_session(CursorId(UPSTREAM, 9)) is None


def test_an_exhaust_stream_is_one_operation(tracking: Tracking) -> None:
    run(tracking, FIND, OPEN)
    exchange = begin(tracking, GET_MORE)
    assert exchange is not None
    document = {"cursor": {"nextBatch": [], "id": Int64(9), "ns": "app.c"}, "ok": 1.0}
    tracking.reply(exchange, read_reply(build.reply(document, 1, flags=MORE_TO_COME)), 2.0)
    found = session(tracking)
    assert found.activity is not None
    assert len(found.activity.operations) == 1
    document["cursor"]["id"] = Int64(0)
    tracking.reply(exchange, read_reply(build.reply(document, 1)), 3.0)
    assert found.activity is None


def test_replies_that_teach_nothing_may_pass_unread(tracking: Tracking) -> None:
    exchange = begin(tracking, {"count": "c", "lsid": lsid()})
    assert exchange is not None
    assert not exchange.needs_whole_reply
    tracking.passed(exchange, 2.0)
    assert session(tracking).activity is None
    for document in (FIND, GET_MORE, {**FIND, "txnNumber": Int64(1), "autocommit": False}):
        exchange = begin(tracking, document)
        assert exchange is not None
        assert exchange.needs_whole_reply


TXN = {"lsid": lsid(), "txnNumber": Int64(1), "autocommit": False}
OK = {"ok": 1.0}


def test_a_transaction_and_its_commit(tracking: Tracking) -> None:
    run(tracking, {"insert": "c", **TXN, "startTransaction": True}, OK)
    tracker = session(tracking).transaction
    assert tracker is not None
    assert (tracker.state, tracker.connection) == (State.IN_PROGRESS, 7)
    assert tracker.upstream == UPSTREAM
    assert tracking.store.user_transactions("alice@app") == 1
    run(tracking, {"commitTransaction": 1, **TXN}, OK)
    assert session(tracking).state is State.COMMITTED
    assert tracking.store.open_transactions == 0


def test_what_was_not_accepted_raises_nothing(tracking: Tracking) -> None:
    old = {"ok": 0.0, "code": 225, "errmsg": "Cannot start transaction"}
    run(tracking, {"insert": "c", "lsid": lsid(), "txnNumber": Int64(9)}, old)
    run(tracking, {"insert": "c", "lsid": lsid(), "txnNumber": Int64(8)}, None)
    assert session(tracking).txn_number == -1


def statements(tracking: Tracking) -> list[range] | None:
    tracker = session(tracking).transaction
    assert tracker is not None
    return tracker.statements


WRITE = {"lsid": lsid(), "txnNumber": Int64(1)}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"insert": "c", "documents": [{}, {}], **WRITE}, [range(0, 2)]),
        ({"insert": "c", "documents": [{}, {}], "stmtId": 5, **WRITE}, [range(5, 7)]),
        (
            {"update": "c", "updates": [{}, {}], "stmtIds": [1, 8], **WRITE},
            [range(1, 2), range(8, 9)],
        ),
        ({"findAndModify": "c", **WRITE}, [range(0, 1)]),
        ({"delete": "c", "deletes": [], **WRITE}, None),
    ],
)
def test_executed_statements(
    tracking: Tracking, document: dict[str, Any], expected: list[range] | None
) -> None:
    run(tracking, document, OK)
    assert statements(tracking) == expected


@pytest.mark.parametrize("checksum", [False, True])
def test_statements_of_a_document_sequence(tracking: Tracking, checksum: bool) -> None:
    body = build.body({"insert": "c", **WRITE, "$db": "app"})
    parts = build.sequence("other", {"a": 1}), build.sequence("documents", {"a": 1}, {}, {})
    one = read_request(build.op_msg(*parts, body, checksum=checksum))
    end(tracking, begin(tracking, one), OK)
    assert statements(tracking) == [range(0, 3)]


def test_write_errors_leave_it_open_what_was_executed(tracking: Tracking) -> None:
    run(tracking, {"insert": "c", "documents": [{}], **WRITE}, {**OK, "writeErrors": [{}]})
    assert statements(tracking) is None
    assert session(tracking).txn_number == 1


def test_a_long_batch_is_counted_only_so_far(tracking: Tracking) -> None:
    run(tracking, {"insert": "c", "documents": [{}] * 5000, **WRITE}, OK)
    assert statements(tracking) == [range(0, 1000)]


def test_looking_changes_nothing(tracking: Tracking) -> None:
    one = read_request(build.command({**FIND, "$db": "app"}))
    info = read_operation_session_info(one, AS_ALICE)
    assert tracking.session(info) is None
    begin(tracking, one)
    assert tracking.session(info) is session(tracking)


@pytest.mark.parametrize(
    "cursor",
    [1, {}, {"id": "x"}, {"id": Int64(0)}, {"id": Int64(4)}, {"id": Int64(4), "ns": 1}],
)
def test_odd_replies_are_survived(tracking: Tracking, cursor: Any) -> None:
    run(tracking, FIND, {"cursor": cursor, "ok": 1.0})
    run(tracking, {"killCursors": "c"}, {"cursorsKilled": cursor, "ok": 1.0})
    assert session(tracking).last_use == 2.0


def test_the_reply_is_not_decoded_where_bson_is_broken_inside(tracking: Tracking) -> None:
    inner = b"\x03cursor\0" + build.raw_document(b"\xeex\0")
    broken = build.raw_document(inner, bson.encode({"ok": 1.0})[4:-1])
    exchange = begin(tracking, FIND)
    assert exchange is not None
    tracking.reply(exchange, read_reply(build.reply(broken, 1)), 2.0)
    assert session(tracking).activity is None
