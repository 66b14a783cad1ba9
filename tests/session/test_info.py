from __future__ import annotations

from dataclasses import replace
from typing import Any

import bson
import pytest
from bson import Binary, Int64
from hypothesis import given
from hypothesis import strategies as st

from proxy.session import refusals
from proxy.session.caller import Caller
from proxy.session.identity import NO_OWNER
from proxy.session.idl import MAX_ENTRIES
from proxy.session.ids import LogicalSessionId, child_fields
from proxy.session.info import NO_SESSION, OperationSessionInfo, read_operation_session_info
from proxy.wire.messages import read_request
from proxy.wire.replies import command_frame
from tests import build
from tests.effort import milliseconds
from tests.session.sessions import (
    ALICE,
    ANYBODY,
    AS_ALICE,
    BOB,
    IMPERSONATOR,
    NOBODY,
    caller,
    info,
    lsid,
    request,
    uuid,
)

ONE = Int64(1)
NO_TXN_HERE = "It is illegal to provide a txnNumber for this command"
MONGOS = caller("__system@local", may=("anyAction",))
NOT_HERE = "This command is not supported in transactions"
TWO = Binary(uuid(2), 4)


def key(number: int = 2, uid: bytes = ALICE) -> LogicalSessionId:
    return LogicalSessionId(uuid(number), uid)


@pytest.mark.parametrize(
    ("document", "who", "expected"),
    [
        ({"find": "c"}, AS_ALICE, OperationSessionInfo()),
        ({"find": "c", "lsid": lsid()}, AS_ALICE, OperationSessionInfo(key())),
        ({"ping": 1, "lsid": lsid()}, AS_ALICE, OperationSessionInfo(key())),
        ({"find": "c", "lsid": lsid(2, ALICE)}, AS_ALICE, OperationSessionInfo(key())),
        ({"find": "c", "lsid": None}, AS_ALICE, OperationSessionInfo()),
        ({"find": "c", "lsid": lsid()}, ANYBODY, OperationSessionInfo(key(2, NO_OWNER))),
        ({"find": "c", "lsid": lsid(2, BOB)}, ANYBODY, OperationSessionInfo(key(2, BOB))),
        (
            {"find": "c", "lsid": lsid()},
            caller("alice@app", authorization=False),
            OperationSessionInfo(key(2, NO_OWNER)),
        ),
        (
            {"find": "c", "lsid": lsid(2, BOB)},
            caller("alice@app", may=("impersonate",)),
            OperationSessionInfo(key(2, BOB)),
        ),
        ({"ping": 1, "lsid": lsid()}, NOBODY, OperationSessionInfo()),
        (
            {"insert": "c", "lsid": lsid(), "txnNumber": ONE},
            AS_ALICE,
            OperationSessionInfo(key(), 1),
        ),
        (
            {
                "insert": "c",
                "lsid": lsid(),
                "txnNumber": ONE,
                "autocommit": False,
                "startTransaction": True,
            },
            AS_ALICE,
            OperationSessionInfo(key(), 1, False, True),
        ),
        (
            {"insert": "c", "lsid": lsid(), "txnNumber": ONE, "stmtIds": [0, 7]},
            AS_ALICE,
            OperationSessionInfo(key(), 1, stmt_ids=(0, 7)),
        ),
        (
            {"insert": "c", "lsid": lsid(), "txnNumber": ONE, "stmtId": 4},
            AS_ALICE,
            OperationSessionInfo(key(), 1, stmt_id=4),
        ),
        (
            {"findAndModify": "c", "lsid": lsid(), "txnNumber": ONE, "stmtId": 4},
            AS_ALICE,
            OperationSessionInfo(key(), 1, stmt_id=4),
        ),
    ],
)
def test_well_formed(document: dict[str, Any], who: Caller, expected: OperationSessionInfo) -> None:
    assert info(document, who) == expected


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "lsid": st.sampled_from(
                [lsid(), lsid(2, ALICE), lsid(2, BOB), {**lsid(2, ALICE), "x": 1}, None, 1]
            ),
            "txnNumber": st.sampled_from([ONE, Int64(-1), Int64(0), 1, None]),
            "autocommit": st.sampled_from([False, True, None, 1]),
            "startTransaction": st.sampled_from([True, False, None, 1]),
            "stmtId": st.sampled_from([0, -1, "x"]),
            "stmtIds": st.sampled_from([[0, 1], [1, 1], 1]),
        },
    ),
    st.sampled_from(["find", "insert", "ping", "commitTransaction", "killSessions"]),
    st.sampled_from(
        [
            AS_ALICE,
            ANYBODY,
            NOBODY,
            IMPERSONATOR,
            MONGOS,
            caller(authorization=None),
            caller("alice@app", authorization=None),
            caller("alice@app", has_transactions=False),
            caller("a" * 10_000 + "@b"),
        ]
    ),
)
def test_the_usual_fields_are_read_as_all_others(
    fields: dict[str, Any], command: str, who: Caller
) -> None:
    one = request({command: 1, **fields}, "app")
    found = read_operation_session_info(one, who)
    if one.layout.usual and not one.layout.txn_number:
        # Statement ids mean nothing without a number, and nobody looks at them.
        one = request({command: 1, "lsid": fields["lsid"]}, "app")
    one.layout = replace(one.layout, usual=False, orderly=False)
    assert read_operation_session_info(one, who) == found


