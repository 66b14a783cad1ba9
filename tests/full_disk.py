"""A disk that is full, as far as this process notices: a write ends in the middle."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def file_sizes_up_to(size: int) -> Iterator[None]:
    """No file can be made longer than ``size`` bytes meanwhile (EFBIG)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
