"""Clients that dial over and over: nobody is to be refused, and everybody to be answered."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial

from tests.build import command
from tests.endurance.secure import Secured
from tests.patience import PATIENCE

#: Clients that dial at once, and then all wait for an answer; with TLS, which costs as much as
#: many requests, fewer.
CROWD = 50
CROWD_WITH_TLS = 10

_HELLO = command({"hello": 1, "$db": "admin"})


class Storm:
    """Dials a port for as long as its ``with`` lasts; ``seen`` counts what became of it."""

    def __init__(self, port: int, secured: Secured | None = None) -> None:
        self._port = port
        self._context = None if secured is None else secured.context()
        self.seen: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._rage, daemon=True)

    def __enter__(self) -> Storm:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def wrong(self) -> list[str]:
        """What became of clients beside ``answered``, and how often."""
        return [f"{what}: {count}" for what, count in self.seen.items() if what != "answered"]

    def _rage(self) -> None:
        while not self._stop.is_set():
            crowd = CROWD if self._context is None else CROWD_WITH_TLS
            dialled = [sock for sock in (self._dial() for _ in range(crowd)) if sock is not None]
            # Nobody keeps the proxy waiting, however busy the machine is.
            said = [self._try(partial(sock.sendall, _HELLO)) for sock in dialled]
            for sock, problem in zip(dialled, said, strict=True):
                with sock:
                    self.seen[problem or self._answer(sock)] += 1
            self._stop.wait(0.05)

    def _dial(self) -> socket.socket | None:
        try:
            sock = socket.create_connection(("127.0.0.1", self._port), PATIENCE)
            if self._context is None:
                return sock
            return self._context.wrap_socket(sock, server_hostname="127.0.0.1")
        except OSError as error:
            self.seen[f"not connected: {error!r}"] += 1
            return None

    def _answer(self, sock: socket.socket) -> str:
        received: list[bytes] = []
        problem = self._try(lambda: received.append(sock.recv(4)))
        return problem or ("answered" if received[0] else "closed")

    def _try(self, what: Callable[[], object]) -> str:
        """What is wrong, "" for nothing."""
        try:
            what()
        except OSError as error:
            return repr(error)
        return ""
