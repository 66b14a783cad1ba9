from __future__ import annotations

import pytest

from proxy.session.ids import LogicalSessionId
from proxy.session.records import Selection
from proxy.session.store import SessionStore
from tests.session.sessions import ALICE, BOB, uuid

KEY = LogicalSessionId(uuid(2), ALICE)


@pytest.mark.parametrize(
    ("selection", "holds", "means_anything"),
    [
        (Selection(), False, False),
        (Selection(everything=True), True, True),
        (Selection(uids=frozenset((ALICE,))), True, True),
        (Selection(uids=frozenset((BOB,))), False, True),
        (Selection(keys=frozenset((KEY,))), True, True),
        (Selection(keys=frozenset((LogicalSessionId(uuid(2), BOB),))), False, True),
    ],
)
def test_selections(selection: Selection, holds: bool, means_anything: bool) -> None:
    session = SessionStore().use(KEY, 0.0)
    assert session is not None
    assert (session in selection) is holds
    assert bool(selection) is means_anything
