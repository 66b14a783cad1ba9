"""Clients: raw sockets in several processes, each of which drives its share of the connections.

A connection sends a step, waits for its reply and sends the next. The processes are told on
a pipe what to do, so that connections to all contenders stay open while rounds alternate.
"""

from __future__ import annotations

import gc
import multiprocessing
import select
import socket
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Final

from benchmarks.messages import HEADER, document_of
from benchmarks.secure import Secure, client_context
from benchmarks.workloads import WORKLOADS, Script, Step, handshake, new_lsid

_RECEIVE: Final = 262_144

#: A round that takes so much longer than it should is a connection that hangs.
_PATIENCE: Final = 30.0


@dataclass(slots=True)
class Round:
    """What one contender did in one round: messages answered, and seconds of each wait."""

    requests: int
    seconds: float
    latencies: array[float]


class LoadError(Exception):
    """A reply that is not the one that was due, or none at all."""


class Load:
    """The client processes; use as a context manager."""

    def __init__(self, processes: int = 2) -> None:
        self._pipes: list[Connection] = []
        self._processes: list[multiprocessing.Process] = []
        for index in range(processes):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=_work, args=(theirs, index), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def open(
        self, name: str, port: int, workload: str | None, connections: int, authority: str = ""
    ) -> None:
        """Open ``connections`` to ``port`` under ``name``; without a workload they stay idle.

        With the file of an ``authority`` they speak TLS.
        """
        shares = _shares(connections, len(self._pipes))
        self._all("open", name, port, workload, authority, shares=shares)

    def close(self, name: str) -> None:
        """Close what was opened under ``name``."""
        self._all("close", name)

    def start(self, name: str, begin: float, end: float) -> None:
        """Let ``name`` work until ``end``; what is done before ``begin`` is not counted.

        Both are times of :func:`time.perf_counter`, which all processes share.
        """
        for pipe in self._pipes:
            pipe.send(("run", name, begin, end))

    def result(self, seconds: float) -> Round:
        """Wait for what :meth:`start` began."""
        latencies: array[float] = array("d")
        requests = 0
        for part in self._answers(seconds + _PATIENCE):
            requests += part[0]
            latencies.frombytes(part[1])
        return Round(requests, seconds, latencies)

    def _all(self, *order: Any, shares: list[int] | None = None) -> None:
        for index, pipe in enumerate(self._pipes):
            pipe.send((*order, shares[index]) if shares else order)
        self._answers(_PATIENCE * 4)

    def _answers(self, patience: float) -> list[Any]:
        return answers(self._pipes, patience)


def answers(pipes: Sequence[Connection], patience: float) -> list[Any]:
    """What each process of a load says, an error among them raised.

    Raises:
        LoadError: one says nothing for ``patience`` seconds.
    """
    said = []
    for pipe in pipes:
        if not pipe.poll(patience):
            raise LoadError("no answer: a connection hangs")
        answer = pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        said.append(answer)
    return said


