from __future__ import annotations

import gzip
import json

import pytest

from proxy.observe.blocks import HEAD_SIZE, head_of, packed, unpacked

ROWS = [[5, "session_started", "shop@admin", None], [3, "refused", "\u2028ü", {"rule": "x"}]]


def test_a_block_is_a_gzip_member_with_lines_of_json() -> None:
    block = packed(ROWS)
    assert json.loads(gzip.decompress(block)) == ROWS
    # One behind the other is a file that any gzip reads.
    assert gzip.decompress(block + block).count(b"\n") == 2


def test_it_says_how_long_it_is_and_of_which_time() -> None:
    block = packed(ROWS)
    assert head_of(block) == (len(block), 3, 5, 2)
    assert head_of(block[:HEAD_SIZE] + b"whatever") is not None
    assert unpacked(block) == ROWS


def test_names_that_are_no_unicode_are_kept() -> None:
    rows = [[1, "a\ud800b"]]
    assert unpacked(packed(rows)) == rows


@pytest.mark.parametrize(
    "data", [b"", b"x" * 100, gzip.compress(b"[]", mtime=0), packed(ROWS)[: HEAD_SIZE - 1]]
)
def test_what_is_no_block(data: bytes) -> None:
    assert head_of(data) is None


def test_nothing_is_read_of_a_damaged_one() -> None:
    block = packed(ROWS)
    for at in range(HEAD_SIZE, len(block) - 4):
        damaged = block[:at] + bytes((block[at] ^ 0x55,)) + block[at + 1 :]
        assert unpacked(damaged) in ([], ROWS)
    assert unpacked(block[:-9]) == []
