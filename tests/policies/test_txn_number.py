from __future__ import annotations

from typing import Any

import pytest
from bson import Int64

from policies.txn_number import TxnNumber
from proxy.session.caller import Caller
from proxy.session.ids import LogicalSessionId
from proxy.session.info import OperationSessionInfo
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, Step
from tests.policies.contexts import context
from tests.session.sessions import ALICE, AS_ALICE, caller, lsid, uuid

EARLY = TxnNumber(TxnNumber.Settings(refuse_early=True))
LEFT_TO_UPSTREAM = TxnNumber(TxnNumber.Settings())
KEY = LogicalSessionId(uuid(2), ALICE)
ALONE = caller("alice@app", has_transactions=False)


ONE = Int64(1)


def write(number: Any = ONE, **fields: Any) -> dict[str, Any]:
    return {"insert": "c", "lsid": lsid(2), "txnNumber": number, **fields}


@pytest.mark.parametrize(
    ("document", "who", "code"),
    [
        ({"find": "c", "lsid": lsid(2)}, AS_ALICE, None),
        ({"find": "c", "lsid": 1}, AS_ALICE, None),
        (write(), AS_ALICE, None),
        (write(1), AS_ALICE, 14),
        (write(Int64(-1)), AS_ALICE, 72),
        (write(autocommit=True), AS_ALICE, 72),
        (write(autocommit=1), AS_ALICE, 14),
        (write(startTransaction=True), AS_ALICE, 72),
        (write(), ALONE, 20),
        ({"insert": "c", "txnNumber": Int64(1)}, AS_ALICE, 72),
        ({"ping": 1, "txnNumber": Int64(1)}, AS_ALICE, 50889),
        ({"ping": 1, "txnNumber": Int64(1), "autocommit": False}, AS_ALICE, 263),
        ({"find": "c", "lsid": lsid(2), "txnNumber": Int64(1)}, AS_ALICE, 50768),
        (
            {"find": "c", "lsid": lsid(2), "txnNumber": Int64(1), "autocommit": False},
            AS_ALICE,
            None,
        ),
        ({"findandmodify": "c", "lsid": lsid(2), "txnNumber": Int64(1)}, AS_ALICE, None),
        (write(stmtIds=["x"]), AS_ALICE, None),
    ],
)
def test_the_servers_rules(document: dict[str, Any], who: Caller, code: int | None) -> None:
    assert LEFT_TO_UPSTREAM.refuse(context(document, who)) is None
    for rule, how in ((EARLY, {}), (LEFT_TO_UPSTREAM, {"upstream_checks": False})):
        error = rule.refuse(context(document, who, **how))
        assert (error.code if error else None) == code


@pytest.mark.parametrize(
    ("outcome", "number", "refused"),
    [
        (Outcome.OK, 4, True),
        (Outcome.OK, 5, False),
        (Outcome.OK, 6, False),
        (Outcome.REJECTED, 4, False),
        (Outcome.LOST, 4, False),
    ],
)
def test_too_old_only_against_what_was_accepted(
    outcome: Outcome, number: int, refused: bool
) -> None:
    store = SessionStore()
    session = store.use(KEY, 0.0)
    assert session is not None
    store.transaction_step(session, Step.WRITE, outcome, OperationSessionInfo(txn_number=5), 0.0)
    error = EARLY.refuse(context(write(Int64(number)), AS_ALICE, store))
    assert (error is not None) is refused
    if error is not None:
        assert (error.code, error.code_name, error.labels) == (225, "TransactionTooOld", ())
        assert error.errmsg == (
            f"Cannot start transaction 4 on session {KEY} because a newer transaction 5 has"
            " already started."
        )
