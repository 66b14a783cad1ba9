"""Times and sizes as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.settings.config import load
from proxy.settings.quantities import seconds, size, told_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5m", 300),
        ("1h30m", 5_400),
        ("1h 30m", 5_400),
        (" 250ms ", 0.25),
        ("1.5h", 5_400),
        ("1d", 86_400),
        ("2s500ms", 2.5),
        ("500us", 0.0005),
        ("300ms", 0.3),
        ("0s", 0),
    ],
)
def test_times(text: str, expected: float) -> None:
    assert seconds(text) == told_seconds(text) == expected


@pytest.mark.parametrize(
    "text", ["", " ", "5", "5 parsecs", "m5", "-5m", "30m1h", "1m1m", "5M", "5m!", "nan", "1h 30"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="a number of seconds or a time such as"):
        seconds(text)


@pytest.mark.parametrize(("text", "expected"), [("600", 600), ("0.5", 0.5), ("1e3", 1_000)])
def test_where_all_is_text_a_number_is_seconds(text: str, expected: float) -> None:
    assert told_seconds(text) == expected


@pytest.mark.parametrize("text", ["inf", "-1", "nan", "1_0", "\u0661"])
def test_what_only_python_takes_for_a_number(text: str) -> None:
    with pytest.raises(ValueError, match="a number of seconds"):
        told_seconds(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64MiB", 1 << 26),
        ("1GB", 1_000_000_000),
        ("1.5KiB", 1_536),
        ("10 kB", 10_000),
        ("1tib", 1 << 40),
        ("100B", 100),
        ("0.1GB", 100_000_000),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a number of bytes or a size such as"),
        ("64", "a number of bytes or a size such as"),
        ("-1MB", "a number of bytes or a size such as"),
        ("1PB", "a number of bytes or a size such as"),
        ("1i", "a number of bytes or a size such as"),
        ("64M", r'not clear: write "64MiB" \(1,048,576 bytes to one\) or "64MB" \(1,000,000\)'),
        ("64Mi", 'write "64MiB"'),
        ("1.0001KB", "not a whole number of bytes"),
    ],
)
def test_what_is_no_size(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        size(text)


def test_they_stand_wherever_a_time_or_a_size_does(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("""
    [limits]
    drain_seconds = "1m30s"
    drain_delay_seconds = "0s"
    buffered_bytes = "64MiB"
    before_login_bytes = "1MB"
    [upstream]
    watch_seconds = "500ms"
    [process]
    busy_poll_seconds = "100us"
    [policies.transaction_guard]
    idle_seconds = "1m"
    """)
    config = load(path)
    assert (config.limits.drain_seconds, config.limits.drain_delay_seconds) == (90, 0)
    assert (config.limits.buffered_bytes, config.limits.before_login_bytes) == (1 << 26, 10**6)
    assert (config.upstream.watch_seconds, config.process.busy_poll_seconds) == (0.5, 0.0001)
    assert config.policies.transaction_guard.idle_seconds == 60


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('limits.drain_seconds = "2d"', "should be less than or equal to 86400"),
        ('limits.buffered_bytes = "1KB"', "should be greater than or equal to 65536"),
        ('limits.connections = "5m"', "should be a valid integer, not '5m'"),
        ('policies.transaction_guard.idle_seconds = "x"', "a number of seconds"),
    ],
)
def test_their_bounds_hold(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=problem):
        load(path)
