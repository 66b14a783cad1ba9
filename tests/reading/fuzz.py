"""Look for requests that the proxy reads otherwise than servers, for as long as one wants.

    python -m tests.reading.fuzz --seconds 600 --seed 7

With atheris (the extra ``fuzz``) what makes the proxy's code go new ways is changed further; else
requests are changed blindly. Ends with the time. Of each kind of disagreement the shortest request
is printed, and last of all how much was tried.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
import zlib
from importlib.util import find_spec
from pathlib import Path
from random import Random
from types import ModuleType
from typing import NoReturn

if find_spec("atheris"):
    import atheris

    with (
        Path(os.devnull).open("w") as nowhere,  # it names each module
        contextlib.redirect_stderr(nowhere),
        atheris.instrument_imports(include=["proxy.wire", "proxy.session", "proxy.conversation"]),
    ):
        from tests.reading.comparing import VERSIONS, read_differently
else:
    atheris: ModuleType | None = None
    from tests.reading.comparing import VERSIONS, read_differently

from tests.reading.known import KNOWN
from tests.reading.mutations import framed, mutated
from tests.reading.seeds import seeds

_LONGEST = 8_192
#: Where one request takes this long, the fuzzer shows it and ends.
_SLOWEST = 60


def version_for(frame: bytes) -> int | None:
    """The version of upstream that the proxy is to know: none for half of all requests."""
    chosen = zlib.crc32(frame) % (2 * len(VERSIONS))
    return VERSIONS[chosen] if chosen < len(VERSIONS) else None


class Tally:
    """What has been tried and found, from now on."""

    def __init__(self, seconds: float) -> None:
        self.messages = 0
        self.began = time.monotonic()
        self.end = self.began + seconds
        self.found: dict[str, bytes] = {}

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.end

    def compare(self, frame: bytes) -> None:
        """Keep what is read otherwise than by one of the servers, or not read at all."""
        self.messages += 1
        try:
            kinds = {kind for kind, _ in read_differently(frame, known=version_for(frame))}
        except Exception as error:
            kinds = {f"{type(error).__name__} was raised: {error}"}
        for kind in kinds - KNOWN.keys():
            shortest = self.found.get(kind)
            if shortest is None or len(frame) < len(shortest):
                self.found[kind] = frame
                print(f"{kind}, known {version_for(frame)}: {frame.hex()}", flush=True)

    def told(self) -> str:
        speed = self.messages / (time.monotonic() - self.began)
        found = f"{len(self.found)} kinds of disagreement"
        return f"{self.messages} messages, {speed:.0f} a second, {found}"


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    """One more request, out of one that went new ways or out of a valid one."""
    random = Random(seed)
    known = len(data) > 16 and random.random() < 0.8
    return mutated(random, framed(data) if known else random.choice(seeds()))[:longest]


def blindly(tally: Tally, seed: int) -> None:
    """Change seeds at random."""
    random, frames = Random(seed), seeds()
    while not tally.is_over:
        tally.compare(framed(mutated(random, random.choice(frames))))


def guided(fuzzer: ModuleType, tally: Tally, seed: int) -> NoReturn:
    """Let the fuzzer choose. The process ends here: the fuzzer never gives it back."""

    def one(data: bytes) -> None:
        tally.compare(framed(data))
        if tally.is_over:
            corpus.cleanup()
            print(tally.told(), flush=True)
            os._exit(bool(tally.found))

    corpus = tempfile.TemporaryDirectory()
    for number, frame in enumerate(seeds()):
        (Path(corpus.name) / str(number)).write_bytes(frame)
    options = [f"-seed={seed}", f"-max_len={_LONGEST}", "-verbosity=0", f"-timeout={_SLOWEST}"]
    options += [f"-artifact_prefix={tempfile.gettempdir()}/", "-rss_limit_mb=0"]
    fuzzer.Setup([sys.argv[0], *options, corpus.name], one, custom_mutator=mutate)
    fuzzer.Fuzz()
    raise AssertionError("the fuzzer has stopped early")


def main() -> int:
    parser = argparse.ArgumentParser(description="Look for requests that are read in two ways.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="as if there were no atheris")
    chosen = parser.parse_args()
    tally = Tally(chosen.seconds)
    for frame in seeds():
        tally.compare(frame)
    if atheris is not None and not chosen.blind:
        guided(atheris, tally, chosen.seed % 2**31 or 1)  # of 0 it makes a number of its own
    if atheris is None:
        print("atheris is not installed: requests are changed blindly")
    blindly(tally, chosen.seed)
    print(tally.told())
    return bool(tally.found)


if __name__ == "__main__":
    sys.exit(main())
