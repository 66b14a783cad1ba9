"""Listening sockets that were open before this process began: systemd's, or its predecessor's.

A socket is found by what it listens on. So a listener is opened as ever, and takes an open socket
where there is one for its address: no client notices that another process accepts.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.addresses import Address


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a listener of the process before was.

    ``upstream`` is whom it stood for, None for the admin endpoint; ``wanted`` is the address that
    the settings named (port 0 may be in it), None where they named none; ``address`` the real one.
    ``cluster`` is whose it was, "" where there was but one.
    """

    upstream: Address | None
    wanted: Address | None
    address: Address
    cluster: str = ""


class Inherited:
    """Open sockets, for those who want to listen where they do.

    ``handed`` are the predecessor's, which are this process's own from now on. ``kept`` are
    systemd's: they stay open for as long as the process lives, and so do unix sockets' paths.
    """

    def __init__(
        self,
        handed: Iterable[socket.socket] = (),
        kept: Iterable[socket.socket] = (),
        placed: Sequence[Placed] = (),
    ) -> None:
        self.kept: Final = list(kept)
        self._handed = list(handed)
        self._placed = placed
        #: What was given out, by the socket that it is a duplicate of.
        self._given: dict[socket.socket, socket.socket] = {}

    def take(
        self, family: int, where: str | tuple[Any, ...], *, handed: bool = True
    ) -> Taken | None:
        """A duplicate of the socket that listens on ``where`` (as getsockname says it).

        None where there is none, or whoever has it has not closed it. ``handed=False`` leaves
        out what the predecessor had: somebody in particular is to get that.
        """
        # Systemd's first: a predecessor may have had the same.
        for sock in (*self.kept, *self._handed) if handed else self.kept:
            if sock.family == family and _place(family, sock.getsockname()) == _place(
                family, where
            ):
                given = self._given.get(sock)
                if given is not None and given.fileno() >= 0:
                    return None
                duplicate = self._given[sock] = sock.dup()
                duplicate.setblocking(False)
                return Taken(duplicate, sock in self._handed)
        return None

    def places(
        self, wanted: Mapping[Address, Address], first: Address, cluster: str = ""
    ) -> dict[Address, Address]:
        """Which listeners of a cluster's members stay where they were, and where that is.

        ``wanted`` are the places that the settings name now and ``first`` is the one above which
        the others lie. Whoever had a place by other settings has none now.
        """
        placed = [one for one in self._placed if one.cluster == cluster]
        same_first = any(one.wanted == first for one in placed)
        found: dict[Address, Address] = {}
        for one in placed:
            if one.upstream is None or one.wanted != wanted.get(one.upstream):
                continue
            if one.wanted is not None or (same_first and one.address not in wanted.values()):
                found[one.upstream] = one.address
        return found

    def admin(self, wanted: Address) -> Address:
        """Where the admin endpoint listens if the settings say ``wanted``."""
        for one in self._placed:
            if one.upstream is None and one.wanted == wanted:
                return one.address
        return wanted

    def unused(self) -> list[str]:
        """What nobody has taken, as addresses."""
        return [
            _spelled(sock)
            for sock in (*self._handed, *self.kept)
            if sock not in self._given or self._given[sock].fileno() < 0
        ]

    def settle(self) -> None:
        """Whoever wants one of the predecessor's has it: close the others."""
        for sock in self._handed:
            sock.close()
            self._given.pop(sock, None)
        self._handed.clear()


@dataclass(frozen=True, slots=True)
class Taken:
    """A socket, and whether it was the predecessor's."""

    sock: socket.socket
    handed: bool


#: For a process that begins with nothing.
NOTHING: Final = Inherited()


def adopt(descriptor: int) -> socket.socket:
    """The listening stream socket behind a descriptor, which no further program inherits.

    Raises:
        OSError: it is none.
    """
    sock = socket.socket(fileno=descriptor)
    try:
        if not (
            sock.type == socket.SOCK_STREAM
            and sock.family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            raise OSError(0, "not a listening stream socket", f"descriptor {descriptor}")
    except OSError:
        sock.detach()
        raise
    sock.set_inheritable(False)
    return sock


def _place(family: int, where: Any) -> Any:  # noqa: ANN401 - as diverse as families are
    if family == socket.AF_INET6:
        host, port, _, scope = where
        return host, port, scope
    return tuple(where) if family == socket.AF_INET else where


def _spelled(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return str(name)
    return str(Address(name[0], name[1]))
