"""Clients that take connections and sessions in turn, with so many messages under way at a time:
what is measured does not wait for more at once where there are more of them."""

from __future__ import annotations

import gc
import multiprocessing
import select
import time
from collections import deque
from multiprocessing.connection import Connection
from typing import Any, Final

from benchmarks.load import LoadError, Wire, answers, connect
from benchmarks.messages import HEADER
from benchmarks.workloads import WORKLOADS, new_lsid

_CLIENTS: Final = 2
_PATIENCE: Final = 120.0

#: From one session to the next: neighbours in time are no neighbours in memory.
_STRIDE: Final = 7_919


class Clients:
    """Processes that send; use as a context manager."""

    def __init__(self) -> None:
        self._pipes: list[Connection] = []
        self._processes: list[multiprocessing.Process] = []
        for _ in range(_CLIENTS):
            ours, theirs = multiprocessing.Pipe()
            process = multiprocessing.Process(target=_work, args=(theirs,), daemon=True)
            process.start()
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()

    def open(self, name: int, ports: list[int], connections: int) -> None:
        """Open so many connections to these ports in turn under ``name``."""
        self._ask("open", name, ports, connections // _CLIENTS)

    def close(self, name: int) -> None:
        """Close what was opened under ``name``."""
        self._ask("close", name)

    def run(
        self, name: int, busy: int, sessions: int, seconds: float, *, spread: bool = True
    ) -> int:
        """Have ``busy`` messages under way for so long, on all connections in turn or always on
        the same ones, in these sessions in turn; how many were answered."""
        busy //= _CLIENTS
        end = time.perf_counter() + seconds
        return sum(self._ask("run", name, busy, 0 if spread else busy, sessions, end))

    def _ask(self, *order: Any) -> list[Any]:
        for pipe in self._pipes:
            pipe.send(order)
        return answers(self._pipes, _PATIENCE)


def _work(orders: Connection) -> None:
    opened: dict[int, list[Wire]] = {}
    while True:
        order, name, *arguments = orders.recv()
        try:
            if order == "open":
                ports, connections = arguments
                opened[name] = [connect(ports[n % len(ports)]) for n in range(connections)]
                orders.send(None)
            elif order == "close":
                for wire in opened.pop(name):
                    wire.sock.close()
                orders.send(None)
            else:
                orders.send(_send(opened[name], *arguments))
        except Exception as error:
            orders.send(LoadError(f"{order}: {error!r}"))


def _send(wires: list[Wire], busy: int, used: int, sessions: int, end: float) -> int:
    """Keep ``busy`` messages under way, on the first ``used`` connections or on all in turn."""
    lsid = new_lsid()
    step = WORKLOADS["find-300B"](lsid, 0).steps[0]
    data, awaited = step.data, step.awaited
    place = data.index(bytes(lsid["id"]))
    by_fd = {wire.sock.fileno(): wire.sock for wire in (wires[:used] if used else wires)}
    free = deque(by_fd.values())
    answered = number = 0
    clock = time.perf_counter
    gc.disable()
    with select.epoll() as poll:
        for fd in by_fd:
            poll.register(fd, select.EPOLLIN)
        under_way = 0
        now = clock()
        while under_way or now < end:
            while now < end and under_way < busy:
                number = (number + _STRIDE) % sessions
                data[place : place + 16] = number.to_bytes(16, "big")
                free.popleft().sendall(data)
                under_way += 1
            events = poll.poll(_PATIENCE)
            if not events:
                raise LoadError("no reply")
            now = clock()
            for fd, _ in events:
                sock = by_fd[fd]
                reply = sock.recv(65_536)
                if len(reply) < HEADER.size or HEADER.unpack_from(reply)[2] != awaited:
                    raise LoadError("no reply, or half of one")
                free.append(sock)
                under_way -= 1
                answered += now < end
    gc.enable()
    return answered
