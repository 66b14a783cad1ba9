from __future__ import annotations

import pytest

from proxy.conversation.incidents import incidents
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.info import OperationSessionInfo
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from tests.session.sessions import ALICE, uuid

KEY = LogicalSessionId(uuid(1), ALICE)
SHOP = Origin("10.0.0.1", "shop", "PyMongo", "4.20")


def info(number: int | None = None) -> OperationSessionInfo:
    return OperationSessionInfo(KEY, number)


def test_one_client_one_thing_at_a_time() -> None:
    store = SessionStore()
    operation = store.operation_started(KEY, 0.0, origin=SHOP)
    assert operation is not None
    store.operation_finished(operation, 1.0)
    # Another connection of the same process has an origin of its own that says the same.
    assert incidents(operation.session, info(), Origin(*SHOP)) == ()


@pytest.mark.parametrize(
    "other",
    [
        Origin("10.0.0.2", *SHOP[1:]),
        Origin("10.0.0.1", "backup", "PyMongo", "4.20"),
        Origin("10.0.0.1", "shop", "nodejs", "4.20"),
    ],
)
def test_two_processes(other: Origin) -> None:
    store = SessionStore()
    session = store.use(KEY, 0.0, origin=SHOP)
    assert session is not None
    assert incidents(session, info(), other) == ("shared",)


def test_in_flight_twice_also_from_elsewhere() -> None:
    store = SessionStore()
    operation = store.operation_started(KEY, 0.0, origin=SHOP)
    assert operation is not None
    assert incidents(operation.session, info(), SHOP) == ("concurrent",)
    other = Origin("10.0.0.2")
    assert incidents(operation.session, info(), other) == ("shared", "concurrent")


@pytest.mark.parametrize(
    ("number", "found"),
    [(None, ()), (5, ()), (6, ()), (4, ("txn_number_backwards",)), (-1, ())],
)
def test_txn_number(number: int | None, found: tuple[str, ...]) -> None:
    store = SessionStore()
    session = store.use(KEY, 0.0, origin=SHOP)
    assert session is not None
    store.transaction_step(session, Step.WRITE, Outcome.OK, info(5), 1.0)
    assert incidents(session, info(number), SHOP) == found


def test_an_origin_that_was_not_remembered_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.session.index.MOST_ORIGINS", 0)
    store = SessionStore()
    session = store.use(KEY, 0.0, origin=SHOP)
    assert session is not None
    assert incidents(session, info(), SHOP) == ()
