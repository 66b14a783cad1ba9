"""A file that holds the number of the process that serves, for whoever wants to signal it."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from proxy import logs

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path | None) -> None:
    """This process serves now. Whoever reads meanwhile finds the one number or the other."""
    if path is None:
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_text(f"{os.getpid()}\n", encoding="ascii")
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        logs.logger().error("pid file not written", file=str(path), problem=str(error))


def remove(path: Path | None) -> None:
    """This process serves no more; the number of another one stays."""
    if path is None:
        return
    with suppress(OSError):
        if path.read_text(encoding="ascii").strip() == str(os.getpid()):
            path.unlink()
