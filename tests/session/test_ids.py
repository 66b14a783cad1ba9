from __future__ import annotations

from proxy.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId
from tests.session.sessions import ALICE, uuid


def test_text_form_is_the_servers() -> None:
    assert str(LogicalSessionId(uuid(0x0C), ALICE)) == (
        "00000000-0000-4000-8000-00000000000c - 1+N0CRmpqL7c8uuN7UZPmiEztaDk6/LhFOcGkIXG9YQ="
    )


def test_the_owner_is_part_of_the_key() -> None:
    assert LogicalSessionId(uuid(1), ALICE) != LogicalSessionId(uuid(1), NO_OWNER)
    assert len({LogicalSessionId(uuid(1), ALICE), LogicalSessionId(uuid(1), ALICE)}) == 1
