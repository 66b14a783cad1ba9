"""One side's byte stream: a raw socket; :mod:`proxy.net.tls_transport` has TLS around one.

Sockets are used without trio's stream layer, and what arrives is handed to a plain
function: :mod:`proxy.net.readiness` says what that saves.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import trio

from proxy.net import readiness
from proxy.net.gone import PeerGoneError
from proxy.net.readiness import BULK_SIZE

if TYPE_CHECKING:
    from proxy.addresses import Address

#: Bytes asked for in one read. Four times as many would make small messages cost a tenth more.
RECEIVE_SIZE: Final = 65_536

#: From a read that brought as many on, until one that brings next to nothing, ``BULK_SIZE``.
_LITTLE: Final = 16_384

#: While senders wait with more bytes than this, reads stay small: what stalled peers make the
#: process hold is bounded.
_MOST_WAITING: Final = 64 << 20

#: What MongoDB drivers set on their sockets, in seconds and probes.
_KEEPALIVE: Final = (
    (socket.TCP_KEEPIDLE, 120),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 9),
)


#: Of <asm-generic/socket.h>, for Pythons that were built without it.
SO_MARK: Final = getattr(socket, "SO_MARK", 36)


class Transport(Protocol):
    """What the relay needs of a connection. At most one task sends and one receives."""

    async def receive(self) -> bytes:
        """The next bytes, at most :data:`RECEIVE_SIZE`; b"" when the peer will send no more.

        Raises:
            PeerGoneError: the connection broke.
        """

    async def each(self, take: Callable[[bytes], None], settle: Callable[[], bool]) -> bool:
        """Call ``take`` with whatever arrives, at most :data:`BULK_SIZE` bytes, then ``settle``.

        Bytes of other connections may be taken in between. ``settle`` does what can be done
        without waiting and returns False if that was not all: then this returns True. Returns
        False when the peer will send no more.

        Raises:
            PeerGoneError: the connection broke. Also whatever the two functions raise.
        """

    async def send(self, data: bytes | memoryview) -> None:
        """Send all of ``data``.

        Raises:
            PeerGoneError: the connection broke; how much was sent is unknown.
        """

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what can be sent without waiting; returns how many bytes that was.

        Raises:
            PeerGoneError: the connection broke.
        """

    def pending(self) -> bool:
        """Whether something of the peer's is there that was not received, its end included."""

    def send_eof(self) -> None:
        """Tell the peer that nothing more will come, and go on receiving."""

    def close(self) -> None:
        """Close at once, without waiting for anybody. May be called twice."""