@pytest.mark.parametrize("more", [{}, {"txnNumber": ONE}])
def test_a_servers_child_session_is_its_parents(more: dict[str, Any]) -> None:
    child = {**lsid(2, BOB), **more, "txnUUID": TWO}
    one = {"find": "c", "lsid": child, "txnNumber": Int64(0), "autocommit": False}
    expected = OperationSessionInfo(key(2, BOB), 0, False)
    expected.child = child_fields(1 if more else None, TWO)
    assert info(one, MONGOS) == expected
    # Nobody else may, and it may be nothing else.
    for who in (AS_ALICE, IMPERSONATOR):
        assert info(one, who).malformed is not None
    for other in ({**child, "txnUUID": Binary(uuid(2), 3)}, {**child, "txnUUID": 1}):
        assert info({**one, "lsid": other}, MONGOS).malformed is not None


CHILD: dict[str, Any] = {**lsid(2, ALICE), "txnUUID": TWO}
RETRIED: dict[str, Any] = {**lsid(2, ALICE), "txnNumber": Int64(7), "txnUUID": TWO}
IN_TRANSACTION: dict[str, Any] = {"txnNumber": Int64(0), "autocommit": False}
#: Who may use child sessions: servers, and everybody where nobody asks who it is.
INTERNAL = ("__system@local", "router@admin", "anybody")


def since_6_0(who: str, wire_version: int | None = 17) -> Caller:
    actions = {"router@admin": ("internal", "impersonate"), "__system@local": ("anyAction",)}
    if who == "anybody":
        return caller(authorization=False, wire_version=wire_version)
    return caller(who, may=actions.get(who, ()), wire_version=wire_version)


@pytest.mark.parametrize("wire_version", [17, 21, 25, 27])
@pytest.mark.parametrize("who", INTERNAL)
@pytest.mark.parametrize("child", [CHILD, RETRIED])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_child_session_is_read_alike_in_every_form(
    wire_version: int, who: str, child: dict[str, Any], ordered: bool
) -> None:
    expected = OperationSessionInfo(key(2, ALICE), 0, False)
    expected.child = child_fields(7 if child is RETRIED else None, TWO)
    form = child if ordered else dict(reversed(child.items()))
    one = {"find": "c", "lsid": form, **IN_TRANSACTION}
    assert info(one, since_6_0(who, wire_version)) == expected


def test_where_nobody_knows_whether_a_login_is_needed_upstream_decides() -> None:
    unknown = caller(authorization=None, wire_version=21)
    found = info({"find": "c", "lsid": CHILD, **IN_TRANSACTION}, unknown)
    assert (found.malformed, found.txn_number) == (None, 0)
    assert found.child == child_fields(None, TWO)
    known = caller("alice@app", authorization=None, wire_version=21)
    found = info({"find": "c", "lsid": CHILD, **IN_TRANSACTION}, known)
    assert found.malformed == refusals.CHILD_OF_CLIENT


@pytest.mark.parametrize("who", ["alice@app", *INTERNAL])
@pytest.mark.parametrize("wire_version", [None, 8, 13, 16])
def test_servers_before_6_0_know_no_children(who: str, wire_version: int | None) -> None:
    if wire_version is None and who in INTERNAL[:2]:
        pytest.skip("what a server sends is right")
    found = info({"find": "c", "lsid": CHILD, **IN_TRANSACTION}, since_6_0(who, wire_version))
    assert found.malformed is not None
    path = "OperationSessionInfo.lsid.txnUUID"
    assert found.malformed.code == 40415
    assert found.malformed.errmsg == f"BSON field '{path}' is an unknown field."
    assert found.child == b""


