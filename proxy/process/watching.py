"""Reloading when a file changes on disk that the settings stand in or name.

A file is changed when it holds something else, whichever way that came about: written anew, another
one moved to its place, or a symbolic link on the way to it turned round, as Kubernetes does for a
whole folder. So it is folders that are watched, and what the kernel tells of them is only a reason
to look. Once in a while that is done without a reason, for file systems that tell nothing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio
from watchfiles._rust_notify import RustNotify

from proxy.settings.files import files_in

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from proxy.settings.config import Config

#: Milliseconds without a further change after which one looks, and from the first change on at the
#: most: a certificate and its key are not replaced in one moment.
STEP: Final = 500
_MOST: Final = 5_000

#: Seconds after which one looks without having been told.
ANYWAY: Final = 15.0

#: Links on the way to a file.
_MOST_LINKS: Final = 40


class Reloading(Protocol):
    """The server, as far as it is told of changes."""

    config: Config
    log: FilteringBoundLogger

    def draining(self) -> bool: ...

    def reload(self) -> None: ...


class Watch:
    """Of the files that ``sources`` gives and of those that the settings name.

    They are compared with what they held when this was made.
    """

    def __init__(self, server: Reloading, sources: Callable[[], Iterable[Path]]) -> None:
        self._server = server
        self._sources = sources
        self._held = self._look()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reload whenever one of them holds something else, until cancelled.

        Started when nothing can change unseen any more.
        """
        self._server.log.info("watching files", files=[str(path) for path in sorted(self._held)])
        folders = _Folders(self._server.log)
        try:
            while True:
                # Where others are to be watched than before, something may have come between.
                if not await trio.to_thread.run_sync(folders.choose, self._held):
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    await folders.told()
                self._compare(await trio.to_thread.run_sync(self._look))
        finally:
            folders.close()

    def _look(self) -> Mapping[Path, bytes | None]:
        files = {*self._sources(), *files_in(self._server.config)}
        return {path: _digest(path) for path in files}

    def _compare(self, now: Mapping[Path, bytes | None]) -> None:
        held, self._held = self._held, now
        changed = [path for path in sorted(now) if path in held and now[path] != held[path]]
        if changed and not self._server.draining():
            self._server.log.info("files changed", files=[str(path) for path in changed])
            self._server.reload()


def _digest(path: Path) -> bytes | None:
    """Of what a file holds, or of the names that a folder does; None if it cannot be read."""
    try:
        held = "\0".join(sorted(os.listdir(path))).encode() if path.is_dir() else path.read_bytes()
    except OSError:
        return None
    return hashlib.sha256(held).digest()


def folders_of(files: Iterable[Path]) -> set[str]:
    """The folders in which something changes when one of ``files`` is replaced: its own (or itself,
    where it is one), and those of all links on the way to it."""
    found: set[str] = set()
    for path in files:
        links = 0
        here, rest = "/", [part for part in os.path.abspath(path).split("/") if part]
        while rest:
            name = rest.pop(0)
            at = os.path.normpath(os.path.join(here, name))
            try:
                target = os.readlink(at)
            except OSError:
                target = ""
            if target and links < _MOST_LINKS:
                links += 1
                found.add(here)
                whole = os.path.join(here, target)
                here, rest = "/", [*filter(None, whole.split("/")), *rest]
            elif rest or os.path.isdir(at):
                here = at
        found.add(here)
    return {folder for folder in found if os.path.isdir(folder)}


class _Folders:
    """Those that are watched."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._watched: set[str] = set()
        self._kernel: RustNotify | None = None

    def choose(self, files: Iterable[Path]) -> bool:
        """Watch those of ``files``; whether these are other ones than before."""
        wanted = folders_of(files)
        if wanted == self._watched:
            return False
        self.close()
        self._watched = wanted
        try:
            self._kernel = RustNotify(sorted(wanted), False, False, 0, False, True)
        except (OSError, RuntimeError) as error:
            self._give_up(error)
        return True

    async def told(self) -> None:
        """Wait until something changes in one of them, or for as long as is sensible."""
        stop = threading.Event()
        try:
            with trio.move_on_after(ANYWAY):
                await trio.to_thread.run_sync(
                    partial(_wait, self._kernel, stop), abandon_on_cancel=True
                )
        except (OSError, RuntimeError) as error:
            self._give_up(error)
        finally:
            stop.set()

    def _give_up(self, error: Exception) -> None:
        self.close()
        self._log.warning("changes of files are not told", problem=str(error), looks_every=ANYWAY)

    def close(self) -> None:
        """Watch none."""
        if self._kernel is not None:
            self._kernel.close()
            self._kernel = None


def _wait(kernel: RustNotify | None, stop: threading.Event) -> None:
    if kernel is None:
        stop.wait()
    else:
        kernel.watch(_MOST, STEP, 0, stop)
