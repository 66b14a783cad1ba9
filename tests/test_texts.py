from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import texts
from proxy.texts import kind_of, matcher


@given(st.text(), st.integers(1, 50))
def test_a_short_text_stays_and_a_long_one_ends_in_a_mark(text: str, most: int) -> None:
    short = texts.shortened(text, most)
    assert len(short) <= most
    assert short == text if len(text) <= most else short == text[: most - 1] + "…"


@given(st.binary(), st.integers(1, 50))
def test_bytes_are_decoded_as_far_as_they_are_shown(raw: bytes, most: int) -> None:
    short = texts.decoded(raw, most)
    assert len(short) <= most
    whole = raw.decode("utf-8", "replace")
    assert short == (whole if len(whole) <= most else whole[: most - 1] + "…")


@given(st.text())
def test_what_people_see_is_printable(text: str) -> None:
    assert texts.shown(text, 20).isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë — 北京 🙂", "Zoë — 北京 🙂"),
        ("a\nb\x1b[2J\x9b31m", "a\\nb\\x1b[2J\\x9b31m"),
        ("\u202egnihton\u2066\u200f", "\\u202egnihton\\u2066\\u200f"),
        ("\udcff\u2028", "\\udcff\\u2028"),
    ],
)
def test_what_steers_a_terminal_is_shown_by_its_number(text: str, shown: str) -> None:
    assert texts.printable(text) == shown


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("shop", "shop", True),
        ("shop", "SHOP", True),
        ("Shop", "shop", True),
        ("shop", "shops", False),
        ("shop", "", False),
        ("", "", True),
        ("", "x", False),
        ("*", "", True),
        ("*", "anything", True),
        ("shop*", "shop-front", True),
        ("shop*", "my-shop", False),
        ("*shop", "my-shop", True),
        ("*shop", "shops", False),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "acb", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*a*", "bab", True),
        ("*a*", "bbb", False),
        ("a**b", "ab", True),
        ("a?[b]", "a?[b]", True),
        ("a?", "ab", False),
        ("ab*bc", "abc", False),
    ],
)
def test_patterns(pattern: str, text: str, matches: bool) -> None:
    assert matcher(pattern)(text) is matches


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_patterns_mean_what_shells_mean(pattern: str, text: str) -> None:
    def plain(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(plain(pattern[1:], text[at:]) for at in range(len(text) + 1))
        return text[:1] == pattern[0] and plain(pattern[1:], text[1:])

    assert matcher(pattern)(text) == plain(pattern, text)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not matcher("*a" * 400 + "*b")("a" * 100_000)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("alice has 3 of 3 sessions", "alice has 12 of 12 sessions", True),
        ("alice has 3 of 3 sessions", "alice has 3 of 3 transactions", False),
        ("no killSessions: { a: b }", "no killSessions: { c: d }", True),
        ("session 4a295ab5-146c - 47DEQ= is", "session bf295ab5-146c - 48DEQ= is", True),
        ("used by shop", "used by web", False),
    ],
)
def test_reasons_of_a_kind(one: str, other: str, alike: bool) -> None:
    assert (kind_of(one) == kind_of(other)) is alike
