from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import texts


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
