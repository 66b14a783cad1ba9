"""How long tests wait for what has to come. What is awaited comes at once on an idle machine, and
no outcome depends on when: a busy one needs patience, and only what hangs uses it up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import trio

#: Seconds for any one thing that is awaited; TEST_PATIENCE=3 makes all of it three times as long.
PATIENCE = 120.0 * float(os.environ.get("TEST_PATIENCE", "1"))

#: Between two looks at what nobody tells of.
_PAUSE = 0.005


async def until(condition: Callable[[], object]) -> None:
    """Wait for what other tasks, other processes or the kernel bring about."""
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(_PAUSE)


def wait_until(condition: Callable[[], object], what: str = "it") -> None:
    """The same in a thread without trio; ``what`` never came true, if that is how it ends."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what} never came true"
        time.sleep(_PAUSE)
