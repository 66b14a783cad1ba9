"""An endpoint that says what a test wants, over HTTP."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandIn:
    """What is answered by path (a document, or a status with a text) and what was asked."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.address = ""
        self._speaks = threading.Event()
        self._speaks.set()
        self._asked_in_vain = threading.Event()

    @contextmanager
    def silent(self) -> Iterator[threading.Event]:
        """Answer nothing until the block ends; what is given is set once somebody has asked."""
        self._speaks.clear()
        try:
            yield self._asked_in_vain
        finally:
            self._speaks.set()

    def heed(self) -> None:
        """Wait until answers are given."""
        if not self._speaks.is_set():
            self._asked_in_vain.set()
            self._speaks.wait()

    def targets(self) -> list[str]:
        return [target for _, target, _, _ in self.asked]


@contextmanager
def standing_in(answers: dict[str, Any], tls: ssl.SSLContext | None = None) -> Iterator[StandIn]:
    stand_in = StandIn(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            headers = {name.lower(): value for name, value in self.headers.items()}
            stand_in.asked.append((self.command, self.path, headers, body))
            stand_in.heed()
            path = self.path.partition("?")[0].removeprefix("/")
            answer = stand_in.answers.get(path, (404, "no such page"))
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            status, text = answer if isinstance(answer, tuple) else (200, json.dumps(answer))
            data = text if isinstance(text, bytes) else text.encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign]
        stand_in.address = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield stand_in
        finally:
            server.shutdown()
            thread.join()
