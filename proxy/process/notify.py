"""What systemd is told of the process's life: up, reloading, stopping, and that the loop turns.

The protocol of sd_notify(3): lines ``NAME=value`` in one datagram to the unix socket that
``$NOTIFY_SOCKET`` names. Without that variable nothing is sent, so every other way of starting
the proxy is the same as before.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import trio

from proxy import logs

#: Microseconds a second, the unit of every time that systemd speaks of.
_USEC: Final = 1_000_000

#: What ending takes beside the draining: writing the rest of the audit log, and Python's own end.
_ENDING_SECONDS: Final = 15


class Notifier:
    """Tells the service manager; a failure is logged and never more than that."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._interval = _interval(environ) if self._address else None

    def ready(self) -> None:
        """Clients can connect."""
        self._send("READY=1", f"MAINPID={os.getpid()}")

    def hand_over(self, pid: int) -> None:
        """The process ``pid`` is the service from now on. This one says no more."""
        self._send(f"MAINPID={pid}", "READY=1")
        self._address = self._interval = None

    def stopping(self, seconds: float) -> None:
        """The proxy is on its way out and may take up to ``seconds`` for it."""
        usec = round((seconds + _ENDING_SECONDS) * _USEC)
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={usec}")

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """Around reading the settings again; whatever comes of it, the proxy goes on serving."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            self._send("READY=1")

    async def keep_alive(self) -> None:
        """Tell twice in each watchdog interval that the loop turns; nothing without a watchdog."""
        while self._interval is not None:
            self._send("WATCHDOG=1")
            await trio.sleep(self._interval / 2)

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)  # clients must not wait for the service manager
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logs.logger().warning("service manager not told", what=lines[0], problem=str(error))


def _address(name: str) -> str | bytes | None:
    """An absolute path, or ``@name`` of the abstract namespace; other kinds are not spoken."""
    if name.startswith("@"):
        return b"\0" + os.fsencode(name[1:])
    return name if name.startswith("/") else None


def _interval(environ: Mapping[str, str]) -> float | None:
    """The watchdog's interval in seconds, None where there is none for this process."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    if not (usec.isdecimal() and int(usec)) or pid != str(os.getpid()):
        return None
    return int(usec) / _USEC
