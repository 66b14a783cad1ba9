"""TLS as a :class:`~proxy.net.transport.Transport`: plain sockets' own, with records in between.

Connections with TLS are in the same loop as those without (:mod:`proxy.net.readiness`), and the
relay does not know which is which.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Final

import idna
import trio

from proxy.net import readiness
from proxy.net.gone import PeerGoneError
from proxy.net.tls_records import ENDED, Records, reason
from proxy.net.transport import RECEIVE_SIZE, SocketTransport
from proxy.wire.protocols import NOTHING, TLS, protocol_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

#: Why a handshake failed that the other side did not begin.
NOTHING_SAID: Final = "closed by the other side, which may not speak TLS"

#: First bytes of a peer by which its protocol is known.
_BEGINNING: Final = 64


#: A read of the socket that was full may end within a record, which is then to follow.
_MUCH: Final = RECEIVE_SIZE - 25_000

#: Every byte is moved several times more than without TLS, and best where it still is in the
#: processor's caches: with 1 MiB replies of 1 MB cost a tenth more.
_BULK: Final = 262_144


class TlsTransport(SocketTransport):
    """TLS around a non-blocking socket; create with :func:`start_tls`."""

    __slots__ = ("_keep", "_records", "_server_side")

    def __init__(
        self,
        sock: socket.socket,
        records: Records,
        *,
        server_side: bool,
        keep: Callable[[ssl.SSLSession], None] | None = None,
    ) -> None:
        super().__init__(sock, records, _MUCH, _BULK)
        self._records = records
        self._server_side = server_side
        #: Given the session when the first bytes were read: with TLS 1.3 it is there only then.
        self._keep = keep

    async def receive(self) -> bytes:
        if self._records.has_more:
            try:
                return self._records.take()
            except BlockingIOError:
                pass
            except OSError as error:
                raise PeerGoneError(reason(error)) from error
        return await super().receive()

    async def each(self, take: Callable[[bytes], None], settle: Callable[[], bool]) -> bool:
        # Nobody is told by the socket of what was read with the end of the handshake, nor that
        # records in which something came were the last.
        while self._records.has_more:
            try:
                data = self._records.take()
            except BlockingIOError:
                break
            except OSError as error:
                raise PeerGoneError(reason(error)) from error
            if not data:
                return False
            take(data)
            if not settle():
                return True
        return await super().each(take, settle)

    def _on_readable(self) -> bool:
        unsettled = super()._on_readable()
        over = self._records.over
        if self._keep is not None:
            self._keep_session()
        if over is None:
            return unsettled
        if unsettled:
            self._on_taken()  # what came before the end goes out first
        self._wake(PeerGoneError(over) if over != ENDED else False)
        return False

    def _keep_session(self) -> None:
        session = self._records.session()
        if session is not None and session.has_ticket and self._keep is not None:
            self._keep(session)
        self._keep = None

    async def _send_rest(self, rest: memoryview) -> None:
        held = self._records.unsent
        self._watching.waiting += held
        try:
            await super()._send_rest(rest)
        finally:
            self._watching.waiting -= held
            self._records.forget()

    def pending(self) -> bool:
        return self._records.has_more or super().pending()

    def send_eof(self) -> None:
        # A server that polls for clients that went away sees the end of TCP only, and it may not
        # be behind a close_notify that it did not read. A client is told in both ways.
        if self._server_side:
            self._records.say_goodbye()
        super().send_eof()

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            # Also what OpenSSL wants to see before it resumes the session.
            self._records.say_goodbye()
        super().close()

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate in DER form; None where it showed none."""
        return self._records.certificate()

    @property
    def server_name(self) -> str:
        """Of a client: whom it means, by its server name indication; "" where it does not say."""
        return self._records.server_name

    @property
    def resumed(self) -> bool:
        """Whether this connection went on with an earlier session."""
        return self._records.resumed


async def start_tls(
    sock: socket.socket,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    server_name: str = "",
    session: ssl.SSLSession | None = None,
    keep: Callable[[ssl.SSLSession], None] | None = None,
    ahead: bytes = b"",
) -> TlsTransport:
    """Do the handshake on a connected socket; ``server_name`` is what to verify and send as SNI.

    ``session`` is an earlier one to go on with, if the peer wants to. ``keep`` is called, at most
    once, with one for a later connection. ``ahead`` is what the peer has said by now.

    Raises:
        PeerGoneError: the handshake failed; the peer was told (alert), the socket is closed.
    """
    sock.setblocking(False)
    begun = bytearray(ahead)
    try:
        name = _ascii(server_name)
        records = Records(sock, context, server_side=server_side, server_name=name, session=session)
    except (ValueError, TypeError, ssl.SSLError) as problem:
        sock.close()
        raise PeerGoneError(f"TLS: {server_name!r} is no server's name: {problem}") from problem
    try:
        records.feed(ahead)
        await _shake_hands(sock, records, begun)
    except BaseException as error:
        with contextlib.suppress(OSError):
            records.flush()  # an alert
        if sock.fileno() >= 0:
            trio.lowlevel.notify_closing(sock)
            sock.close()
        if isinstance(error, OSError | trio.ClosedResourceError):
            words = reason(error) if isinstance(error, OSError) else "closed"
            protocol = protocol_of(bytes(begun))
            if protocol not in ("", TLS):
                words += f": this is {protocol}"
            elif words == NOTHING_SAID and not server_side:
                protocol = NOTHING
            else:
                protocol = ""
            raise PeerGoneError(f"TLS handshake: {words}", protocol) from error
        raise
    return TlsTransport(sock, records, server_side=server_side, keep=keep)


def _ascii(name: str) -> str:
    """A host name as it was resolved: Python's own way is that of 2003, trio's that of 2008."""
    return name if name.isascii() else idna.encode(name, uts46=True).decode()


async def _shake_hands(sock: socket.socket, records: Records, begun: bytearray) -> None:
    """As far as it goes; ``begun`` is made what the peer said first."""
    turn = readiness.current().shaking
    while True:
        # Signing takes a millisecond: however many begin at once, the others' messages are looked
        # at between any two steps.
        async with turn:
            done = records.shake()
        if records.urgent:
            while not records.flush():
                await trio.lowlevel.wait_writable(sock)
        if done:
            return
        await trio.lowlevel.wait_readable(sock)
        try:
            data = sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            continue
        if not data:
            raise ConnectionError("closed in the middle of it" if begun else NOTHING_SAID)
        if len(begun) < _BEGINNING:
            begun += data[:_BEGINNING]
        records.feed(data)