NO_PARENT = "Cannot specify txnNumber in lsid without specifying txnUUID"
NOT_FOR_CLIENTS = "Internal sessions are only allowed for internal clients"
NOT_ALONE = "Internal sessions are not supported outside of transactions"
PATH = "BSON field 'OperationSessionInfo.lsid"


@pytest.mark.parametrize("wire_version", [17, 21, 25, 27])
@pytest.mark.parametrize(
    ("document", "who", "code", "errmsg"),
    [
        ({"lsid": CHILD, **IN_TRANSACTION}, "alice@app", 72, NOT_FOR_CLIENTS),
        ({"lsid": RETRIED, **IN_TRANSACTION}, "alice@app", 72, NOT_FOR_CLIENTS),
        ({"lsid": {**lsid(2), "txnUUID": TWO}}, "alice@app", 72, NOT_FOR_CLIENTS),
        ({"lsid": CHILD, "txnNumber": ONE}, "alice@app", 72, NOT_FOR_CLIENTS),
        ({"lsid": {**lsid(2), "txnNumber": ONE}}, "alice@app", 72, NO_PARENT),
        ({"lsid": {**lsid(2), "txnNumber": ONE}}, "router@admin", 72, NO_PARENT),
        ({"lsid": {**lsid(2), "txnNumber": ONE}}, "anybody", 72, NO_PARENT),
        ({"lsid": {**lsid(2, BOB), "txnNumber": ONE}}, "alice@app", 72, NO_PARENT),
        (
            {"lsid": {**lsid(2, BOB), "txnUUID": TWO}, **IN_TRANSACTION},
            "alice@app",
            13,
            "Unauthorized to set user digest in LogicalSessionId",
        ),
        ({"lsid": CHILD}, "router@admin", 72, NOT_ALONE),
        ({"lsid": CHILD}, "anybody", 72, NOT_ALONE),
        ({"lsid": CHILD, "txnNumber": ONE}, "__system@local", 72, NOT_ALONE),
        ({"lsid": CHILD, "autocommit": False}, "router@admin", 72, NOT_ALONE),
        ({"lsid": CHILD, "txnNumber": ONE, "autocommit": True}, "router@admin", 72, NOT_ALONE),
        (
            {"lsid": CHILD, "txnNumber": Int64(-1), "autocommit": False},
            "router@admin",
            72,
            "Transaction number cannot be negative",
        ),
        (
            {"lsid": {**CHILD, "txnNumber": 1}},
            "router@admin",
            14,
            f"{PATH}.txnNumber' is the wrong type 'int', expected type 'long'",
        ),
        (
            {"lsid": {**lsid(2), "txnUUID": "x"}},
            "alice@app",
            14,
            f"{PATH}.txnUUID' is the wrong type 'string', expected type 'binData'",
        ),
        (
            {"lsid": {**lsid(2), "txnUUID": Binary(bytes(16), 3)}},
            "alice@app",
            14,
            f"{PATH}.txnUUID' is the wrong bindData type 'UUID(deprecated)', expected type 'UUID'",
        ),
        ({"lsid": {**CHILD, "x": 1}}, "router@admin", 40415, f"{PATH}.x' is an unknown field."),
        (
            {"lsid": {"txnUUID": TWO}},
            "router@admin",
            40414,
            f"{PATH}.id' is missing but a required field",
        ),
        (
            {"lsid": lsid(2), "txnRetryCounter": 0, **IN_TRANSACTION},
            "alice@app",
            72,
            "txnRetryCounter is only allowed for internal clients",
        ),
        (
            {"lsid": lsid(2), "txnRetryCounter": 0},
            "router@admin",
            72,
            "txnRetryCounter is only supported in transactions",
        ),
        (
            {"lsid": CHILD, "txnRetryCounter": -1, **IN_TRANSACTION},
            "router@admin",
            72,
            "Transaction retry counter cannot be negative",
        ),
        (
            {"lsid": CHILD, "txnRetryCounter": "x", **IN_TRANSACTION},
            "router@admin",
            14,
            "BSON field 'OperationSessionInfo.txnRetryCounter' is the wrong type 'string', "
            "expected type 'int'",
        ),
    ],
)
def test_what_is_wrong_with_child_sessions(
    wire_version: int, document: dict[str, Any], who: str, code: int, errmsg: str
) -> None:
    found = info({"find": "c", **document}, since_6_0(who, wire_version))
    assert found.malformed is not None
    assert (found.malformed.code, found.malformed.errmsg) == (code, errmsg)


