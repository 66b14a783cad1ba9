"""Kills outside sessions, beside what servers 4.2 and 4.9 answered."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Int64

from proxy.session.caller import Caller
from proxy.session.identity import NOBODY
from proxy.session.info import read_operation_session_info
from tests.session.sessions import lsid, request

KILLS = ("killSessions", "killAllSessions", "killAllSessionsByPattern")
RETRYABLE = {"lsid": lsid(1), "txnNumber": Int64(1)}
IN_TRANSACTION = {**RETRYABLE, "autocommit": False, "startTransaction": True}


def read(document: dict[str, Any], wire_version: int | None, transactions: bool = True) -> Any:
    who = Caller.of(NOBODY, False, transactions, wire_version)
    return read_operation_session_info(request(document, "admin"), who)


@pytest.mark.parametrize("name", KILLS)
@pytest.mark.parametrize("fields", [RETRYABLE, IN_TRANSACTION])
@pytest.mark.parametrize("transactions", [True, False])
def test_from_4_9_on_transaction_fields_mean_nothing_to_a_kill(
    name: str, fields: dict[str, Any], transactions: bool
) -> None:
    info = read({name: [], **fields}, 12, transactions)
    assert (info.malformed, info.txn_number, info.autocommit) == (None, None, None)
    assert info.lsid is not None


@pytest.mark.parametrize("wire_version", [None, 8, 9])
def test_before_that_they_do(wire_version: int | None) -> None:
    assert read({"killSessions": [], **RETRYABLE}, wire_version).txn_number == 1
    assert read({"killSessions": [], **IN_TRANSACTION}, wire_version).autocommit is False
    alone = read({"killSessions": [], **RETRYABLE}, wire_version, transactions=False)
    assert alone.malformed.code == 20


@pytest.mark.parametrize("name", ["startSession", "endSessions", "find"])
def test_other_commands_have_them_still(name: str) -> None:
    assert read({name: 1, **RETRYABLE}, 27).txn_number == 1


def test_a_wrong_type_stays_wrong() -> None:
    assert read({"killSessions": [], "lsid": lsid(1), "txnNumber": "1"}, 27).malformed.code == 14
