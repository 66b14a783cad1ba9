from __future__ import annotations

from collections.abc import Iterator

import hypothesis
import pytest
import structlog
from trio.testing import MockClock

from tests import needs
from tests.patience import PATIENCE

# The same examples on every run, and none too slow for a busy machine.
hypothesis.settings.register_profile("proxy", deadline=None, derandomize=True)
hypothesis.settings.load_profile("proxy")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # What hangs must not hang the whole run; what is awaited may take several times its patience.
    if config.option.timeout is None:
        config.option.timeout = 5 * PATIENCE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("skipped", ())
    for line in needs.summary(report.longrepr[2] for report in reports):
        terminalreporter.write_line(line, yellow=True)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What a test does to logging ends with it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def clock() -> MockClock:
    """trio's clock for this test: it runs like any other, until it ``jump``s over a deadline."""
    return MockClock(rate=1)
