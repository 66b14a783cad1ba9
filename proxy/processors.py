"""How many processors this process may use: those it may run on, within its container's quota.

A container that may use one processor's time on a machine with 64 may run on all of them, and is
stopped for the rest of each tenth of a second in which it has used its share up.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_ROOT: Final = Path("/")


def processors(root: Path = _ROOT) -> float:
    """Processors, or the part of one; ``root`` is where ``/proc`` and ``/sys`` are."""
    return min([float(len(os.sched_getaffinity(0))), *_quotas(root)])


def _quotas(root: Path) -> Iterator[float]:
    """What each control group says that this process is in, of either version."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        read = _divided if controllers else _unified
        # In a container the path may be the host's, of which nothing is to be seen there.
        for folder in _folders(root / "sys/fs/cgroup" / controllers, path):
            with contextlib.suppress(OSError, ValueError, ArithmeticError):
                quota = read(folder)
                if quota > 0:
                    yield quota


def _folders(mounted: Path, path: str) -> Iterator[Path]:
    """A group's folder and those of all groups around it, which hold as well."""
    inside = PurePosixPath(path.lstrip("/"))
    if ".." not in inside.parts:
        yield mounted / inside
        yield from (mounted / outer for outer in inside.parents)
    yield mounted


def _unified(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return float(quota) / float(period) if quota != "max" else 0.0


def _divided(folder: Path) -> float:
    files = folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us"
    quota, period = (float(file.read_text()) for file in files)
    return quota / period
