from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.embedded.lsids import (
    SessionInfo,
    judge_retry_counter,
    judge_transaction_fields,
    parse_array,
    parse_lsid,
    parse_session_info,
)
from proxy.embedded.sessions import ClientLsid
from proxy.embedded.versions import VERSIONS
from proxy.errors import CommandError

V4_2, V6_0, V7_0, V8_0 = (VERSIONS[name] for name in ("4.2", "6.0", "7.0", "8.0"))
ID = bytes(15) + b"\1"
UUID = Binary(ID, 4)
UID = bytes(32)


@pytest.mark.parametrize(
    ("lsid", "code"),
    [
        ({}, 40414),
        ({"id": None}, 40414),
        ({"id": UUID, "x": 1}, 40415),
        ({"id": UUID, "txnNumber": Int64(1)}, 40415),
        ({"id": "x"}, 14),
        ({"id": ID}, 14),
        ({"id": Binary(ID, 3)}, 14),
        ({"id": Binary(ID[1:], 4)}, 207),
        ({"id": UUID, "uid": "x"}, 14),
        ({"id": UUID, "uid": Binary(UID, 4)}, 14),
        ({"id": UUID, "uid": UID[1:]}, 12),
    ],
)
def test_wrong_lsids(lsid: dict[str, Any], code: int) -> None:
    with pytest.raises(CommandError) as wrong:
        parse_lsid("root.lsid", lsid, V4_2)
    assert wrong.value.code == code


def test_right_lsids() -> None:
    assert parse_lsid("x", {"id": UUID}, V4_2) == ClientLsid(ID, None)
    assert parse_lsid("x", {"uid": None, "id": UUID}, V4_2) == ClientLsid(ID, None)
    assert parse_lsid("x", {"uid": UID, "id": UUID}, V4_2) == ClientLsid(ID, UID)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1, 10065),
        (None, 10065),
        ({"x": {}}, 40422),
        ({"1": {}}, 40423),
        ([1], 14),
        ({"0": 1}, 14),
    ],
)
def test_wrong_arrays(value: Any, code: int) -> None:
    with pytest.raises(CommandError) as wrong:
        parse_array("KillSessionsCmd", "killSessions", value, V4_2)
    assert wrong.value.code == code


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([], []),
        ({}, []),
        ([None], []),
        ([{"a": 1}, None], [{"a": 1}]),
        ({"0": {"a": 1}}, [{"a": 1}]),
    ],
)
def test_right_arrays(value: Any, found: list[Any]) -> None:
    assert parse_array("KillSessionsCmd", "killSessions", value, V4_2) == found


def test_session_info_leaves_out_nulls() -> None:
    body = {"ping": 1, "lsid": None, "txnNumber": None, "autocommit": None}
    assert parse_session_info("ping", body, V4_2) == SessionInfo()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"lsid": []}, "lsid"),
        ({"txnNumber": 1}, "txnNumber"),
        ({"txnNumber": 1.0}, "txnNumber"),
        ({"autocommit": 0}, "autocommit"),
        ({"startTransaction": 1}, "startTransaction"),
    ],
)
def test_session_info_of_wrong_types(body: dict[str, Any], field: str) -> None:
    with pytest.raises(CommandError, match=f"OperationSessionInfo.{field}' is the wrong type"):
        parse_session_info("ping", body, V4_2)


LSID = ClientLsid(ID, None)


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (SessionInfo(txn_number=1), 72),
        (SessionInfo(LSID, txn_number=-1), 72),
        (SessionInfo(LSID, autocommit=False), 72),
        (SessionInfo(LSID, 1, autocommit=True), 72),
        (SessionInfo(LSID, 1, None, start_transaction=True), 72),
        (SessionInfo(LSID, 1, False, start_transaction=False), 72),
    ],
)
def test_transaction_fields_that_contradict(info: SessionInfo, code: int) -> None:
    with pytest.raises(CommandError) as wrong:
        judge_transaction_fields(info, replica_set=True)
    assert wrong.value.code == code


def test_a_standalone_takes_no_transaction_numbers() -> None:
    info = SessionInfo(LSID, 1)
    judge_transaction_fields(info, replica_set=True)
    with pytest.raises(CommandError, match="Transaction numbers are only"):
        judge_transaction_fields(info, replica_set=False)


def test_child_sessions_have_two_fields_more_from_6_0_on() -> None:
    child = {"id": UUID, "uid": UID, "txnNumber": Int64(3), "txnUUID": UUID}
    assert parse_lsid("x", child, V6_0) == ClientLsid(ID, UID, 3, ID)
    for wrong in ({**child, "txnNumber": 3}, {**child, "txnUUID": ID}):
        with pytest.raises(CommandError, match="is the wrong"):
            parse_lsid("x", wrong, V6_0)


@pytest.mark.parametrize(
    ("value", "version", "code"),
    [
        ({}, V6_0, None),
        ({}, V7_0, 14),
        ({"0": {}}, V7_0, 14),
        (1, V6_0, 10065),
        (1, V7_0, 14),
        (None, V7_0, 10065),
        (None, V8_0, 40414),
        ([None], V8_0, None),
    ],
    ids=str,
)
def test_lists_by_version(value: Any, version: Any, code: int | None) -> None:
    if code is None:
        assert parse_array("KillSessionsCmd", "killSessions", value, version) == []
        return
    with pytest.raises(CommandError) as wrong:
        parse_array("KillSessionsCmd", "killSessions", value, version)
    assert wrong.value.code == code


def test_the_session_fields_are_the_commands_own_from_8_0_on() -> None:
    with pytest.raises(CommandError, match=r"'find\.lsid\.id' is missing"):
        parse_session_info("find", {"lsid": {}}, V8_0)


@pytest.mark.parametrize(
    ("info", "internal", "text"),
    [
        (SessionInfo(txn_retry_counter=1), False, "only allowed for internal clients"),
        (SessionInfo(txn_retry_counter=1), True, "only supported in transactions"),
        (SessionInfo(autocommit=False, txn_retry_counter=-1), True, "cannot be negative"),
    ],
)
def test_retry_counters(info: SessionInfo, internal: bool, text: str) -> None:
    with pytest.raises(CommandError, match=text) as wrong:
        judge_retry_counter(info, internal=internal)
    assert wrong.value.code == 72
