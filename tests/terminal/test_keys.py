from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.terminal.keys import Keys


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"aK?", ["a", "K", "?"]),
        (b"\x1b[A\x1bOB", ["up", "down"]),
        (b"\x1b[5~x\x1b[6~", ["pageup", "x", "pagedown"]),
        (b"\x1b[H\x1b[4~\x1bOF\x1b[1~", ["home", "end", "end", "home"]),
        (b"\x1b[1;5C\x1b[15~\x1b[?1u", []),
        ("é…".encode(), ["é", "…"]),
        (b"\xff\xfea", ["a"]),
        (b"\x1bx", ["\x1b", "x"]),
        (b"", []),
    ],
)
def test_what_a_terminal_sends(data: bytes, keys: list[str]) -> None:
    assert Keys().feed(data) == keys
    # However it is cut.
    one = Keys()
    assert [key for at in range(len(data)) for key in one.feed(data[at : at + 1])] == keys
    assert not one.begun


def test_an_escape_is_a_key_where_nothing_follows() -> None:
    one = Keys()
    assert (one.feed(b"\x1b"), one.begun) == ([], True)
    assert (one.feed(b"", last=True), one.begun) == (["\x1b"], False)
    assert one.feed(b"\x1b[") == []
    assert one.feed(b"B") == ["down"]


@given(st.binary(max_size=40), st.integers(0, 40))
def test_cuts_do_not_matter(data: bytes, at: int) -> None:
    whole, cut = Keys(), Keys()
    assert whole.feed(data, last=True) == [*cut.feed(data[:at]), *cut.feed(data[at:], last=True)]
