from __future__ import annotations

import pytest

from proxy.listing.slices import in_slices


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [3, 1]), (6, [3, 3])]
)
def test_slices_hold_everything_in_order(count: int, sizes: list[int]) -> None:
    slices = list(in_slices(range(count), 3))
    assert [len(one) for one in slices] == sizes
    assert [item for one in slices for item in one] == list(range(count))


def test_what_changes_between_slices_does_no_harm() -> None:
    shrinking = dict.fromkeys(range(5))
    for some in in_slices(shrinking, 2):
        for one in some:
            del shrinking[one]
    assert not shrinking
