"""Unix sockets that accept clients: their paths, and who may connect."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect to a unix socket: its file's mode, owner and group; None for what it has."""

    mode: int | None = None
    owner: int | None = None
    group: int | None = None

    def give(self, path: str) -> None:
        """Have it at ``path``.

        Raises:
            OSError: this process may not do that.
        """
        try:
            # The mode first: what has been given away may be changed no more.
            if self.mode is not None:
                os.chmod(path, self.mode)
            if self.owner is not None or self.group is not None:
                owner, group = (-1 if one is None else one for one in (self.owner, self.group))
                os.chown(path, owner, group, follow_symlinks=False)
        except OSError as error:
            what = "mode, owner or group of the socket cannot be set"
            raise OSError(error.errno, f"{what}: {error.strerror}") from error


AS_IT_IS: Final = Access()


def open_unix(path: str, backlog: int, access: Access = AS_IT_IS) -> socket.socket:
    """Listen on ``path``; what a process that was killed has left there is replaced.

    Raises:
        OSError: nobody can listen there, or not so.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound = False
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
                os.unlink(path)  # left behind by a process that was killed
        sock.setblocking(False)
        sock.bind(path)
        bound = True
        access.give(path)
        # Until now nobody could connect, whatever the mode was.
        sock.listen(backlog)
    except BaseException:
        sock.close()
        if bound:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise
    return sock


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