@pytest.mark.parametrize("who", ["alice@app", "router@admin"])
@pytest.mark.parametrize("lsid_", [CHILD, RETRIED])
def test_a_child_that_is_refused_leaves_no_session(who: str, lsid_: dict[str, Any]) -> None:
    found = info({"find": "c", "lsid": lsid_}, since_6_0(who))
    assert found.unparsed
    assert found.child == b""


def test_a_null_is_no_field_of_a_childs() -> None:
    none = {**lsid(2, ALICE), "txnUUID": None, "txnNumber": None}
    assert info({"find": "c", "lsid": none}, since_6_0("alice@app")) == OperationSessionInfo(
        key(2, ALICE)
    )


@pytest.mark.parametrize("none", [{"txnUUID": None}, {"txnNumber": None}])
def test_where_the_version_is_unknown_a_null_may_be_no_field(none: dict[str, Any]) -> None:
    """A transaction that some version begins is not to go unseen."""
    asked = {"find": "c", "lsid": {**lsid(2, ALICE), **none}, **IN_TRANSACTION}
    found = info(asked, AS_ALICE)
    assert found.malformed is None
    assert (found.lsid, found.autocommit) == (key(2, ALICE), False)


def test_kills_do_not_look_at_the_child_that_they_come_in() -> None:
    found = info({"killSessions": [], "lsid": CHILD, **IN_TRANSACTION}, since_6_0("alice@app"))
    assert (found.malformed, found.txn_number, found.child) == (None, None, b"")


@pytest.mark.parametrize("who", INTERNAL)
@pytest.mark.parametrize(
    ("ids", "allowed"),
    [
        ({"stmtIds": [-1]}, True),
        ({"stmtIds": [-1, -1]}, True),
        ({"stmtIds": [-1, 0, -1, 5]}, True),
        ({"stmtId": -1}, True),
        ({"stmtIds": [0, 0]}, False),
        ({"stmtIds": [-2]}, False),
        ({"stmtId": -2}, False),
        ({"stmtIds": [-1, 3, 2]}, False),
    ],
)
def test_statements_of_a_childs_that_are_not_remembered(
    who: str, ids: dict[str, Any], allowed: bool
) -> None:
    insert = {"insert": "c", "documents": [{}, {}], **ids, **IN_TRANSACTION}
    found = info({**insert, "lsid": CHILD}, since_6_0(who))
    assert (found.forbidden is None) is allowed
    # Nobody else gives such ids, and they do so nowhere else.
    assert info({**insert, "lsid": lsid(2, ALICE)}, since_6_0(who)).forbidden is not None
    assert info({**insert, "lsid": CHILD}, since_6_0(who, 13)).forbidden is not None
    client = info({**insert, "lsid": CHILD}, since_6_0("alice@app"))
    assert client.forbidden == client.malformed
    assert client.malformed is not None
    assert (client.malformed.code, client.malformed.errmsg) == (72, NOT_FOR_CLIENTS)


def test_nothing_is_made_for_requests_without_session_fields() -> None:
    assert info({"find": "c"}) is NO_SESSION


