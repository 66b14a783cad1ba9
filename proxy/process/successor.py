"""Starting the program that takes over, and waiting until it can.

The new process inherits the listening sockets and one end of a socket pair, and finds in
:data:`VARIABLE` which descriptor is which. It opens everything that it needs and says ``ready``, or
what is wrong. Only then is it told to accept. Until then nothing has changed for anybody.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from proxy.net.inherited import Placed

#: Names what a process inherits, as JSON: see :class:`Left`.
VARIABLE: Final = "MONGO_SESSION_PROXY_INHERITED"

#: How long the new program may take until it is ready, in seconds.
PATIENCE: Final = 60.0

#: How long one that is not wanted may take to end.
_ENDING: Final = 5.0

#: What systemd says to one process in particular.
_PERSONAL: Final = ("WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

_MOST: Final = 65_536


class NotReadyError(Exception):
    """The new program did not come up; the text says why."""


@dataclass(slots=True)
class Left:
    """What a process leaves to its successor: ``listeners`` by place, and systemd's sockets.

    ``upstream`` are the clusters that were reached; the successor has to reach them too.
    """

    listeners: list[tuple[Placed, list[socket.socket]]]
    kept: list[socket.socket] = field(default_factory=list)
    upstream: Sequence[str] = ("",)

    def described(self, channel: int) -> str:
        """As :data:`VARIABLE` has it."""
        return json.dumps(
            {
                "channel": channel,
                "upstream": list(self.upstream),
                "seconds": PATIENCE,
                "listeners": [
                    {
                        "upstream": str(place.upstream) if place.upstream else None,
                        "wanted": str(place.wanted) if place.wanted else None,
                        "address": str(place.address),
                        "cluster": place.cluster,
                        "descriptors": [sock.fileno() for sock in sockets],
                    }
                    for place, sockets in self.listeners
                ],
                "kept": [sock.fileno() for sock in self.kept],
            }
        )

    def descriptors(self) -> list[int]:
        """All that has to be inherited."""
        handed = [sock for _, sockets in self.listeners for sock in sockets]
        return [sock.fileno() for sock in (*handed, *self.kept)]


class Successor:
    """A process that is ready and waits for its word."""

    def __init__(self, process: trio.Process, channel: socket.socket) -> None:
        self._process = process
        self.channel = channel
        self.pid = process.pid

    def release(self, **told: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """Let it accept clients. This process accepts none any more."""
        with suppress(OSError):  # it is gone
            self.channel.send(json.dumps(told).encode())

    async def reap(self) -> int:
        """Wait for its end."""
        try:
            return await self._process.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Say and hear nothing more."""
        if self.channel.fileno() >= 0:
            trio.lowlevel.notify_closing(self.channel)
            self.channel.close()


async def start(command: Sequence[str], left: Left) -> Successor:
    """Start the new program and wait until it is ready; cancelled, it ends.

    Raises:
        NotReadyError: it cannot be started, says what is wrong, ends, or takes too long.
    """
    with ExitStack() as opened:
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise NotReadyError(f"cannot be started: {error}") from error
        opened.callback(theirs.close)
        ours.setblocking(False)
        environment = {name: v for name, v in os.environ.items() if name not in _PERSONAL}
        environment[VARIABLE] = left.described(theirs.fileno())
        try:
            process: trio.Process = await trio.lowlevel.open_process(
                list(command),
                env=environment,
                pass_fds=[*left.descriptors(), theirs.fileno()],
            )
        except OSError as error:
            ours.close()
            raise NotReadyError(f"cannot be started: {error}") from error
    try:
        with trio.move_on_after(PATIENCE):
            await _wait_until_ready(process, ours)
            return Successor(process, ours)
        raise NotReadyError(f"not ready within {PATIENCE:g} seconds")
    except BaseException:
        ours.close()
        await _end(process)
        raise


async def _wait_until_ready(process: trio.Process, channel: socket.socket) -> None:
    """Raises NotReadyError where it is not."""
    await trio.lowlevel.wait_readable(channel)
    try:
        told = channel.recv(_MOST)
    except OSError:
        told = b""
    try:
        said = "; ".join(json.loads(told).get("problems") or ())
    except (AttributeError, TypeError, ValueError):
        # Nothing, or what another version may say instead.
        with trio.move_on_after(_ENDING):
            await process.wait()
        raise NotReadyError(_ended(process.returncode)) from None
    if said:
        raise NotReadyError(said)


def _ended(status: int | None) -> str:
    if status is None:
        return "gave up the connection to this process"
    return f"ended with status {status}" if status >= 0 else f"ended by signal {-status}"


async def _end(process: trio.Process) -> None:
    """Have it end, and wait for that."""
    with trio.CancelScope(shield=True):
        if process.returncode is None:
            process.terminate()
            with trio.move_on_after(_ENDING):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()
