from __future__ import annotations

from typing import Any

import pytest

from policies.session_budget import SessionBudget
from proxy.session.caller import Caller
from proxy.session.ids import LogicalSessionId
from proxy.session.store import SessionStore
from tests.policies.contexts import SHOP, context
from tests.session.sessions import ALICE, ANYBODY, AS_ALICE, KILLER, caller, lsid, uuid


@pytest.fixture
def store() -> SessionStore:
    """Three sessions of alice, two of them from the shop."""
    made = SessionStore(max_sessions=5)
    for number in range(3):
        key = LogicalSessionId(uuid(number), ALICE)
        if number < 2:
            made.use(key, 0.0, "alice@app", SHOP)
        else:
            made.use(key, 0.0, "alice@app")
    return made


NEW = {"find": "c", "lsid": lsid(9)}
KNOWN = {"find": "c", "lsid": lsid(1)}


@pytest.mark.parametrize(
    ("settings", "who", "document", "refused"),
    [
        ({}, AS_ALICE, NEW, False),
        ({"per_user": 3}, AS_ALICE, NEW, True),
        ({"per_user": 4}, AS_ALICE, NEW, False),
        ({"per_user": 3}, AS_ALICE, KNOWN, False),
        ({"per_user": 3}, AS_ALICE, {"find": "c"}, False),
        ({"per_user": 3}, caller("bob@app"), NEW, False),
        ({"per_user": 1}, ANYBODY, NEW, False),
        ({"per_user": 3}, AS_ALICE, {"startSession": 1}, True),
        ({"per_user": 4}, AS_ALICE, {"refreshSessions": [lsid(1), lsid(9)]}, False),
        ({"per_user": 4}, AS_ALICE, {"refreshSessions": [lsid(8), lsid(9)]}, True),
        ({"per_user": 3}, AS_ALICE, {"endSessions": [lsid(9)]}, False),
        ({"per_user": 3}, AS_ALICE, {"killSessions": [lsid(9)]}, False),
        ({"per_user": 3}, AS_ALICE, {"killSessions": [], "lsid": lsid(9)}, False),
        ({"per_application": 2}, caller("bob@app"), NEW, True),
        ({"per_application": 3}, caller("bob@app"), NEW, False),
        ({"reserved": 2}, AS_ALICE, NEW, True),
        ({"reserved": 2}, KILLER, NEW, False),
        ({"reserved": 2, "operators": ()}, KILLER, NEW, True),
        ({"reserved": 1}, AS_ALICE, NEW, False),
    ],
)
def test_budgets(
    store: SessionStore,
    settings: dict[str, Any],
    who: Caller,
    document: dict[str, Any],
    refused: bool,
) -> None:
    rule = SessionBudget(SessionBudget.Settings(**settings))
    error = rule.refuse(context(document, who, store, origin=SHOP))
    assert (error is not None) is refused
    if error is not None:
        assert (error.code, error.code_name) == (261, "TooManyLogicalSessions")
        assert error.labels == ()


def test_an_application_without_a_name_has_no_budget(store: SessionStore) -> None:
    rule = SessionBudget(SessionBudget.Settings(per_application=1))
    assert rule.refuse(context(NEW, AS_ALICE, store)) is None
