"""Asking a running proxy's endpoint, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from proxy.terminal import stretch
from proxy.terminal.arguments import FILTERS
from proxy.terminal.places import Place, place_of
from proxy.terminal.printable import printable
from proxy.terminal.usage import by_flag

TOKEN_VARIABLE: Final = "MONGO_SESSION_PROXY_TOKEN"

#: Seconds; a kill waits for upstream.
_PATIENCE: Final = 40.0
_READY_PATIENCE: Final = 4.0
_MOST: Final = 64 << 20

#: What OpenSSL says where what comes is no TLS.
_NO_TLS: Final = ("wrong version number", "packet length too long", "record layer failure")

#: Rows that are asked for at a time.
_PAGE: Final = 1_000


class Trouble(Exception):
    """What goes to the user in one line; ``status`` is the exit status, as of the command line."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(printable(message))
        self.status = status


class NoTokenError(Trouble):
    """The token is missing or wrong."""


def find_token(path: str | None) -> str | None:
    """The token in a file, else in the environment, else None."""
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}", 2) from error
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token:
        raise Trouble(f"{path}: does not hold a token", 2)
    return token


class Endpoint:
    """One proxy's endpoint. Every failure is a :class:`Trouble`."""

    #: From which other proxies its rows have to be told: none.
    proxies: tuple[str, ...] = ()

    def __init__(self, where: str | Place, token: str | None = None) -> None:
        try:
            self._place = place_of(where) if isinstance(where, str) else where
        except ValueError as error:
            raise Trouble(f"--admin: {error}", 2) from error
        self.address = str(self._place)
        self._token = token

    def at(self, proxy: str | None) -> Endpoint:
        """The endpoint of the proxy of that address: there is but this one."""
        return self

    def trust(self, token: str) -> None:
        """Show another token from now on."""
        self._token = token

    def rows(self, name: str, fields: Mapping[str, Any], limit: int | None) -> dict[str, Any]:
        """A listing's document with up to ``limit`` rows, put together of pages; None: one page,
        of a listing that has no more."""
        asked = dict(fields)
        document: dict[str, Any] = {}
        rows: list[Any] = []
        while limit is None or len(rows) < limit:
            if limit is not None:
                asked["limit"] = min(_PAGE, limit - len(rows))
            document = self.get(name, asked)
            rows += document[name]
            if not document.get("next"):
                break
            asked["after"] = document["next"]
        return document | {name: rows}

    def get(self, path: str, fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A page's document."""
        query = f"?{urlencode(fields, errors='surrogateescape')}" if fields else ""
        return self._ask("GET", f"/{path}{query}", None)

    def post(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """What comes of sending a document."""
        return self._ask("POST", f"/{path}", json.dumps(document).encode())

    def ready(self) -> None:
        """Return if clients are served. It is known soon, or not at all."""
        self._exchange("GET", "/readyz", None, _READY_PATIENCE)

    def _ask(self, method: str, target: str, body: bytes | None) -> dict[str, Any]:
        answer = self._exchange(method, target, body)
        try:
            document = json.loads(answer)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Trouble(f"{self.address}: answers, but not as mongo-session-proxy does")
        return document

    def _exchange(
        self, method: str, target: str, body: bytes | None, patience: float = _PATIENCE
    ) -> bytes:
        headers = {"content-type": "application/json"} if body is not None else {}
        if self._token is not None:
            headers["authorization"] = f"Bearer {self._token}"
        place = self._place
        connection = http.client.HTTPConnection(place.host, place.port, timeout=patience)
        headers["host"] = place.named
        try:
            connection.sock = self._connect(patience)
            connection.request(method, f"{place.path}{target}", body, headers)
            response = connection.getresponse()
            answer = response.read(_MOST)
        except (OSError, http.client.HTTPException) as error:
            raise Trouble(f"{self.address}: {_in_words(error)}") from error
        except ValueError as error:
            raise Trouble(f"the token cannot be sent: {error}", 2) from error
        finally:
            connection.close()
        if response.status != 200:
            raise self._refusal(target, response.status, answer)
        return answer

    def _connect(self, patience: float) -> socket.socket:
        place = self._place
        sock = socket.create_connection((place.ip or place.host, place.port), patience)
        if not place.tls:
            return sock
        try:
            # Takes its time, and is seldom needed.
            import ssl

            return ssl.create_default_context().wrap_socket(sock, server_hostname=place.host)
        except BaseException:
            sock.close()
            raise

    def _refusal(self, target: str, status: int, answer: bytes) -> Trouble:
        text = answer[:2_000].decode("utf-8", "replace").partition("\n")[0]
        if status == 401:
            hint = "wrong token, the proxy has others" if self._token else "a token is needed"
            return NoTokenError(f"{hint}: --token-file FILE or {TOKEN_VARIABLE}", 2)
        if status in (400, 403):
            return Trouble(by_flag(text, {*FILTERS, *stretch.FILTERS}), 2)
        if target == "/readyz" and status == 503:
            # The proxy is there and says why nobody is served.
            return Trouble(f"{self.address}: not ready{f': {text}' * (text != 'not ready')}")
        if status == 404:
            return Trouble(f"{self.address}: answers, but not as mongo-session-proxy does")
        return Trouble(f"{self.address}: {status} {text}")


def _in_words(error: Exception) -> str:
    """Why nothing came, without what only a programmer reads."""
    if reason := getattr(error, "verify_message", None):
        return f"{reason}; SSL_CERT_FILE names the authorities that are trusted"
    if reason := getattr(error, "reason", None):
        # Of OpenSSL.
        spoken = str(reason).replace("_", " ").lower()
        return "speaks no TLS: take http://" if spoken in _NO_TLS else f"TLS: {spoken}"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{reason}; does the proxy run there?"
