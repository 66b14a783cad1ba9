from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64

from proxy.embedded import sessions
from proxy.embedded.sessions import (
    SessionInfo,
    SessionKey,
    SessionStore,
    judge_transaction_fields,
    parse_array,
    parse_lsid,
    parse_session_info,
)
from proxy.errors import CommandError
from tests.embedded.support import NOW

ID = bytes(15) + b"\1"
UUID = Binary(ID, 4)
UID = bytes(32)
KEY = SessionKey(ID, UID)


def test_a_session_lives_half_an_hour_after_its_last_use() -> None:
    store = SessionStore()
    store.vivify(KEY, None, NOW)
    store.vivify(KEY, None, NOW + 1000)
    store.expire(NOW + 1000 + 1800)
    assert store.get(KEY) is not None
    store.expire(NOW + 1000 + 1801)
    assert store.get(KEY) is None


def test_use_keeps_what_the_session_is() -> None:
    store = SessionStore()
    first = store.vivify(KEY, "alice@app", NOW)
    assert store.vivify(KEY, "bob@app", NOW + 1) is first
    assert (first.user, first.last_use) == ("alice@app", NOW + 1)


def test_a_full_store_takes_no_new_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 1)
    store = SessionStore()
    store.vivify(KEY, None, NOW)
    store.vivify(KEY, None, NOW)
    other = SessionKey(bytes(16), UID)
    with pytest.raises(CommandError) as full:
        store.vivify(other, None, NOW)
    assert full.value.code == 261
    assert len(list(store)) == 1
    assert store.vivify(other, None, NOW + 1801).key == other


def test_the_text_form() -> None:
    text = "00000000-0000-0000-0000-000000000001 - AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert str(KEY) == text


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
        parse_lsid("root.lsid", lsid)
    assert wrong.value.code == code


def test_right_lsids() -> None:
    assert parse_lsid("x", {"id": UUID}) == (ID, None)
    assert parse_lsid("x", {"uid": None, "id": UUID}) == (ID, None)
    assert parse_lsid("x", {"uid": UID, "id": UUID}) == (ID, UID)


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
        parse_array("KillSessionsCmd", "killSessions", value)
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
    assert parse_array("KillSessionsCmd", "killSessions", value) == found


def test_session_info_leaves_out_nulls() -> None:
    body = {"ping": 1, "lsid": None, "txnNumber": None, "autocommit": None}
    assert parse_session_info(body) == SessionInfo()


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
        parse_session_info(body)


LSID = sessions.ClientLsid(ID, None)


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
