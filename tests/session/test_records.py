from __future__ import annotations

import pytest

from proxy.session.ids import LogicalSessionId
from proxy.session.records import Selection
from tests.session.sessions import ALICE, uuid


@pytest.mark.parametrize(
    ("selection", "means_anything"),
    [
        (Selection(), False),
        (Selection(everything=True), True),
        (Selection(uids=frozenset((ALICE,))), True),
        (Selection(keys=frozenset((LogicalSessionId(uuid(2), ALICE),))), True),
    ],
)
def test_selections(selection: Selection, means_anything: bool) -> None:
    assert bool(selection) is means_anything
