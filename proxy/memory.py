"""How memory is managed in a process that keeps a million sessions and passes long messages.

With its defaults, a full garbage collection looks at every session: filling the store held the
loop for 362 ms at a time, set like this for 4 ms. Nothing may then depend on it: what is left
behind by a closed connection has to be free of cycles, so that counting references suffices.
"""

from __future__ import annotations

import gc
from typing import Final

#: Young objects are looked at as by default; the third number puts off full collections.
_THRESHOLDS: Final = (700, 10, 1_000_000)

#: More than a read asks for; glibc takes no hint above 32 MiB.
_BLOCK: Final = 16 << 20


def settle() -> None:
    """Set it for the rest of the process; call when what lives for ever has been made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    # glibc fetches large blocks from the system and gives them back each time, page by page,
    # until one was freed: from then on it keeps those that are no larger. A read of 256 KiB
    # took 11 us before and takes 1 us after.
    bytearray(_BLOCK)
