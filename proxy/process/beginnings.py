"""What a process has from before it began: its predecessor's sockets and word, or systemd's."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy.addresses import parse_address
from proxy.errors import ConfigError
from proxy.net.inherited import Inherited, Placed, adopt
from proxy.process.successor import VARIABLE
from proxy.texts import CUT

if TYPE_CHECKING:
    from proxy.addresses import Address

#: The first descriptor that systemd passes (sd_listen_fds(3)).
_FIRST: Final = 3

#: Bytes that are received at a time, and how many of them stand around what there is to say.
_MOST: Final = 65_536
_FRAME: Final = 100


@dataclass(frozen=True, slots=True)
class Beginnings:
    """What there was before. ``predecessor`` is None where nobody is to be relieved."""

    inherited: Inherited = field(default_factory=Inherited)
    predecessor: Predecessor | None = None


class Predecessor:
    """The process that serves until this one can; what to say to it.

    ``upstream`` are the clusters that it reached, or whether it reached the only one; ``seconds``
    how long it waits.
    """

    def __init__(
        self, channel: socket.socket, *, upstream: bool | Sequence[str], seconds: float
    ) -> None:
        self.channel = channel
        self.upstream = upstream
        self.seconds = seconds

    def reached(self, cluster: str) -> bool:
        """Whether it reached a cluster, so that this process has to reach it too."""
        upstream = self.upstream
        return upstream if isinstance(upstream, bool) else cluster in upstream

    def failed(self, problems: Sequence[str]) -> None:
        """This process cannot take over, and ends. Where there is no room for all of the reasons,
        the last one is ``…``."""
        said: list[str] = []
        room = _MOST - _FRAME
        for one in problems or ["unknown"]:
            room -= len(json.dumps(one)) + len(", ")
            if room < 0:
                said.append(CUT)
                break
            said.append(one)
        self._tell({"problems": said})

    def ready(self) -> None:
        """This process can accept clients."""
        self._tell({"ready": True})

    async def released(self) -> dict[str, Any]:
        """Wait until the predecessor accepts nobody any more; what it had to say then.

        One that is gone has nothing to say.
        """
        await trio.lowlevel.wait_readable(self.channel)
        try:
            told = self.channel.recv(_MOST)
        except OSError:
            told = b""
        found: dict[str, Any] = json.loads(told) if told else {}
        return found

    def _tell(self, what: dict[str, Any]) -> None:
        with suppress(OSError):  # it is gone or has given up: either shows by itself
            self.channel.send(json.dumps(what).encode())


def find(environ: MutableMapping[str, str] = os.environ) -> Beginnings:
    """Take what the environment names; it names nothing any more afterwards.

    Raises:
        ConfigError: a descriptor is not what it should be.
    """
    named = environ.pop(VARIABLE, "")
    by_systemd = {
        name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    }
    try:
        if named:
            return _from_predecessor(json.loads(named))
        if by_systemd["LISTEN_PID"] == str(os.getpid()) and by_systemd["LISTEN_FDS"].isdecimal():
            count = int(by_systemd["LISTEN_FDS"])
            return Beginnings(Inherited(kept=[adopt(_FIRST + n) for n in range(count)]))
    except OSError as error:
        raise ConfigError([f"{error.filename or 'inherited'}: {error.strerror}"]) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError([f"{VARIABLE}: cannot be read: {error}"]) from error
    return Beginnings()


def _from_predecessor(told: dict[str, Any]) -> Beginnings:
    handed, placed = [], []
    for one in told["listeners"]:
        handed += [adopt(descriptor) for descriptor in one["descriptors"]]
        address = _address(one["address"])
        assert address is not None
        where = _address(one["upstream"]), _address(one["wanted"]), address
        placed.append(Placed(*where, one.get("cluster", "")))
    kept = [adopt(descriptor) for descriptor in told["kept"]]
    channel = socket.socket(fileno=told["channel"])
    channel.set_inheritable(False)
    channel.setblocking(False)
    predecessor = Predecessor(channel, upstream=told["upstream"], seconds=told["seconds"])
    return Beginnings(Inherited(handed, kept, placed), predecessor)


def _address(text: str | None) -> Address | None:
    return None if text is None else parse_address(text)
