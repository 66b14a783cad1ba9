"""What the proxy understands of a request is what servers understand, or it does not pass."""

from __future__ import annotations

from random import Random

import pytest

from tests.reading.comparing import VERSIONS, read_differently
from tests.reading.known import KNOWN
from tests.reading.mutations import mutated
from tests.reading.seeds import seeds

#: 200,000 messages, in parts that run side by side.
_PARTS, _EACH = 40, 5_000


def _told(kind: str, version: int, frame: bytes) -> str:
    return f"{kind}, wire version {version}: {frame.hex()}"


def test_there_are_seeds_of_every_kind() -> None:
    assert len(seeds()) >= 300


def test_seeds_are_read_alike() -> None:
    wrong = [
        _told(kind, version, frame)
        for frame in seeds()
        for known in (None, *VERSIONS)
        for kind, version in read_differently(frame, known=known)
        if kind not in KNOWN
    ]
    assert not wrong


@pytest.mark.parametrize("part", range(_PARTS))
def test_changed_requests_are_read_alike(part: int) -> None:
    """Each against three versions in turn, or one that the proxy knows of."""
    random, frames = Random(part), seeds()
    wrong = []
    for number in range(_EACH):
        frame = mutated(random, random.choice(frames))
        known = VERSIONS[number // 2 % len(VERSIONS)] if number % 2 else None
        for kind, version in read_differently(frame, VERSIONS[number % 3 :: 3], known):
            if kind not in KNOWN:
                wrong.append(_told(kind, version, frame))
    assert not wrong[:5]


@pytest.mark.parametrize(
    ("kind", "frame"),
    [pytest.param(*item, marks=pytest.mark.xfail(strict=True)) for item in KNOWN.items()],
)
def test_what_is_known_to_disagree(kind: str, frame: str) -> None:
    plain = bytes.fromhex(frame)
    assert kind not in {found for found, _ in read_differently(plain)}
