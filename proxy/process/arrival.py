"""What comes before a client's first message: a PROXY header and TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.addresses import parse_address
from proxy.net.gone import PeerGoneError
from proxy.net.proxied import NobodyError, NotServedError
from proxy.net.tls_transport import TlsTransport, start_tls
from proxy.net.transport import SocketTransport, Transport
from proxy.wire.proxy_header import header_for

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from proxy.addresses import Address
    from proxy.net.proxied import Senders
    from proxy.net.tls import ListenerTls, UpstreamTls
    from proxy.wire.proxy_header import ProxyHeader


class NotAllowedError(PeerGoneError):
    """The client's own address is none that is served."""


class Arrival:
    """A client until it can be heard.

    ``peer`` names it and ``reached`` is where it has connected to, None for a unix socket: at first
    by its socket, then by its PROXY header. ``client`` is there when it can be heard.
    """

    def __init__(self, sock: socket.socket, peer: str, reached: Address | None) -> None:
        self._sock = sock
        self.peer = peer
        self.reached = reached
        self.client: Transport | None = None
        #: Nobody's news if it says nothing, or even if it does: a balancer that looks whether
        #: somebody is there.
        self.quiet = self.local = False

    async def receive(
        self,
        senders: Senders | None,
        tls: ListenerTls | None,
        lets_in: Callable[[str], bool] = lambda _peer: True,
    ) -> None:
        """Take its header, where ``senders`` may send one, and do its TLS handshake.

        A balancer that speaks for itself is let in from anywhere.

        Raises:
            PeerGoneError: it is not to be served, or gone; the socket may be open still.
        """
        ahead = b""
        if senders is not None:
            header, ahead = await senders.receive(self._sock, self.peer)
            if header is not None:
                self._take(header)
            if not self.quiet and not lets_in(self.peer):
                raise NotAllowedError(f"{self.peer} is not in listen.allow")
        if tls is None:
            self.client = SocketTransport(self._sock, ahead=ahead)
        else:
            self.client = await start_tls(self._sock, tls.context, server_side=True, ahead=ahead)

    def _take(self, header: ProxyHeader) -> None:
        source, destination = header.source, header.destination
        # With version 1 a sender that speaks for itself names nobody, or itself.
        self.quiet = source is None or str(source) == self.peer
        self.local = header.local
        if source is not None and destination is not None:
            self.peer = str(source) if source.host else "unix"
            if destination.host:
                self.reached = destination

    def failed(self, error: PeerGoneError) -> str:
        """Why the connection ends that :meth:`receive` has failed for."""
        if isinstance(error, NobodyError):
            self.quiet = self.local = True
            return "client closed"
        if isinstance(error, NotAllowedError):
            self.quiet = self.local = True
            return f"client not allowed: {error}"
        where = "PROXY header" if isinstance(error, NotServedError) else "TLS"
        return f"client {where}: {error}"


def own_context(client: Transport, tls: UpstreamTls | None) -> ssl.SSLContext | None:
    """What upstream is shown for a client with a certificate, where that is mapped.

    Raises:
        ValueError: nobody knows whose certificate it is.
    """
    if tls is None or not isinstance(client, TlsTransport):
        return None
    certificate = client.peer_certificate()
    return tls.context_for(certificate) if certificate else None


def header_of(peer: str, reached: Address | None) -> bytes:
    """The header for upstream of a client that a listener or another header names ``peer``."""
    source = parse_address(peer) if ":" in peer else None
    return header_for(source, reached)
