"""Connecting upstream for clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import trio

from proxy.errors import NotDialledError
from proxy.net.gone import PeerGoneError
from proxy.net.transport import SocketTransport, Transport, open_socket

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from proxy.addresses import Address
    from proxy.net.tls import UpstreamTls
    from proxy.observe.telemetry import Telemetry
    from proxy.settings.upstream import Upstream
    from proxy.upstream.ways import Ways


class Meant(NamedTuple):
    """What upstream is told of a client before its first byte.

    ``name`` is whom the client means by its own TLS, ``context`` the TLS to use in its stead where
    there is one in particular, ``header`` what goes in front.
    """

    name: str
    context: ssl.SSLContext | None
    header: bytes


@dataclass(slots=True)
class Dialler:
    """Dials for all clients of a cluster; none goes on before ``ready`` is set."""

    ways: Ways
    tls: UpstreamTls | None
    settings: Upstream
    telemetry: Telemetry
    ready: trio.Event
    #: Where clients say whom to dial: one was connected, and who that is has to be known first.
    reached: Callable[[Address], Awaitable[None]] | None = None

    async def dial(self, upstream: Address, first: bytes, meant: Meant) -> Transport:
        """Connect, and do not go on before it is known what upstream is.

        ``first`` is what the client has sent so far.

        Raises:
            PeerGoneError: nobody is there.
            NotDialledError: the client is to be told something else.
        """
        telemetry = self.telemetry
        try:
            await self.ways.await_safe(upstream, first, meant.name)
        except NotDialledError:
            telemetry.not_connected("loop")
            raise
        began = trio.current_time()
        try:
            with trio.fail_after(self.settings.connect_seconds):
                transport = await self._connect(upstream, meant)
                try:
                    # To another proxy's own question an error may come back before that.
                    if not self.ways.finds_out(first):
                        await self.ready.wait()
                        if self.reached is not None:
                            await self.reached(upstream)
                except BaseException:
                    transport.close()
                    raise
        except trio.TooSlowError:
            telemetry.not_connected("timeout")
            raise PeerGoneError(f"{upstream}: connect timeout") from None
        except PeerGoneError:
            telemetry.not_connected("failed")
            raise
        telemetry.connected(trio.current_time() - began)
        return transport

    async def _connect(self, upstream: Address, meant: Meant) -> Transport:
        sock = await open_socket(upstream, meant.header, self.settings.socket_mark)
        if self.tls is None:
            return SocketTransport(sock)
        transport = await self.tls.start(sock, upstream, meant.context, meant.name)
        self.ways.is_named(upstream, meant.name)
        return transport
