from __future__ import annotations

from proxy.session.identity import NO_OWNER
from proxy.session.ids import LogicalSessionId, OwnedKeys
from tests.session.sessions import ALICE, uuid


def test_text_form_is_the_servers() -> None:
    assert str(LogicalSessionId(uuid(0x0C), ALICE)) == (
        "00000000-0000-4000-8000-00000000000c - 1+N0CRmpqL7c8uuN7UZPmiEztaDk6/LhFOcGkIXG9YQ="
    )


def test_the_owner_is_part_of_the_key() -> None:
    assert LogicalSessionId(uuid(1), ALICE) != LogicalSessionId(uuid(1), NO_OWNER)
    assert len({LogicalSessionId(uuid(1), ALICE), LogicalSessionId(uuid(1), ALICE)}) == 1


def test_keys_of_one_owner_are_keys() -> None:
    ids = [bytes([number]) * 16 for number in (3, 1, 3, 2)]
    keys = OwnedKeys(ids, ALICE)
    each = [LogicalSessionId(one, ALICE) for one in (ids[0], ids[1], ids[3])]
    assert list(keys) == each
    assert all(isinstance(key, LogicalSessionId) for key in keys)
    assert len(keys) == 3
    assert keys == frozenset(each)
    assert each[1] in keys
    assert LogicalSessionId(each[1].id, bytes(32)) not in keys
    assert ids[0] not in keys
    assert list(keys[1:3]) == each[1:]
    assert list(keys[2:9]) == each[2:]