MALFORMED: list[tuple[dict[str, Any], Caller, int, str]] = [
    ({"find": "c", "lsid": lsid()}, NOBODY, 13, "command find requires authentication"),
    ({"find": "c", "lsid": 1}, NOBODY, 13, "command find requires authentication"),
    (
        {"ping": 1, "lsid": 1},
        NOBODY,
        14,
        "BSON field 'OperationSessionInfo.lsid' is the wrong type 'int', expected type 'object'",
    ),
    ({"ping": 1, "lsid": lsid(), "txnNumber": ONE}, NOBODY, 50889, NO_TXN_HERE),
    ({"ping": 1, "txnNumber": Int64(-1)}, AS_ALICE, 50889, NO_TXN_HERE),
    ({"ping": 1, "txnNumber": ONE, "autocommit": False}, AS_ALICE, 263, NOT_HERE),
    ({"ping": 1, "lsid": lsid(2, BOB), "txnNumber": ONE}, AS_ALICE, 50889, NO_TXN_HERE),
    (
        {"find": "c", "lsid": lsid(2, BOB), "txnNumber": Int64(-1)},
        AS_ALICE,
        13,
        "Unauthorized to set user digest in LogicalSessionId",
    ),
    (
        {"find": "c", "lsid": lsid()},
        caller("a@b", "c@d"),
        13,
        "too many users are authenticated",
    ),
    (
        {"find": "c", "lsid": lsid()},
        caller("a" * 9999 + "@admin"),
        2,
        "Username too long to use with logical sessions",
    ),
    (
        {"find": "c", "txnNumber": ONE},
        AS_ALICE,
        72,
        "Transaction number requires a session ID to also be specified",
    ),
    (
        {"find": "c", "lsid": None, "txnNumber": Int64(-1)},
        AS_ALICE,
        72,
        "Transaction number requires a session ID to also be specified",
    ),
    (
        {"find": "c", "lsid": lsid(), "txnNumber": Int64(-1)},
        AS_ALICE,
        72,
        "Transaction number cannot be negative",
    ),
    (
        {"find": "c", "lsid": lsid(), "txnNumber": Int64(-1)},
        caller("alice@app", has_transactions=False),
        20,
        "Transaction numbers are only allowed on a replica set member or mongos",
    ),
    (
        {"find": "c", "lsid": lsid(), "txnNumber": 1},
        AS_ALICE,
        14,
        "BSON field 'OperationSessionInfo.txnNumber' is the wrong type 'int', expected type 'long'",
    ),
    (
        {"find": "c", "txnNumber": "1", "lsid": 1},
        AS_ALICE,
        14,
        "BSON field 'OperationSessionInfo.txnNumber' is the wrong type 'string',"
        " expected type 'long'",
    ),
    (
        {"find": "c", "lsid": lsid(), "autocommit": 0},
        AS_ALICE,
        14,
        "BSON field 'OperationSessionInfo.autocommit' is the wrong type 'int',"
        " expected type 'bool'",
    ),
    (
        {"find": "c", "lsid": lsid(), "startTransaction": 1.0},
        AS_ALICE,
        14,
        "BSON field 'OperationSessionInfo.startTransaction' is the wrong type 'double',"
        " expected type 'bool'",
    ),
    (
        {"find": "c", "lsid": lsid(), "autocommit": True},
        AS_ALICE,
        72,
        "'autocommit' field requires a transaction number to also be specified",
    ),
    (
        {"find": "c", "lsid": lsid(), "txnNumber": ONE, "autocommit": True},
        AS_ALICE,
        72,
        "Specifying autocommit=true is not allowed.",
    ),
    (
        {"find": "c", "lsid": lsid(), "startTransaction": False},
        AS_ALICE,
        72,
        "'startTransaction' field requires 'autocommit' field to also be specified",
    ),
    (
        {
            "find": "c",
            "lsid": lsid(),
            "txnNumber": ONE,
            "autocommit": False,
            "startTransaction": False,
        },
        AS_ALICE,
        72,
        "Specifying startTransaction=false is not allowed.",
    ),
    (
        {"insert": "c", "lsid": lsid(), "txnNumber": ONE, "stmtIds": [ONE]},
        AS_ALICE,
        14,
        "BSON field 'insert.stmtIds.0' is the wrong type 'long', expected type 'int'",
    ),
    (
        {"update": "c", "lsid": lsid(), "txnNumber": ONE, "stmtId": "x"},
        AS_ALICE,
        14,
        "BSON field 'update.stmtId' is the wrong type 'string', expected type 'int'",
    ),
    (
        {"insert": "c", "lsid": lsid(), "txnNumber": ONE, "stmtIds": 1},
        AS_ALICE,
        10065,
        "invalid parameter: expected an object (stmtIds)",
    ),
    (
        {"insert": "c", "lsid": lsid(), "txnNumber": ONE, "stmtIds": [1], "stmtId": 1},
        AS_ALICE,
        72,
        "May not specify both stmtId and stmtIds in write command",
    ),
]


@pytest.mark.parametrize(("document", "who", "code", "errmsg"), MALFORMED)
def test_malformed(document: dict[str, Any], who: Caller, code: int, errmsg: str) -> None:
    found = info(document, who)
    assert found.malformed is not None
    assert (found.malformed.code, found.malformed.errmsg) == (code, errmsg)
    # What a server would work under if it took the request all the same.
    named = document.get("lsid") == lsid() and who.digest == ALICE
    assert found.lsid == (key() if named else None)
    assert found.unparsed == ("OperationSessionInfo" in errmsg)
    assert not found.malformed.labels


