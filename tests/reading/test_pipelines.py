"""Whatever is under way at once, each request is judged as who is asking when it is carried out."""

from __future__ import annotations

import pytest

from tests.reading.pipelines import episode

_PARTS, _EACH = 10, 100


@pytest.mark.parametrize("part", range(_PARTS))
def test_requests_under_way_together(part: int) -> None:
    for seed in range(part * _EACH, (part + 1) * _EACH):
        assert not episode(seed), f"seed {seed}"
