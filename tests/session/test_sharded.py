from __future__ import annotations

import pytest

from proxy.session.sharded import PARTS, SPLIT_AT, Sharded


def number(value: int) -> bytes:
    return value.to_bytes(16, "big")


def test_small_and_split_agree() -> None:
    index: Sharded[int] = Sharded()
    for value in range(SPLIT_AT - 1):
        index.put(number(value), value)
    assert index.parts() == 1
    index.put(number(SPLIT_AT - 1), SPLIT_AT - 1)
    assert index.parts() == PARTS
    assert index.count == SPLIT_AT
    assert sorted(index) == list(range(SPLIT_AT))
    assert sorted(index.part(5)) == list(range(5, SPLIT_AT, PARTS))
    assert index.get(number(77)) == 77
    assert index.get(number(SPLIT_AT)) is None


def test_putting_twice_counts_once() -> None:
    index: Sharded[int] = Sharded()
    index.put(number(1), 1)
    index.put(number(1), 2)
    assert (index.count, index.get(number(1))) == (1, 2)
    index.remove(number(1))
    assert (index.count, list(index)) == (0, [])


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1_000, SPLIT_AT + 1_000])
def test_samples_are_spread_over_all(count: int) -> None:
    values: Sharded[int] = Sharded()
    for value in range(count):
        # As in an UUID, the last byte has nothing to do with the order.
        values.put(value.to_bytes(15, "big") + bytes((value * 2_654_435_761 >> 16 & 255,)), value)
    sample = values.sample(100)
    assert len(sample) == len(set(sample)) == min(count, 100)
    if count > 100:
        assert min(sample) < count / 4
        assert max(sample) > count / 2
        assert 25 < sum(value % 2 for value in sample) < 75
