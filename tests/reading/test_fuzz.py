"""The search for requests that are read in two ways runs, ends and tells what it did."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import build
from tests.reading.mutations import mutated
from tests.reading.parts import put_together, take_apart
from tests.reading.seeds import seeds

_PATIENCE = 300
_LAST = re.compile(r"(\d+) messages, \d+ a second, 0 kinds of disagreement")

_GUIDED = pytest.mark.skipif(not find_spec("atheris"), reason="without atheris")


@pytest.mark.parametrize("how", [pytest.param((), marks=_GUIDED), ("--blind",)], ids=str)
@pytest.mark.parametrize("seed", ["77", "0", "12345678901234567890"])
def test_it_ends_and_tells_how_much_it_has_tried(how: tuple[str, ...], seed: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.reading.fuzz", "--seconds", "1", "--seed", seed, *how],
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    last = _LAST.fullmatch(ended.stdout.splitlines()[-1])
    assert last is not None
    assert int(last[1]) >= len(seeds())


_FRAMES = st.one_of(
    st.binary(min_size=16),
    st.builds(
        lambda opcode, data: build.frame(opcode, data),
        st.sampled_from((2004, 2010, 2012, 2013)),
        st.binary(max_size=200),
    ),
    st.builds(
        lambda frame, at, byte: frame[: 16 + at] + byte + frame[16 + at :],
        st.sampled_from(seeds()),
        st.integers(0, 400),
        st.binary(max_size=3),
    ),
)


@given(_FRAMES, st.integers(0, 2**32))
def test_any_bytes_can_be_changed(frame: bytes, seed: int) -> None:
    assert len(mutated(Random(seed), frame)) >= 16


def test_a_section_that_ends_behind_its_message_is_left_in_one_piece() -> None:
    section = b"\1" + (100).to_bytes(4, "little") + b"documents\0" + build.body({"a": 1})[1:]
    frame = build.frame(2013, bytes(4) + section)
    parts = take_apart(frame)
    assert parts.raw == frame[16:]
    assert put_together(parts) == frame


@pytest.mark.parametrize("frame", seeds()[::7], ids=len)
def test_what_is_put_together_is_what_was_taken_apart(frame: bytes) -> None:
    parts = take_apart(frame)
    again = take_apart(put_together(parts))
    assert (again.sections, again.namespace, again.raw) == (
        parts.sections,
        parts.namespace,
        parts.raw,
    )
