"""How Python's garbage collector is set for a process that keeps a million sessions.

With its defaults a full collection looks at every session: filling the store held the loop for
362 ms at a time, set like this for 4 ms. Nothing may then depend on it: what is left behind by
a closed connection has to be free of cycles, so that counting references suffices.
"""

from __future__ import annotations

import gc
from typing import Final

#: Young objects are looked at as by default; the third number puts off full collections.
_THRESHOLDS: Final = (700, 10, 1_000_000)


def settle() -> None:
    """Set it for the rest of the process; call when what lives for ever has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