def _shares(connections: int, processes: int) -> list[int]:
    return [connections // processes + (i < connections % processes) for i in range(processes)]


# ---------------------------------------------------------------------- in the processes


class Wire:
    """A connection, with TLS or without; the socket is a blocking one."""

    __slots__ = ("_secure", "sock")

    def __init__(self, port: int, authority: str = "") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._secure: Secure | None = None
        if authority:
            self._secure = Secure(client_context(authority), server_side=False)
            self._secure.shake(self.sock)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def sendall(self, data: bytes | bytearray) -> None:
        self.sock.sendall(data if self._secure is None else self._secure.sealed(data))

    def recv(self) -> bytes | None:
        """What came, b"" at the end; None for records of which none is whole."""
        data = self.sock.recv(_RECEIVE)
        if self._secure is None or not data:
            return data
        return self._secure.opened(data) or None


class _Conn:
    """One connection with its place in its script."""

    __slots__ = ("left", "place", "script", "sent", "wire")

    def __init__(
        self, port: int, authority: str, workload: str = "", script: Script | None = None
    ) -> None:
        self.wire = connect(port, authority, workload)
        self.script = script
        self.place = 0
        self.left = 0
        self.sent = 0.0


def connect(port: int, authority: str = "", workload: str = "") -> Wire:
    """A connection that has shaken hands, as ``workload`` needs it."""
    wire = Wire(port, authority)
    exchange(wire, handshake(workload))
    return wire


def exchange(wire: Wire, step: Step) -> dict[str, Any]:
    """Send one step and return the reply's document.

    Raises:
        LoadError: it is not the reply, or says that the command failed.
    """
    wire.sendall(step.data)
    data = b""
    while len(data) < 4 or len(data) < int.from_bytes(data[:4], "little"):
        chunk = wire.recv()
        if chunk == b"":
            raise LoadError("closed instead of a reply")
        data += chunk or b""
    if HEADER.unpack_from(data)[2] != step.awaited:
        raise LoadError("a reply to something else")
    document = document_of(data)
    if document.get("ok") != 1:
        raise LoadError(f"refused: {document}")
    return document


def _work(orders: Connection, index: int) -> None:
    opened: dict[str, list[_Conn]] = {}
    # Each process has numbers of its own, for cursors.
    numbers = iter(range(1 + (index << 14), (index + 1) << 14))
    while True:
        order, name, *arguments = orders.recv()
        try:
            if order == "open":
                opened[name] = _open(numbers, *arguments)
                orders.send(True)
            elif order == "close":
                for conn in opened.pop(name):
                    conn.wire.sock.close()
                orders.send(True)
            else:
                orders.send(_run(opened[name], *arguments))
        except Exception as error:
            orders.send(LoadError(f"{name}: {error!r}"))


def _open(
    numbers: Iterator[int], port: int, workload: str | None, authority: str, connections: int
) -> list[_Conn]:
    conns = []
    for _ in range(connections):
        if workload is None:
            conns.append(_Conn(port, authority))
            continue
        script = WORKLOADS[workload](new_lsid(), next(numbers))
        conn = _Conn(port, authority, workload, script)
        # Once through with every reply read: what is measured is known to work.
        script.advance()
        for step in script.steps:
            exchange(conn.wire, step)
        conns.append(conn)
    return conns


def _run(conns: list[_Conn], begin: float, end: float) -> tuple[int, bytes]:
    latencies: array[float] = array("d")
    requests = 0
    working = len(conns)
    by_fd = {conn.wire.sock.fileno(): conn for conn in conns}
    clock = time.perf_counter
    gc.disable()
    with select.epoll() as poll:
        for fd, conn in by_fd.items():
            poll.register(fd, select.EPOLLIN)
            _begin(conn, clock())
        while working:
            events = poll.poll(_PATIENCE)
            if not events:
                raise LoadError("no reply")
            for fd, _ in events:
                conn = by_fd[fd]
                data = conn.wire.recv()
                if data is None:
                    continue
                size = len(data)
                script = conn.script
                assert script is not None
                step = script.steps[conn.place]
                if conn.left == 0:
                    if size < HEADER.size:
                        raise LoadError("closed, or half a header")
                    length, _, response_to, _ = HEADER.unpack_from(data)
                    if response_to != step.awaited:
                        raise LoadError("a reply to something else")
                    conn.left = length
                conn.left -= size
                if conn.left > 0 and size:
                    continue
                if conn.left:
                    raise LoadError("more than a reply, or less")
                now = clock()
                if begin <= now < end:
                    requests += step.count
                    latencies.append(now - conn.sent)
                conn.place += 1
                if conn.place == len(script.steps):
                    conn.place = 0
                if now < end:
                    _begin(conn, now)
                elif conn.place:
                    # A transaction is not left open between two rounds.
                    _begin(conn, now)
                else:
                    working -= 1
    gc.enable()
    return requests, latencies.tobytes()


def _begin(conn: _Conn, now: float) -> None:
    script = conn.script
    assert script is not None
    if conn.place == 0:
        script.advance()
    conn.sent = now
    conn.wire.sendall(script.steps[conn.place].data)