def set_options(sock: socket.socket) -> None:
    """No delay and keepalive, as drivers have them; nothing for unix sockets."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _take_nothing(_: bytes) -> None:
    """Stands where nobody is inside :meth:`SocketTransport.each`."""


def _settle_nothing() -> bool:
    return True


class Channel(Protocol):
    """What a :class:`SocketTransport` receives from and sends to: as a non-blocking socket."""

    def recv(self, size: int, /) -> bytes:
        """At most ``size`` bytes; b"" when the peer will send no more.

        Raises:
            BlockingIOError: there are none.
            OSError: the connection broke.
        """

    def send(self, data: bytes | memoryview, /) -> int:
        """Send what can be sent now; how many bytes that was.

        Raises:
            BlockingIOError: none.
            OSError: the connection broke.
        """


class SocketTransport:
    """A non-blocking TCP or unix socket.

    ``channel`` is what to receive from and send to, with the manners of a non-blocking socket;
    without one it is the socket itself. ``ahead`` was received before: it has to be asked for with
    :meth:`receive`.
    """

    __slots__ = (
        "_ahead",
        "_bulk",
        "_much",
        "_outcome",
        "_parked",
        "_recv",
        "_send",
        "_settle",
        "_size",
        "_sock",
        "_take",
        "_watching",
    )

    def __init__(
        self,
        sock: socket.socket,
        channel: Channel | None = None,
        much: int = RECEIVE_SIZE,
        bulk: int = BULK_SIZE,
        ahead: bytes = b"",
    ) -> None:
        sock.setblocking(False)
        self._ahead = ahead
        self._sock = sock
        #: From a read that brought so many bytes on, so many are asked for.
        self._much = much
        self._bulk = bulk
        self._recv: Callable[[int], bytes] = (channel or sock).recv
        self._send: Callable[[bytes | memoryview], int] = (channel or sock).send
        self._watching = readiness.current()
        self._take: Callable[[bytes], None] = _take_nothing
        self._settle: Callable[[], bool] = _settle_nothing
        self._size = RECEIVE_SIZE
        #: The task inside :meth:`each`, and what it returns or raises when it is woken.
        self._parked: trio.lowlevel.Task | None = None
        self._outcome: bool | Exception = False

    async def receive(self) -> bytes:
        ahead, self._ahead = self._ahead, b""
        if ahead:
            return ahead
        while True:
            if self._sock.fileno() < 0:
                # The other pump closed it; trio would take note of descriptor -1.
                raise PeerGoneError("closed")
            try:
                await trio.lowlevel.wait_readable(self._sock)
                return self._recv(RECEIVE_SIZE)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError) as error:
                raise PeerGoneError(_in_words(error)) from error

    async def each(self, take: Callable[[bytes], None], settle: Callable[[], bool]) -> bool:
        if self._sock.fileno() < 0:
            raise PeerGoneError("closed")
        self._take, self._settle = take, settle
        self._watching.watch(self._sock.fileno(), self._on_readable, self._on_taken)
        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)
        outcome, self._outcome = self._outcome, False
        try:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        finally:
            # An exception refers to this frame: see :mod:`proxy.memory`.
            del outcome

    def _on_readable(self) -> bool:
        """Take what is there; whether it is still to be settled."""
        try:
            watching = self._watching
            most = watching.most if watching.waiting < _MOST_WAITING else RECEIVE_SIZE
            data = self._recv(min(self._size, most))
        except BlockingIOError:
            return False
        except OSError as error:
            self._wake(PeerGoneError(_in_words(error)))
            return False
        try:
            if data:
                self._take(data)
            else:
                self._wake(False)
        except Exception as problem:
            self._wake(problem)
        if len(data) < self._much:
            if len(data) < _LITTLE:
                self._size = RECEIVE_SIZE
            return True
        self._size = self._bulk
        # While it is in the processor's caches, and before more of that size is held.
        self._on_taken()
        return False

    def _on_taken(self) -> None:
        # What was taken may have ended the wait already, by closing or by cancelling.
        if self._parked is not None:
            try:
                if not self._settle():
                    self._wake(True)
            except Exception as problem:
                self._wake(problem)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._unpark()
        return trio.lowlevel.Abort.SUCCEEDED

    def _unpark(self) -> trio.lowlevel.Task | None:
        """The task inside :meth:`each`, which nothing is handed to any more; None for no task."""
        task, self._parked = self._parked, None
        if task is not None:
            self._watching.forget(self._sock.fileno())
            self._take, self._settle = _take_nothing, _settle_nothing
        return task

    def _wake(self, outcome: bool | Exception) -> None:
        task = self._unpark()
        if task is not None:
            self._outcome = outcome
            trio.lowlevel.reschedule(task)

    def send_now(self, data: bytes | memoryview) -> int:
        try:
            return self._send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise PeerGoneError(_in_words(error)) from error

    async def send(self, data: bytes | memoryview) -> None:
        # No checkpoint where the kernel takes everything, which is nearly always.
        rest = memoryview(data)
        sent = self.send_now(rest)
        rest = rest[sent:]
        if rest:
            await self._send_rest(rest)

    async def _send_rest(self, rest: memoryview) -> None:
        watching, held = self._watching, len(rest)
        watching.waiting += held
        try:
            while rest:
                try:
                    await trio.lowlevel.wait_writable(self._sock)
                    sent = self._send(rest)
                    rest = rest[sent:]
                except BlockingIOError:
                    continue
        except (OSError, trio.ClosedResourceError) as error:
            raise PeerGoneError(_in_words(error)) from error
        finally:
            watching.waiting -= held

    def pending(self) -> bool:
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def send_eof(self) -> None:
        with contextlib.suppress(OSError):  # the peer may have reset it already
            self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._sock.fileno() >= 0:
            self._wake(PeerGoneError("closed"))
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()


async def open_socket(address: Address, first: bytes = b"", mark: int = 0) -> socket.socket:
    """Connect to a TCP or unix address and say ``first``. The caller sets the deadline.

    With a ``mark`` the kernel's rules know the TCP connection by it.

    Raises:
        PeerGoneError: nobody answers there; the text says why.
    """
    try:
        if address.path:
            connected = await _connect(socket.AF_UNIX, address.path)
        elif mark:
            connected = await _connect_marked(address, mark)
        else:
            connected = (await trio.open_tcp_stream(address.host, address.port)).socket
    except (OSError, UnicodeError) as error:  # the latter where no name can be like that
        raise PeerGoneError(f"{address}: {_connect_reason(error)}") from error
    sock = socket.socket(fileno=connected.detach())
    set_options(sock)
    if first:
        try:
            sock.sendall(first)  # at most some dozens of bytes, and the first ones
        except OSError as gone:
            sock.close()
            raise PeerGoneError(f"{address}: {gone}") from gone
    return sock


async def _connect_marked(address: Address, mark: int) -> trio.socket.SocketType:
    """One address after the other: nothing of trio's sets an option before it connects."""
    found = await trio.socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for number, (family, *_, where) in enumerate(found):
        try:
            return await _connect(family, where, mark)
        except OSError:
            if number == len(found) - 1:
                raise
    raise OSError("no address")


async def _connect(family: int, where: Any, mark: int = 0) -> trio.socket.SocketType:  # noqa: ANN401 - as diverse as families are
    sock = trio.socket.socket(family, socket.SOCK_STREAM)
    try:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        await sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _connect_reason(error: Exception) -> str:
    # open_tcp_stream hides the reasons of its attempts behind "all attempts failed".
    cause = error.__cause__
    each = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (cause or error,)
    return ", ".join(dict.fromkeys(map(_in_words, each)))


def _in_words(error: BaseException) -> str:
    """Without number and address: whoever reads it has seen whom it is about."""
    if isinstance(error, OSError):
        # Numbers below 0 are those of name resolution.
        number = error.errno or 0
        return os.strerror(number) if number > 0 else error.strerror or str(error)
    return str(error)
