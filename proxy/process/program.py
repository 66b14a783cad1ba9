"""The program that runs: how to start it once more, and whether its files were replaced since."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_PACKAGES: Final = ("proxy", "policies", "mongo_session_proxy")


def command() -> list[str]:
    """The words that start it as the user did; what they name may be a newer version by now.

    A script is started by its own first line, which may name another interpreter than before.
    """
    words = sys.orig_argv[1:]
    script = sys.argv[0]
    if script in words and _is_script(Path(script)):
        return [os.path.abspath(script), *sys.argv[1:]]
    return [sys.executable, *words]


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!" and os.access(path, os.X_OK)
    except OSError:
        return False


class Files:
    """The program's files as they were when this was made."""

    def __init__(self) -> None:
        modules = [
            module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] in _PACKAGES or name == "__main__"
        ]
        paths = {getattr(module, "__file__", None) for module in modules} | {sys.argv[0]}
        self._known = {path: _state(path) for path in paths if path}

    def changed(self) -> bool:
        """Whether one of them was replaced, changed or taken away."""
        return any(_state(path) != known for path, known in self._known.items())


def _state(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
