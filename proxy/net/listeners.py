"""Sockets that accept clients: opening them, taking connections off them, closing them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

import trio

from proxy.addresses import Address
from proxy.net.inherited import NOTHING, Inherited
from proxy.net.redirected import make_transparent
from proxy.net.transport import set_options
from proxy.net.unix import AS_IT_IS, Access, open_unix

#: Out of descriptors or memory: wait for somebody to leave instead of spinning on accept().
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE: Final = 0.1

#: Connections taken in one go before other tasks get their turn.
_BATCH: Final = 32

#: How far above the first listener's port another member's listener may lie.
PORTS_TRIED: Final = 200


@dataclass(eq=False, slots=True)
class Listener:
    """One open listener, which stands for the upstream process at ``upstream``.

    ``address`` is where it really listens; ``sockets`` are one per resolved address. A unix
    socket's path goes with it if it is its ``own``; a ``handed`` one becomes that when the
    predecessor is done.
    """

    address: Address
    upstream: Address
    sockets: list[socket.socket] = field(default_factory=list)
    own: bool = True
    handed: bool = False

    @property
    def wildcard(self) -> bool:
        """Whether it listens on every interface, so that no one host names it."""
        return self.address.host in ("0.0.0.0", "::", "*")

    def close(self) -> None:
        """Accept no more; a second call does nothing."""
        for sock in self.sockets:
            if sock.fileno() >= 0:
                trio.lowlevel.notify_closing(sock)
                sock.close()
        if self.address.path and self.own:
            self.own = False
            with contextlib.suppress(OSError):  # somebody may have cleaned up before us
                os.unlink(self.address.path)


async def open_listener(
    address: Address,
    upstream: Address,
    backlog: int,
    inherited: Inherited = NOTHING,
    *,
    handed: bool = True,
    access: Access = AS_IT_IS,
    transparent: bool = False,
) -> Listener:
    """Listen on ``address``; port 0 means any free one. ``access`` is for a unix socket.

    A ``transparent`` listener is given connections to any address (TPROXY).

    Sockets that are ``inherited`` are taken where they listen there; without ``handed``, only
    those that were nobody's before.

    Raises:
        OSError: nobody can listen there; ``filename`` is the address.
    """
    try:
        if address.path:
            taken = inherited.take(socket.AF_UNIX, address.path, handed=handed)
            if taken is None:
                return Listener(address, upstream, [open_unix(address.path, backlog, access)])
            if taken.handed:  # systemd has settings of its own
                access.give(address.path)
            taken.sock.listen(backlog)
            handed = taken.handed
            return Listener(address, upstream, [taken.sock], own=False, handed=handed)
        found = await trio.socket.getaddrinfo(
            None if address.host == "*" else address.host,
            address.port,
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(address)) from error
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"no host has such a name: {error}", str(address)) from error
    listener = Listener(address, upstream)
    port = address.port
    try:
        for family, kind, protocol, _, where in dict.fromkeys(found):
            place = (where[0], port, *where[2:])
            taken = inherited.take(family, place, handed=handed)
            sock = socket.socket(family, kind, protocol) if taken is None else taken.sock
            listener.sockets.append(sock)
            if taken is None:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if transparent:
                    make_transparent(sock)
                sock.bind(place)
            sock.listen(backlog)
            port = port or sock.getsockname()[1]
    except OSError as error:
        listener.close()
        raise OSError(error.errno, error.strerror, str(address)) from error
    listener.address = Address(address.host, port)
    return listener


async def open_next_listener(
    first: Address,
    upstream: Address,
    backlog: int,
    inherited: Inherited = NOTHING,
    avoided: Collection[int] = (),
) -> Listener:
    """Listen on the next free port above ``first``'s that is not to be ``avoided``.

    Raises:
        OSError: none of the next :data:`PORTS_TRIED` is free.
    """
    for port in range(first.port + 1, min(first.port + 1 + PORTS_TRIED, 65_536)):
        if port in avoided:
            continue
        try:
            place = Address(first.host, port)
            return await open_listener(place, upstream, backlog, inherited, handed=False)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
    raise OSError(errno.EADDRINUSE, f"no free port in the {PORTS_TRIED} above", str(first))


async def accept(
    sock: socket.socket,
    take: Callable[[socket.socket, str], None],
    exhausted: Callable[[OSError], None],
) -> None:
    """Hand every client of a listening socket to ``take`` as (socket, "host:port" or "unix").

    Runs until cancelled or until the socket is closed. ``exhausted`` is told when the process
    is out of descriptors.
    """
    while sock.fileno() >= 0:
        try:
            await trio.lowlevel.wait_readable(sock)
            for _ in range(_BATCH):
                connection, peer = sock.accept()
                if sock.family == socket.AF_UNIX:
                    name = "unix"
                else:
                    name = str(Address(peer[0], peer[1]))
                    set_options(connection)
                take(connection, name)
        except BlockingIOError:
            continue
        except trio.ClosedResourceError:
            return
        except OSError as error:
            if error.errno == errno.EBADF:
                return
            if error.errno in _EXHAUSTED:
                exhausted(error)
                await trio.sleep(_PAUSE)
            # Anything else is the fate of one client that was gone before it was taken.
