"""What belongs to a reply that is passed on in pieces, and what is kept of it."""

from __future__ import annotations

import pytest

from proxy.conversation.passing import Passing
from proxy.wire.compression import deflate
from proxy.wire.edges import EDGE, Edges
from tests.build import reply

LONG = reply({"ok": 1.0, "text": "".join(map(str, range(12_000)))}, 1)
BEHIND = b"the next reply"


def taken(passing: Passing, *chunks: bytes) -> list[tuple[bytes, int]]:
    """What was taken of each chunk, and how much was still to come then."""
    return [(passing.take(chunk), passing.left) for chunk in chunks]


def test_no_more_is_taken_than_the_reply_has() -> None:
    passing = Passing(LONG[:100], len(LONG))
    assert passing.left == len(LONG) - 100
    assert taken(passing, LONG[100:300], LONG[300:] + BEHIND) == [
        (LONG[100:300], len(LONG) - 300),
        (LONG[300:], 0),
    ]


@pytest.mark.parametrize("chunk", [LONG[-1:], LONG[-1:] + BEHIND])
def test_a_last_byte_may_come_alone_or_not(chunk: bytes) -> None:
    assert taken(Passing(LONG[:-1], len(LONG)), chunk) == [(LONG[-1:], 0)]


def test_nothing_takes_nothing() -> None:
    passing = Passing(LONG[:-1], len(LONG))
    assert taken(passing, b"") == [(b"", 1)]
    passing.take(LONG[-1:])
    assert passing.edges() == Edges(LONG[:EDGE], LONG[-EDGE:], len(LONG))


@pytest.mark.parametrize("begun", [64, EDGE - 1, EDGE, EDGE + 1, len(LONG) - 1])
@pytest.mark.parametrize("piece", [1, 7, EDGE - 1, EDGE, EDGE + 1, len(LONG)])
def test_the_ends_are_kept_however_it_is_cut(begun: int, piece: int) -> None:
    passing = Passing(LONG[:begun], len(LONG))
    for at in range(begun, len(LONG), piece):
        passing.take((LONG + BEHIND)[at : at + piece])
    assert passing.left == 0
    # The head is what it began with: no more of it is waited for.
    assert passing.edges() == Edges(LONG[: min(begun, EDGE)], LONG[-EDGE:], len(LONG))


def test_the_ends_of_a_reply_that_is_shorter_overlap() -> None:
    short = reply({"ok": 1.0, "text": "x" * 100}, 1)
    passing = Passing(short[:64], len(short))
    passing.take(short[64:])
    assert passing.edges() == Edges(short[:64], short, len(short))


@pytest.mark.parametrize("compressor", [0, 1, 2, 3])
def test_what_is_compressed_has_no_ends_to_read(compressor: int) -> None:
    message = deflate(LONG, compressor)
    passing = Passing(message[:100], len(message))
    passing.take(message[100:])
    assert passing.edges() is None
