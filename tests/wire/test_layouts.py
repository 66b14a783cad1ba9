from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64

from proxy.errors import WireError
from proxy.wire.layouts import TO_CHILD, TO_UID, Answer, Command, read_answer, read_command
from tests.build import element, raw_document

LSID = {"id": Binary(b"0123456789abcdef", 4)}
ONE = Int64(1)


def command(*elements: tuple[str, Any]) -> tuple[Command, bytes]:
    data = raw_document(*(element(name, value) for name, value in elements))
    reading = read_command(b"head" + data, 4, 4 + len(data))
    assert list(reading.fields) == list(dict.fromkeys(name.encode() for name, _ in elements))
    return reading.layout, data


def answer(document: dict[str, Any]) -> tuple[Answer, bytes]:
    data = bson.encode(document)
    return read_answer(data, 0, len(data)).layout, data


def test_a_command_has_a_name() -> None:
    assert command(("find", "c"), ("$db", "d"))[0].name == "find"
    with pytest.raises(WireError, match="empty"):
        command()


def test_session_fields_as_drivers_write_them() -> None:
    layout, data = command(
        ("find", "c"),
        ("lsid", LSID),
        ("txnNumber", Int64(7)),
        ("autocommit", False),
        ("startTransaction", True),
    )
    assert data[layout.session_id : layout.session_id + 16] == bytes(LSID["id"])
    assert int.from_bytes(data[layout.txn_number : layout.txn_number + 8], "little") == 7
    assert (layout.autocommit, layout.start_transaction) == (False, True)


@pytest.mark.parametrize(
    ("fields", "sessionless", "usual"),
    [
        ([], True, False),
        ([("stmtId", 1)], True, False),
        ([("lsid", LSID)], False, True),
        ([("lsid", LSID), ("txnNumber", ONE)], False, True),
        ([("lsid", LSID), ("txnNumber", ONE), ("autocommit", False)], False, True),
        (
            [
                ("lsid", LSID),
                ("txnNumber", ONE),
                ("autocommit", False),
                ("startTransaction", True),
            ],
            False,
            True,
        ),
        ([("lsid", None)], False, False),
        ([("lsid", {**LSID, "uid": Binary(bytes(32))})], False, False),
        ([("lsid", {"id": Binary(bytes(16), 3)})], False, False),
        ([("lsid", LSID), ("lsid", LSID)], False, False),
        ([("lsid", LSID), ("x", 1), ("x", 2)], False, False),
        ([("txnNumber", ONE)], False, False),
        ([("lsid", LSID), ("txnNumber", 1)], False, False),
        ([("lsid", LSID), ("stmtId", 1)], False, False),
        ([("lsid", LSID), ("txnNumber", ONE), ("stmtId", 1)], False, False),
        ([("lsid", LSID), ("txnNumber", ONE), ("stmtIds", [1])], False, False),
        ([("lsid", LSID), ("autocommit", False)], False, False),
        ([("lsid", LSID), ("txnNumber", ONE), ("autocommit", True)], False, False),
        ([("lsid", LSID), ("txnNumber", ONE), ("autocommit", None)], False, False),
        ([("lsid", LSID), ("txnNumber", ONE), ("startTransaction", True)], False, False),
    ],
)
def test_which_are_usual(fields: list[tuple[str, Any]], sessionless: bool, usual: bool) -> None:
    layout, _ = command(("find", "c"), *fields)
    assert (layout.sessionless, layout.usual) == (sessionless, usual)


UID = {"uid": bytes(range(32))}
CHILD = {"txnUUID": Binary(b"fedcba9876543210", 4)}


@pytest.mark.parametrize(
    ("more", "child"),
    [({}, 0), (CHILD, 30), ({"txnNumber": Int64(3), **CHILD}, 49)],
)
def test_lsids_as_servers_write_them(more: dict[str, Any], child: int) -> None:
    one = ("lsid", {**LSID, **UID, **more})
    layout, data = command(("find", "c"), one, ("txnNumber", ONE), ("autocommit", False))
    at = layout.owned_id
    assert data[at : at + 16] == bytes(LSID["id"])
    assert data[at + TO_UID : at + TO_CHILD] == bytes(UID["uid"])
    assert data[at + TO_CHILD :].startswith(bson.encode(more)[4:-1] + b"\0\x12txnNumber\0")
    assert (layout.child, layout.orderly, layout.usual) == (child, True, False)
    layout, _ = command(("insert", "c"), one, ("stmtIds", [1]))
    assert (layout.owned_id > 0, layout.orderly) == (True, False)
    layout, _ = command(("find", "c"), one, one)
    assert not layout.orderly


@pytest.mark.parametrize(
    "lsid",
    [
        LSID,
        {**UID, **LSID},
        {"id": Binary(bytes(16), 3), **UID},
        {**LSID, "uid": Binary(bytes(31))},
        {**LSID, "uid": Binary(bytes(32), 4)},
        {**LSID, "udi": Binary(bytes(32))},
        {**LSID, **UID, "txnUUID": Binary(bytes(16), 3)},
        {**LSID, **UID, **CHILD, "txnNumber": Int64(3)},
        {**LSID, **UID, "txnNumber": 3.0, **CHILD},
        {**LSID, **CHILD},
    ],
)
def test_other_lsids_are_none_that_servers_write(lsid: dict[str, Any]) -> None:
    layout, _ = command(("find", "c"), ("lsid", lsid))
    assert (layout.owned_id, layout.child, layout.orderly) == (0, 0, False)


@pytest.mark.parametrize(
    ("value", "ok"),
    [(1.0, True), (1, True), (ONE, True), (True, True), (0.0, False), (2, False), ("1", False)],
)
def test_ok(value: Any, ok: bool) -> None:
    assert answer({"ok": value})[0].ok is ok
    assert not answer({"fine": value})[0].ok


def test_a_cursor() -> None:
    layout, data = answer({"cursor": {"id": Int64(7), "ns": "d.c", "firstBatch": []}, "ok": 1.0})
    assert int.from_bytes(data[layout.cursor : layout.cursor + 8], "little") == 7
    assert data[layout.namespace + 4 : layout.namespace + 8] == b"d.c\0"


@pytest.mark.parametrize("value", [1, [], {}, {"id": 7}, {"id": 7.0, "ns": "d.c"}])
def test_no_cursor(value: Any) -> None:
    assert answer({"cursor": value, "ok": 1.0})[0].cursor == 0


def test_a_cursor_without_a_namespace() -> None:
    layout, _ = answer({"cursor": {"id": Int64(7), "ns": 1}, "ok": 1.0})
    assert layout.cursor
    assert not layout.namespace
