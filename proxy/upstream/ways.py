"""Whether the way to upstream comes back to the proxy itself, which must not be dialled then.

Addresses tell that only sometimes (:mod:`proxy.net.loops`): names, forwarded ports, the kernel's
redirection and a second proxy hide it. So what the proxy asks on its own account carries a mark,
and where its own mark comes in from a client, that has gone in a circle. It is refused; and whoever
asked, however many proxies away, gets the refusal for an answer and knows. Clients' own messages
carry nothing: before the first of them goes a way, and again after every :data:`_DIALS`, the proxy
finds out by a hello of its own. Once a way was good, only the client whose turn it is waits for
that, and as many others as between two of them do not: an upstream, or a name, that hangs must not
have clients wait one behind the other. A loop that comes up while the proxy runs so ends with that
many connections, all of which then get an error.

Nothing is refused for what anybody else says: a client that shows the proxy's mark hurts itself.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import trio
from bson.errors import BSONError

from proxy import logs
from proxy.errors import NotDialledError, WireError
from proxy.net.gone import PeerGoneError
from proxy.upstream.link import Link, is_loop, loop
from proxy.wire.proxy_header import LOCAL_HEADER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

    from proxy.addresses import Address
    from proxy.net.tls import UpstreamTls
    from proxy.settings.upstream import Upstream

#: How every proxy's mark begins.
_BEGIN: Final = "mongo-session-proxy/"
_BEGIN_BYTES: Final = _BEGIN.encode()

#: Clients' connections that may go a way before it is tried anew. In a circle of several proxies
#: each of them has twice so many at the most, and descriptors for more.
_DIALS: Final = 64

#: Seconds before a way that was found to come back is tried anew.
_AGAIN: Final = 1.0

#: Ways that are remembered.
_MOST: Final = 1_000


def new_mark() -> str:
    """A mark that no other proxy has; all processes of one proxy have the same."""
    return _BEGIN + secrets.token_hex(8)


@dataclass(slots=True)
class _Way:
    #: Clients' connections that may still be made before it is tried; below 0, and down to
    #: -:data:`_DIALS`, those that may be made while it is. One never tried has none.
    dials: int = -_DIALS
    loops: bool = False
    tried: float = -math.inf
    name: str = ""
    #: Set when it has been tried; None while nobody does.
    trial: trio.Event | None = None


class Ways:
    """The ways to upstream processes, by their addresses, and connections of the proxy's own."""

    def __init__(
        self,
        tls: UpstreamTls | None,
        settings: Upstream,
        mark: str,
        log: FilteringBoundLogger | None = None,
    ) -> None:
        self._tls = tls
        self._settings = settings
        self.mark: Final = mark
        self._own = mark.encode()
        self._ways: dict[Address, _Way] = {}
        self._log = log or logs.logger()

    def link(self, address: Address, name: str = "") -> Link:
        """A connection of the proxy's own, to be made. ``name`` is as clients call it, for TLS."""
        settings = self._settings
        header = LOCAL_HEADER if settings.proxy_protocol else b""
        name = name or self._at(address).name
        return Link(address, self._tls, self.mark, header, name, settings.socket_mark)

    async def await_safe(self, address: Address, first: bytes, name: str = "") -> None:
        """Return when a connection to ``address`` can be made for a client.

        ``first`` is what it has sent so far, ``name`` whom it means by TLS.

        Raises:
            NotDialledError: it would come back, or has.
        """
        if self._own in first:
            raise NotDialledError(loop(address))
        way = self._at(address)
        way.dials -= 1
        if self._is_due(way) and not self.finds_out(first):
            await self._find_out(address, way, name)
        if way.loops:
            raise NotDialledError(loop(address))

    @staticmethod
    def finds_out(first: bytes) -> bool:
        """Whether another proxy finds out about its way. That must not wait for what this one
        finds out, where both would wait for each other."""
        return _BEGIN_BYTES in first

    def heard(self, address: Address, reply: Mapping[str, Any] | None) -> None:
        """Take in what was answered to :meth:`link` 's first hello; None for nothing."""
        way = self._at(address)
        loops = reply is not None and is_loop(reply)
        if loops and not way.loops:
            self._log.error("the proxy is its own upstream", upstream=str(address))
        way.loops, way.tried, way.dials = loops, trio.current_time(), _DIALS

    def is_named(self, address: Address, name: str) -> None:
        """TLS has shown that ``address`` goes by this name."""
        way = self._at(address)
        way.name = way.name or name

    def _at(self, address: Address) -> _Way:
        way = self._ways.get(address)
        if way is None:
            if len(self._ways) >= _MOST:
                del self._ways[next(iter(self._ways))]
            way = self._ways[address] = _Way()
        return way

    def _is_due(self, way: _Way) -> bool:
        if way.loops:
            return trio.current_time() >= way.tried + _AGAIN
        return way.dials < 0

    async def _find_out(self, address: Address, way: _Way, name: str) -> None:
        """Try a way, or wait for whoever does where there is no going on before that."""
        # Who tries may go away meanwhile: then it is another's turn.
        while self._is_due(way):
            if way.trial is None:
                way.trial = trio.Event()
                try:
                    await self._try(address, way, name)
                finally:
                    way.trial.set()
                    way.trial = None
                way.dials -= 1
            elif way.loops or way.dials < -_DIALS:
                await way.trial.wait()
            else:
                return

    async def _try(self, address: Address, way: _Way, name: str) -> None:
        link = self.link(address, name)
        reply = None
        try:
            with trio.move_on_after(self._settings.connect_seconds):
                reply = await link.first_answer()
        except (PeerGoneError, WireError, BSONError, RecursionError):
            pass  # Whatever is the matter there: the client's own connection will show it.
        finally:
            link.close()
        self.heard(address, reply)
