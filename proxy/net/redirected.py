"""Where connections were to go before the kernel redirected them here.

With REDIRECT (nftables, iptables) the kernel has changed a connection's destination and says on
request what it was. With TPROXY it has not: the accepted socket itself is bound to it, which takes
a listener with IP_TRANSPARENT.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final

from proxy.addresses import Address
from proxy.errors import CommandError, NotDialledError
from proxy.net.loops import is_here, plain
from proxy.net.transport import SO_MARK
from proxy.settings.destinations import parse_range

if TYPE_CHECKING:
    from proxy.settings.config import Config
    from proxy.settings.listen import Listen

#: Of <linux/netfilter_ipv4.h> (and <linux/netfilter_ipv6/ip6_tables.h>), <linux/in.h> and
#: <linux/in6.h>: Python names none of them.
_SO_ORIGINAL_DST: Final = 80
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75

#: struct sockaddr_in and sockaddr_in6, the family in the machine's own order.
_SOCKADDR_IN: Final = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6: Final = struct.Struct("=H2sI16sI")

#: Whom the one listener stands for, which has connections to anybody.
ANYBODY: Final = Address("redirected", 0)

_HOST_UNREACHABLE: Final = 6


def original_destination(sock: socket.socket) -> tuple[str, int]:
    """Host and port that a connection was to reach before REDIRECT changed them.

    Where nothing was changed, that is the socket's own address.

    Raises:
        OSError: the kernel does not know this connection.
    """
    if sock.family == socket.AF_INET6:
        level, form = socket.IPPROTO_IPV6, _SOCKADDR_IN6
        _, port, _, host, _ = form.unpack(sock.getsockopt(level, _SO_ORIGINAL_DST, form.size))
    else:
        level, form = socket.IPPROTO_IP, _SOCKADDR_IN
        _, port, host = form.unpack(sock.getsockopt(level, _SO_ORIGINAL_DST, form.size))
    return socket.inet_ntop(sock.family, host), int.from_bytes(port, "big")


def make_transparent(sock: socket.socket) -> None:
    """Have a socket that is not bound yet accept connections to any address.

    Raises:
        OSError: the process may not.
    """
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)


def problems(config: Config) -> list[str]:
    """What the settings ask for and the process may not do."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            if config.upstream.socket_mark:
                probe.setsockopt(socket.SOL_SOCKET, SO_MARK, config.upstream.socket_mark)
        except OSError as error:
            found.append(f"upstream.socket_mark: {error.strerror}: it takes CAP_NET_ADMIN")
        try:
            if config.listen.mode == "tproxy":
                make_transparent(probe)
        except OSError as error:
            found.append(f"listen.mode: tproxy: {error.strerror}: it takes CAP_NET_ADMIN")
    return found


class Redirection:
    """What the settings say of redirected connections."""

    def __init__(self, settings: Listen) -> None:
        self._transparent = settings.mode == "tproxy"
        self._allowed = [parse_range(text) for text in settings.destinations]

    def destination(self, sock: socket.socket, listener: int) -> Address:
        """Where a connection leads that was accepted by a listener on this port.

        Raises:
            NotDialledError: nowhere that this proxy dials.
        """
        host, port = sock.getsockname()[:2]
        if not self._transparent:
            # Else the kernel follows no connections here, or the client is gone.
            with contextlib.suppress(OSError):
                host, port = original_destination(sock)
        number = plain(host)
        found = Address(str(number), port)
        if port == listener and is_here(number):
            raise _refusal(f"{found} takes connections that are redirected to it, and no others")
        if not any(allowed.holds(number, port) for allowed in self._allowed):
            raise _refusal(f"{found} is none of the proxy's destinations (listen.destinations)")
        return found


def _refusal(text: str) -> NotDialledError:
    return NotDialledError(CommandError(_HOST_UNREACHABLE, "HostUnreachable", text))
