"""Upstream: answers every request with a reply made beforehand, from several processes.

What has no number of the load's own is read and answered as a replica set of one member would:
what a real driver sends (by the command's name), hello, the proxy's own questions.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import select
import socket
import ssl
from collections.abc import Iterator
from multiprocessing.connection import Connection

from benchmarks import named
from benchmarks.messages import HEADER, reply
from benchmarks.secure import Files, Secure, server_context

_PROCESSES = 2
_READ = select.EPOLLIN
_WRITE = select.EPOLLIN | select.EPOLLOUT


class Responder:
    """``_PROCESSES`` processes that share one port; use as a context manager.

    With certificates there is a second port, where they speak TLS.
    """

    port: int
    secure_port: int = 0

    def __init__(self, files: Files | None = None) -> None:
        self._files = files

    def __enter__(self) -> Responder:
        with contextlib.ExitStack() as stack:
            self.port = stack.enter_context(_reserved())
            if self._files is not None:
                self.secure_port = stack.enter_context(_reserved())
            self._processes = []
            for _ in range(_PROCESSES):
                ready, theirs = multiprocessing.Pipe()
                process = multiprocessing.Process(
                    target=_serve,
                    args=(self.port, self.secure_port, self._files, theirs),
                    daemon=True,
                )
                process.start()
                ready.recv()
                self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()


@contextlib.contextmanager
def _reserved() -> Iterator[int]:
    """A port that is kept free for those that will listen."""
    with _bound(0) as sock:
        yield sock.getsockname()[1]


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _listening(port: int) -> socket.socket:
    listener = _bound(port)
    listener.listen(4096)
    listener.setblocking(False)
    return listener


class _Client:
    __slots__ = ("out", "partial", "secure", "sock")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        self.sock = sock
        self.partial = b""
        self.out = bytearray()
        self.secure = None if context is None else Secure(context, server_side=True)


def _serve(port: int, secure_port: int, files: Files | None, ready: Connection) -> None:
    listener = _listening(port)
    contexts: dict[int, tuple[socket.socket, ssl.SSLContext | None]] = {
        listener.fileno(): (listener, None)
    }
    if files is not None:
        listener = _listening(secure_port)
        contexts[listener.fileno()] = listener, server_context(files)
    ready.send(True)
    clients: dict[int, _Client] = {}
    replies: dict[bytes, bytes] = {}
    poll = select.epoll()
    for fd in contexts:
        poll.register(fd, _READ)
    while True:
        for fd, event in poll.poll():
            client = clients.get(fd)
            if client is None:
                _accept(*contexts[fd], clients, poll)
                continue
            try:
                if event & select.EPOLLOUT:
                    del client.out[: client.sock.send(client.out)]
                    if not client.out:
                        poll.modify(fd, _READ)
                    continue
                data = client.sock.recv(262_144)
                if not data:
                    raise ConnectionResetError
                if client.secure is not None:
                    data = client.secure.opened(data)
                answer = None if client.partial else replies.get(data[4:8])
                if answer is None or int.from_bytes(data[:4], "little") != len(data):
                    answer = _answers(client, data, replies, port)
                if client.secure is not None:
                    answer = client.secure.sealed(answer)
                if client.out:
                    client.out += answer
                elif (sent := client.sock.send(answer) if answer else 0) < len(answer):
                    client.out += memoryview(answer)[sent:]
                    poll.modify(fd, _WRITE)
            except BlockingIOError:
                continue
            except OSError:
                poll.unregister(fd)
                clients.pop(fd).sock.close()


def _accept(
    listener: socket.socket,
    context: ssl.SSLContext | None,
    clients: dict[int, _Client],
    poll: select.epoll,
) -> None:
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    clients[sock.fileno()] = _Client(sock, context)
    poll.register(sock, _READ)


def _answers(client: _Client, data: bytes, replies: dict[bytes, bytes], port: int) -> bytes:
    """The replies to every request in what was received, half ones kept for later."""
    data = client.partial + data
    answers = []
    while len(data) >= HEADER.size and len(data) >= (length := HEADER.unpack_from(data)[0]):
        key = data[4:8]
        answer = replies.get(key)
        if answer is None:
            answer = reply(key)
            if answer is None:
                answer = named.answer(data[:length], port)
            else:
                replies[key] = answer
        answers.append(answer)
        data = data[length:]
    client.partial = data
    return b"".join(answers)