@pytest.mark.parametrize("name", ["lsid", "txnNumber", "autocommit", "startTransaction"])
def test_session_fields_given_twice(name: str) -> None:
    values = {"lsid": lsid(), "txnNumber": ONE, "autocommit": False, "startTransaction": True}
    elements = [build.element("find", "c")]
    elements += [build.element(one, value) for one, value in values.items()]
    elements += [build.element(name, values[name]), build.element("$db", "app")]
    one = request(build.raw_document(*elements))
    found = read_operation_session_info(one, AS_ALICE).malformed
    assert found is not None
    assert (found.code, found.errmsg) == (
        40413,
        f"BSON field 'OperationSessionInfo.{name}' is a duplicate field",
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"stmtIds": [5, 5]}, "stmtIds must be strictly increasing"),
        ({"stmtIds": [5, 4]}, "stmtIds must be strictly increasing"),
        ({"stmtIds": [0, 1, 2, 2]}, "stmtIds must be strictly increasing"),
        ({"stmtIds": [-1, 0]}, "stmtIds cannot be negative"),
        ({"stmtIds": [0, -2]}, "stmtIds cannot be negative"),
        ({"stmtId": -1}, "stmtId cannot be negative"),
        ({"stmtIds": {"0": 5, "1": 5}}, "stmtIds must be strictly increasing"),
        ({"stmtIds": [5, None, 5]}, "stmtIds must be strictly increasing"),
        ({"stmtIds": {"0x0": 5, "01": 5}}, "stmtIds must be strictly increasing"),
    ],
)
@pytest.mark.parametrize("command", ["insert", "update", "delete", "findAndModify", "bulkWrite"])
def test_against_the_manual(fields: dict[str, Any], reason: str, command: str) -> None:
    found = info({command: "c", "lsid": lsid(), "txnNumber": ONE, **fields})
    assert found.malformed is None
    assert found.forbidden is not None
    assert (found.forbidden.code, found.forbidden.code_name) == (2, "BadValue")
    assert found.forbidden.errmsg == reason


@pytest.mark.parametrize(
    "document",
    [
        {"insert": "c", "lsid": lsid(), "stmtIds": [5, 5]},
        {"insert": "c", "stmtIds": [5, 5]},
        {"insert": "c", "lsid": lsid(), "txnNumber": ONE, "stmtIds": []},
        {"insert": "c", "lsid": lsid(), "txnNumber": ONE, "stmtIds": None, "stmtId": None},
    ],
)
def test_statement_ids_count_only_with_a_txn_number(document: dict[str, Any]) -> None:
    found = info(document)
    assert found.forbidden is None
    assert found.malformed is None


def test_the_query_wrapper_hides_nothing() -> None:
    inner = {"find": "c", "lsid": lsid(), "txnNumber": Int64(-1)}
    one = read_request(build.op_query("app.$cmd", {"$query": inner}))
    found = read_operation_session_info(one, AS_ALICE).malformed
    assert found is not None
    assert found.errmsg == "Transaction number cannot be negative"


@given(
    st.dictionaries(
        st.sampled_from(["lsid", "txnNumber", "autocommit", "startTransaction", "stmtIds"]),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**31), 2**31 - 1)
            | st.binary(max_size=40)
            | st.builds(Binary, st.binary(min_size=15, max_size=33), st.integers(0, 6))
            | st.builds(Int64, st.integers(-5, 5)),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["id", "uid", "x", "0"]), inner, max_size=3)
            ),
        ),
    ),
    st.sampled_from(["find", "insert", "ping"]),
    st.sampled_from([AS_ALICE, NOBODY, ANYBODY, caller("a@b", "c@d")]),
)
def test_anything_is_read_without_raising(
    fields: dict[str, Any], command: str, who: Caller
) -> None:
    found = info({command: "c", **fields}, who)
    if found.lsid is not None:
        assert isinstance(fields["lsid"], dict)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_as_an_lsid_are_read_without_raising(payload: bytes) -> None:
    sized = (len(payload) + 5).to_bytes(4, "little") + payload + b"\0"
    document = build.raw_document(
        build.element("find", "c"), b"\x03lsid\0" + sized, build.element("$db", "app")
    )
    one = read_request(command_frame(1, document))
    if one.command:
        read_operation_session_info(one, AS_ALICE)
    else:
        assert one.problem


