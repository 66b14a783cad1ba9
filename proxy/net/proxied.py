"""Clients that a balancer hands on with a PROXY header: who may say so, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from proxy.net.gone import PeerGoneError
from proxy.net.networks import Networks
from proxy.wire.protocols import PROXY, protocol_of
from proxy.wire.proxy_header import LONGEST, WORD, HeaderError, may_begin, read_header

if TYPE_CHECKING:
    import socket

    from proxy.settings.listen import Listen
    from proxy.wire.proxy_header import ProxyHeader


class NotServedError(PeerGoneError):
    """A header is missing, wrong, or from somebody who may send none."""


class NobodyError(PeerGoneError):
    """Somebody connected and went without a word, as balancers do to see who is there."""


class Senders:
    """Who may send headers, by the settings. Whoever has the socket of a unix listener may."""

    def __init__(self, settings: Listen) -> None:
        self._required = settings.proxy_protocol == "require"
        self._networks = Networks(settings.proxy_protocol_from)

    def may_send(self, peer: str) -> bool:
        """Whether ``peer``, as a listener names it, may."""
        return self._networks.hold(peer)

    async def receive(self, sock: socket.socket, peer: str) -> tuple[ProxyHeader | None, bytes]:
        """The header that ``peer`` sends, and what came behind it; None where it begins otherwise.

        Raises:
            NotServedError: the client cannot be served; ``protocol`` is what it speaks.
            NobodyError: it went and has said nothing.
            PeerGoneError: the connection broke.
        """
        sock.setblocking(False)
        data = b""
        while True:
            data += await _more(sock, data)
            if not may_begin(data):
                if not self._required:
                    return None, data
                protocol = protocol_of(data)
                known = f": this is {protocol}" if protocol else ""
                raise NotServedError(f"none, where one is required{known}", protocol or "other")
            if len(data) >= len(WORD) and not self.may_send(peer):
                who = f"{peer} is not in listen.proxy_protocol_from"
                raise NotServedError(f"one that is not taken: {who}", PROXY)
            try:
                header = read_header(data)
            except HeaderError as error:
                raise NotServedError(str(error), PROXY) from error
            if header is not None:
                return header, data[header.size :]


async def _more(sock: socket.socket, data: bytes) -> bytes:
    while True:
        try:
            await trio.lowlevel.wait_readable(sock)
            more = sock.recv(LONGEST)
        except BlockingIOError:
            continue
        except (OSError, trio.ClosedResourceError) as error:
            problem = str(error)
        else:
            if more:
                return more
            problem = "closed in the middle of it"
        raise NotServedError(problem) if data else NobodyError(problem)
