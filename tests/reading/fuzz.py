"""Look for requests that the proxy reads otherwise than servers, for as long as one wants.

    python -m tests.reading.fuzz --seconds 600 --seed 7

With atheris (the extra ``fuzz``) what makes the proxy's code go new ways is changed further; else
requests are changed blindly. Ends at the first disagreement, which it prints, or with the time.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
import time
from importlib.util import find_spec
from random import Random
from types import ModuleType

if find_spec("atheris"):
    import atheris

    with atheris.instrument_imports(include=["proxy.wire", "proxy.session", "proxy.conversation"]):
        from tests.reading.comparing import VERSIONS, differences, look
else:
    atheris: ModuleType | None = None
    from tests.reading.comparing import VERSIONS, differences, look

from tests.reading.known import KNOWN
from tests.reading.mutations import mutated
from tests.reading.seeds import seeds

_LONGEST = 8_192


class Disagreement(Exception):
    """One request that is read in two ways."""


def compare(frame: bytes) -> None:
    """Raise where a whole frame is read otherwise than by one of the servers."""
    for kind, version in differences(frame, look(frame), VERSIONS):
        if kind not in KNOWN:
            raise Disagreement(f"{kind}, wire version {version}: {frame.hex()}")


def framed(data: bytes) -> bytes:
    """Any bytes as a frame whose length is right: servers close on others."""
    head = data[:16].ljust(16, b"\0")
    # Ids in the range of the proxy's own questions would be taken for those.
    number = bytes((*head[4:7], head[7] & 0x3F))
    return struct.pack("<i", max(16, len(data))) + number + head[8:] + data[16:]


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    random = Random(seed)
    known = len(data) > 16 and random.random() < 0.8
    return mutated(random, framed(data) if known else random.choice(seeds()))[:longest]


def blindly(seconds: float, seed: int) -> int:
    """Change seeds at random; how many requests that were."""
    random, frames, number = Random(seed), seeds(), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        compare(framed(mutated(random, random.choice(frames))))
        number += 1
    return number


def guided(fuzzer: ModuleType, seconds: int, seed: int) -> None:
    """Let the fuzzer choose; it ends the process itself."""

    def one(data: bytes) -> None:
        compare(framed(data))

    options = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={_LONGEST}"]
    options += ["-timeout=300", f"-artifact_prefix={tempfile.gettempdir()}/", "-verbosity=0"]
    fuzzer.Setup([sys.argv[0], *options, "-print_final_stats=1"], one, custom_mutator=mutate)
    fuzzer.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description="Look for requests that are read in two ways.")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="as if there were no atheris")
    chosen = parser.parse_args()
    for frame in seeds():
        compare(frame)
    if atheris is not None and not chosen.blind:
        guided(atheris, chosen.seconds, chosen.seed)
    else:
        print("atheris is not installed or not wanted: requests are changed blindly")
        print(f"{blindly(chosen.seconds, chosen.seed)} requests, each read alike")
    return 0


if __name__ == "__main__":
    sys.exit(main())