@pytest.mark.parametrize("name", ["stmtId", "stmtIds"])
def test_wrong_statements_are_seen_beside_nothing_but_an_lsid(name: str) -> None:
    found = info({"insert": "c", "lsid": lsid(), name: "x"}, AS_ALICE)
    assert found.malformed is not None
    assert found.lsid == key()


@pytest.mark.parametrize(
    "name", ["find", "getMore", "count", "ping", "endSessions", "commitTransaction"]
)
@pytest.mark.parametrize("ids", [{"stmtId": "x"}, {"stmtIds": ["x"]}, {"stmtIds": 5, "stmtId": 1}])
def test_statement_ids_do_not_matter_to_commands_that_ignore_them(
    name: str, ids: dict[str, Any]
) -> None:
    for number in ({}, {"txnNumber": ONE}):
        plain, found = (info({name: 1, "lsid": lsid(), **number, **more}) for more in ({}, ids))
        assert found == plain


DOUBLED: list[dict[str, Any]] = [
    {"stmtIds": [1, 1]},
    {"stmtIds": [ONE, 1]},
    {"stmtIds": [1.0, 1]},
    {"stmtIds": ["x", 1, 1]},
    {"stmtIds": {"x": 1, "y": 1}},
    {"stmtIds": [-1, "x"]},
    {"stmtIds": [1, 1], "stmtId": 1},
    {"stmtIds": [1], "stmtId": -1},
    {"stmtId": Int64(-1)},
    {"stmtId": -0.5},
]
WRONG: list[tuple[dict[str, Any], Caller]] = [
    ({"lsid": lsid(), "txnNumber": 1}, AS_ALICE),
    ({"lsid": lsid(), "txnNumber": "x"}, AS_ALICE),
    ({"lsid": lsid(), "txnNumber": Int64(-1)}, AS_ALICE),
    ({"lsid": 5, "txnNumber": ONE}, AS_ALICE),
    ({"lsid": {}, "txnNumber": ONE}, AS_ALICE),
    ({"txnNumber": ONE}, AS_ALICE),
    ({"lsid": lsid(2, BOB), "txnNumber": ONE}, AS_ALICE),
    ({"lsid": lsid(), "txnNumber": ONE, "autocommit": True}, AS_ALICE),
    ({"lsid": lsid(), "txnNumber": ONE, "startTransaction": "x"}, AS_ALICE),
    ({"lsid": lsid(), "txnNumber": ONE}, NOBODY),
    ({"lsid": lsid(), "txnNumber": ONE}, caller("a@b", "c@d")),
    ({"lsid": lsid(), "txnNumber": ONE}, caller("alice@app", has_transactions=False)),
]


@pytest.mark.parametrize(("fields", "who"), WRONG)
@pytest.mark.parametrize("ids", DOUBLED)
@pytest.mark.parametrize("command", ["insert", "update", "delete", "findAndModify", "bulkWrite"])
def test_statement_ids_are_judged_whatever_else_is_wrong(
    fields: dict[str, Any], who: Caller, ids: dict[str, Any], command: str
) -> None:
    for document in ({command: "c", **fields, **ids}, {command: "c", **ids, **fields}):
        found = info(document, who)
        assert found.malformed is not None
        assert found.forbidden is not None
        assert found.forbidden.code == 2


def test_statement_ids_given_twice_are_judged_both() -> None:
    good, bad = build.element("stmtIds", [0, 1]), build.element("stmtIds", [1, 1])
    around = build.element("insert", "c"), build.element("lsid", lsid())
    for lists in ((good, bad), (bad, good)):
        document = build.raw_document(
            *around, build.element("txnNumber", ONE), *lists, build.element("$db", "t")
        )
        found = read_operation_session_info(request(document), AS_ALICE)
        assert found.forbidden is not None
        assert found.malformed is not None
        assert found.malformed.errmsg == "BSON field 'insert.stmtIds' is a duplicate field"


@pytest.mark.parametrize("other", [b"\x0atxnNumber\0", b"\x06txnNumber\0"])
def test_a_txn_number_counts_beside_one_that_is_null(other: bytes) -> None:
    ids, number = build.element("stmtIds", [1, 1]), build.element("txnNumber", ONE)
    around = build.element("insert", "c"), build.element("lsid", lsid()), ids
    for numbers in ((other, number), (number, other)):
        document = build.raw_document(*around, *numbers, build.element("$db", "t"))
        found = read_operation_session_info(request(document), AS_ALICE)
        assert found.forbidden is not None
        assert found.malformed is not None


