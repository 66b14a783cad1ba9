"""TLS with the manners of a non-blocking socket: what is sent and received goes through OpenSSL.

OpenSSL works between two buffers in memory. So one read of the socket brings as many records as
there are, one write takes as many (with OpenSSL at the socket, both would take a system call for
each record of 16 KiB, and reading two), and nothing has to be waited for in between.

Whatever the socket brought is decrypted at once and whole: no record is ever left inside where the
socket, which is what is waited for, would not tell of it.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

#: The most that one record can hold, and so the most that OpenSSL has decrypted at a time.
_RECORD: Final = 16_384

#: Bytes that OpenSSL is given at a time, two records and what is around them. Its buffers keep the
#: size that they once had, and many connections' large ones do not fit the processor's caches: with
#: 64 KiB (and as many encrypted at a time) replies of 100 KB cost a tenth more.
_PIECE: Final = 32_812

#: Bytes that are encrypted before the peer may begin to read them.
_GROUP: Final = 262_144

#: What a peer that reads nothing may make this end owe it in answers of TLS's own (KeyUpdate).
_MOST_OWED: Final = 65_536

#: Where in Python's source an error came up.
_PLACE: Final = re.compile(r" \(_ssl\.c:\d+\)$")

#: What OpenSSL says of a first message that is none of TLS.
_NOT_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "BAD_PROTOCOL_VERSION_NUMBER"}
)

#: The last record ended, or the peer closed without saying so: the messages inside have lengths of
#: their own, so that nothing can be cut off unnoticed.
ENDED: Final = ""


_NAME: Final = "server_name_indication"


def note_server_name(
    connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext
) -> None:
    """For ``sni_callback``: what OpenSSL says here it cannot be asked for later."""
    setattr(connection, _NAME, name)


class Records:
    """One end of a connection.

    ``over`` is None as long as the peer may send more, then :data:`ENDED` or what went wrong;
    :meth:`recv` then returns b"" or raises that, without the socket having to be ready.
    """

    __slots__ = ("_ahead", "_incoming", "_object", "_outgoing", "_owed", "_sock", "_unsent", "over")

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_name: str = "",
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side, server_name or None, session
        )
        #: Records that the socket did not take yet, before what is in ``_outgoing``.
        self._unsent: list[bytes | memoryview] = []
        #: Bytes at the front of what is to be sent next that are in those records already.
        self._ahead = 0
        #: Bytes in them that TLS itself had to say.
        self._owed = 0
        self.over: str | None = None

    # ------------------------------------------------------------------ the handshake

    def shake(self) -> bool:
        """Go one step on; False if the peer has to say something first (:meth:`feed`).

        What came of it is to be sent with :meth:`flush` if :attr:`urgent`, also where this raises.

        Raises:
            ssl.SSLError: it failed.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        if self._object.server_side and self._object.version() == "TLSv1.3":
            # These are tickets, for which nobody waits. They go with the first answer: a client
            # that closes and has not read them would reset the connection, and lose what it sent.
            self._unsent.append(self._outgoing.read())
        return True

    @property
    def urgent(self) -> bool:
        """Whether the peer waits for what there is to be sent."""
        return self._outgoing.pending > 0

    def feed(self, data: bytes) -> None:
        """Take what the peer said in its handshake."""
        self._incoming.write(data)

    @property
    def has_more(self) -> bool:
        """Whether :meth:`take` has something for which the socket does not get ready."""
        return self._incoming.pending > 0 or self.over is not None

    @property
    def server_name(self) -> str:
        """Whom the client means, by its server name indication; "" where it says nothing."""
        return str(getattr(self._object, _NAME, "") or "")

    def certificate(self) -> bytes | None:
        """The peer's certificate in DER form; None where it showed none."""
        return self._object.getpeercert(binary_form=True)

    def session(self) -> ssl.SSLSession | None:
        """What to go on with in another connection; with TLS 1.3 only once something was read."""
        return self._object.session

    @property
    def resumed(self) -> bool:
        """Whether this connection went on with an earlier session."""
        return bool(self._object.session_reused)

    # ------------------------------------------------------------------ receiving

    def recv(self, size: int) -> bytes:
        """What came, of at most ``size`` bytes of records; b"" when no more will come.

        Raises:
            BlockingIOError: nothing that is whole.
            OSError: the connection broke, or the peer does not keep to TLS.
        """
        data = self._sock.recv(size)
        if data:
            return self.take(data)
        if self.over is None:
            self.over = ENDED
        return self._last()

    def take(self, data: bytes = b"") -> bytes:
        """As :meth:`recv`, of this and of what came with the handshake's end."""
        incoming, read = self._incoming, self._object.read
        taken: list[bytes] = []
        for piece in (data,) if len(data) <= _PIECE else _pieces(data):
            incoming.write(piece)
            try:
                while incoming.pending and self.over is None:
                    # A whole record, so that OpenSSL has nothing left that it decrypted.
                    if plain := read(_RECORD):
                        taken.append(plain)
                    else:
                        self.over = ENDED
            except ssl.SSLWantReadError:
                continue
            except OSError as error:
                self.over = reason(error)
        if self._outgoing.pending:
            self._answer()
        if taken:
            return taken[0] if len(taken) == 1 else b"".join(taken)
        return self._last()

    def _last(self) -> bytes:
        if self.over is None:
            raise BlockingIOError
        if self.over:
            raise ConnectionError(self.over)
        return b""

    def _answer(self) -> None:
        """Send what TLS itself has to say."""
        self._owed += self._outgoing.pending
        try:
            if self.flush():
                self._owed = 0
        except OSError as error:
            self.over = self.over or reason(error)
        if self._owed > _MOST_OWED:
            self.over = self.over or "wants answers, but reads none"

    # ------------------------------------------------------------------ sending

    def send(self, data: bytes | memoryview) -> int:
        """Send what can be sent now; how many bytes of ``data`` are out.

        Some of those behind may have become records already: the next call has to begin with them.

        Raises:
            OSError: the connection broke.
        """
        if not self._ahead and not self._unsent and len(data) <= _RECORD:
            # Nearly always.
            self._object.write(data)
            record = self._outgoing.read()
            sent = self._sock_send(record)
            if sent == len(record):
                return len(data)
            self._unsent.append(memoryview(record)[sent:])
            self._ahead = len(data)
            return 0
        return self._send_long(memoryview(data))

    def _send_long(self, data: memoryview) -> int:
        made, write, outgoing = self._ahead, self._object.write, self._outgoing
        sent = 0
        while self.flush():
            sent = made
            if sent == len(data):
                break
            group = min(len(data), made + _GROUP)
            while made < group:
                end = min(group, made + _RECORD)
                made += write(data[made:end])
                self._unsent.append(outgoing.read())
        self._ahead = made - sent
        return sent

    def forget(self) -> None:
        """What was to be sent next will not be: another message comes, behind what is a record."""
        self._ahead = 0

    def flush(self) -> bool:
        """Send the records that there are, as far as it goes; whether all are out.

        Raises:
            OSError: the connection broke.
        """
        unsent = self._unsent
        if self._outgoing.pending:
            unsent.append(self._outgoing.read())
        while unsent:
            try:
                sent = self._sock.sendmsg(unsent)
            except BlockingIOError:
                return False
            while unsent and sent >= len(unsent[0]):
                sent -= len(unsent.pop(0))
            if sent:
                unsent[0] = memoryview(unsent[0])[sent:]
        return True

    def _sock_send(self, record: bytes) -> int:
        try:
            return self._sock.send(record)
        except BlockingIOError:
            return 0

    @property
    def unsent(self) -> int:
        """Bytes of records that the socket has not taken."""
        return sum(map(len, self._unsent)) + self._outgoing.pending

    def say_goodbye(self) -> None:
        """Say that nothing more will be sent (close_notify), if that goes without waiting."""
        # Half open is what was wanted; otherwise it is broken anyway.
        with contextlib.suppress(OSError):
            self._object.unwrap()
        with contextlib.suppress(OSError):
            self.flush()


def _pieces(data: bytes) -> list[memoryview]:
    view = memoryview(data)
    return [view[start : start + _PIECE] for start in range(0, len(view), _PIECE)]


def reason(error: OSError) -> str:
    """What went wrong, in words for a log."""
    words = _PLACE.sub("", str(error)) or type(error).__name__
    if isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _NOT_TLS:
        return f"{words}: what came is no TLS"
    return words
