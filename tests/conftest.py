from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import structlog
from trio.testing import MockClock

# The same examples on every run, and none too slow for a busy machine.
hypothesis.settings.register_profile("proxy", deadline=None, derandomize=True)
hypothesis.settings.load_profile("proxy")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What a test does to logging ends with it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def clock() -> MockClock:
    """trio's clock for this test: it runs like any other, until it ``jump``s over a deadline."""
    return MockClock(rate=1)