def test_more_statement_ids_than_a_batch_has_cannot_be_judged() -> None:
    listed = build.raw_document(b"\x100\0\0\0\0\0" * (MAX_ENTRIES + 1))
    document = build.raw_document(
        build.element("insert", "c"),
        build.element("txnNumber", ONE),
        b"\x04stmtIds\0" + listed,
        build.element("$db", "t"),
    )
    found = read_operation_session_info(request(document), AS_ALICE)
    assert found.forbidden is not None
    assert found.malformed is not None


@pytest.mark.parametrize(
    ("lists", "judged"),
    [
        ([range(MAX_ENTRIES)], True),
        ([range(MAX_ENTRIES), range(MAX_ENTRIES)], False),
        ([[Int64(one) for one in range(1_000)]], True),
        ([[Int64(one) for one in range(2_000)]], False),
        ([[None] * 900] * 2, True),
        ([[None] * 900] * 20, False),
    ],
)
def test_no_more_statement_ids_are_judged_than_can_be_without_others_waiting(
    lists: list[Any], judged: bool
) -> None:
    document = build.raw_document(
        build.element("insert", "c"),
        build.element("txnNumber", ONE),
        *(build.element("stmtIds", list(one)) for one in lists),
        build.element("$db", "t"),
    )
    sent = request(document)
    found = read_operation_session_info(sent, AS_ALICE).forbidden
    too_many = refusals.bad_value("stmtIds are too many to be judged")
    assert found == (None if judged else too_many)
    assert milliseconds(lambda: read_operation_session_info(sent, AS_ALICE)) < 60


ID = build.element("id", TWO)


@pytest.mark.parametrize(
    ("inner", "code", "named", "ambiguous"),
    [
        # Up to 4.0 the all-zero session, which everybody would share.
        ((build.element("id", None),), 40414, False, True),
        ((b"\x06id\0",), 40414, False, True),
        ((build.element("id", None), build.element("uid", ALICE)), 40414, False, True),
        ((), 40414, False, False),
        ((build.element("uid", ALICE),), 40414, False, False),
        # Child sessions, from 6.0 on.
        ((ID, build.element("txnUUID", TWO)), 40415, True, False),
        ((ID, build.element("txnNumber", ONE), build.element("txnUUID", TWO)), 40415, True, False),
        ((ID, b"\x06x\0"), 40415, True, False),
        ((build.element("x", 1), ID), 40415, True, False),
        ((ID, ID), 40413, True, False),
        ((ID, build.element("id", None)), 40413, True, False),
        ((ID, build.element("uid", None), build.element("uid", BOB)), 40413, True, False),
        # No version has ever taken these.
        ((build.element("id", "x"),), 14, False, False),
        ((build.element("id", Binary(bytes(16), 3)),), 14, False, False),
        ((build.element("id", Binary(bytes(15), 4)),), 207, False, False),
        ((ID, build.element("uid", "x")), 14, False, False),
        ((ID, build.element("uid", b"x")), 12, False, False),
    ],
)
def test_every_session_that_some_version_sees_is_seen(
    inner: tuple[bytes, ...], code: int, named: bool, ambiguous: bool
) -> None:
    for late in ((), (build.element("startTransaction", 5),)):
        for around in ((late, ()), ((), late)):
            document = build.raw_document(
                build.element("find", "c"),
                *around[0],
                b"\x03lsid\0" + build.raw_document(*inner),
                *around[1],
                build.element("$db", "t"),
            )
            found = read_operation_session_info(request(document), AS_ALICE)
            assert found.malformed is not None
            assert found.malformed.code == (14 if around[0] else code)
            assert found.unparsed
            assert found.lsid == (key() if named else None)
            assert (found.ambiguous is not None) is ambiguous
            assert found.ambiguous is None or found.ambiguous.code == 40414


def test_the_frame_is_not_touched() -> None:
    document = bson.encode({"find": "c", "lsid": lsid(), "$db": "app"})
    one = request(document)
    read_operation_session_info(one, AS_ALICE)
    assert one.body_bytes() == document


def test_a_refusal_keeps_no_request_alive() -> None:
    """Errors that are made once and raised often must not collect tracebacks."""
    for _ in range(3):
        found = info({"find": "c", "txnNumber": Int64(1)}, AS_ALICE)
        assert found.malformed == refusals.TXN_WITHOUT_LSID
        assert found.malformed.__traceback__ is None
    assert refusals.TXN_WITHOUT_LSID.__traceback__ is None
