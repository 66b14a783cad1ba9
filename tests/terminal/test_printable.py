from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.terminal.printable import fitted, printable, size, span, width


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("shop", "shop"),
        ("é 店", "é 店"),
        ("", ""),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\u202egnp", "\\u202egnp"),
        ("\u2028\u00a0", "\\u2028\\xa0"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        (7, "7"),
    ],
)
def test_nothing_reaches_a_terminal_that_is_not_text(text: object, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_whatever_comes_is_printable(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.parametrize(
    ("text", "cells", "right", "shown"),
    [
        ("abc", 5, False, "abc  "),
        ("abc", 5, True, "  abc"),
        ("abc", 3, False, "abc"),
        ("abcd", 3, False, "ab…"),
        ("abcd", 1, False, "…"),
        ("abcd", 0, False, ""),
        ("店店店", 6, False, "店店店"),
        ("店店店", 5, False, "店店…"),
        ("店店店", 4, False, "店… "),
        ("e\u0301a", 3, False, "e\u0301a "),
    ],
)
def test_texts_are_fitted_by_cells(text: str, cells: int, right: bool, shown: str) -> None:
    assert fitted(text, cells, right=right) == shown
    assert width(shown) == cells


@given(st.text().map(printable), st.integers(0, 20), st.booleans())
def test_whatever_is_fitted_takes_exactly_its_cells(text: str, cells: int, right: bool) -> None:
    assert width(fitted(text, cells, right=right)) == cells


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, ""),
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1 m 0 s"),
        (3_599.9, "59 m 59 s"),
        (3_600, "1 h 0 m"),
        (86_399, "23 h 59 m"),
        (86_400, "1 d 0 h"),
        (1_000_000, "11 d 13 h"),
    ],
)
def test_durations(seconds: float | None, shown: str) -> None:
    assert span(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (2_500_000, "2.5 MB"), (10**16, "10000.0 TB")],
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown
