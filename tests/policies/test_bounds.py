from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.bounds import Bounds, never_reached


@dataclass(frozen=True)
class Entry:
    users: tuple[str, ...] = ()
    applications: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([], []),
        ([Entry(("a*",)), Entry(("b*",))], []),
        ([Entry(("a*",)), Entry(("ab*", "A"))], [("[1]", 0)]),
        ([Entry(("a*",)), Entry(("ab*", "b"))], [("[1].users[0]", 0)]),
        ([Entry(("a*",), ("x",)), Entry(("ab",))], []),
        ([Entry(("a*",), ("x",)), Entry(("ab",), ("x", "y"))], [("[1].applications[0]", 0)]),
        ([Entry(("a*",), ("*",)), Entry(("ab",))], [("[1]", 0)]),
        ([Entry(), Entry()], [("[1]", 0)]),
        ([Entry(("a",)), Entry(("b",)), Entry(("b", "a"))], [("[2]", 1)]),
        ([Entry(("a*c",)), Entry(("ab*c",)), Entry(("a*",))], [("[1]", 0)]),
    ],
)
def test_what_earlier_entries_take_is_never_reached(
    entries: list[Entry], said: list[tuple[str, int]]
) -> None:
    assert list(never_reached(entries)) == said


patterns = st.lists(st.text("aB*", max_size=3), max_size=2).map(tuple)
texts = st.text("aB", max_size=4)


@given(st.lists(st.builds(Entry, patterns, patterns), max_size=4), texts, texts)
def test_whoever_is_matched_is_matched_by_an_entry_that_is_reached(
    entries: list[Entry], user: str, application: str
) -> None:
    found = Bounds(entries).find(user, application)
    if found is not None:
        assert f"[{found[0]}]" not in dict(never_reached(entries))
        assert found[1] is entries[found[0]]
