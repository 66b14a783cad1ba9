"""Ports that nobody else gets: tests run in several processes at once."""

from __future__ import annotations

import socket
from typing import Final

_kept: Final[list[socket.socket]] = []


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for this process and those that it starts.

    The system gives it to nobody else as long as this process runs, since a socket stays bound
    to it. Who listens there has to set SO_REUSEADDR, as servers do.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    _kept.append(kept)
    return int(kept.getsockname()[1])
