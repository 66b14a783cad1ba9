"""Asking a running proxy's endpoint, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from proxy.addresses import parse_address
from proxy.terminal.arguments import FILTERS
from proxy.terminal.printable import printable
from proxy.terminal.usage import by_flag

TOKEN_VARIABLE: Final = "MONGO_SESSION_PROXY_TOKEN"

#: Seconds; a kill waits for upstream.
_PATIENCE: Final = 40.0
_READY_PATIENCE: Final = 4.0
_MOST: Final = 64 << 20


class Trouble(Exception):
    """What goes to the user in one line; ``status`` is the exit status, as of the command line."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(printable(message))
        self.status = status


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

    def __init__(self, address: str, token: str | None = None) -> None:
        try:
            parsed = parse_address(address, default_port=27080)
        except ValueError as error:
            raise Trouble(f"--admin: {error}", 2) from error
        if parsed.path:
            raise Trouble("--admin: has to be HOST:PORT", 2)
        self.address = str(parsed)
        self._host, self._port = parsed.host, parsed.port
        self._token = token

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
        connection = http.client.HTTPConnection(self._host, self._port, timeout=patience)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            answer = response.read(_MOST)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Trouble(f"{self.address}: {reason}; does the proxy run there?") from error
        except ValueError as error:
            raise Trouble(f"the token cannot be sent: {error}", 2) from error
        finally:
            connection.close()
        if response.status != 200:
            raise self._refusal(response.status, answer)
        return answer

    def _refusal(self, status: int, answer: bytes) -> Trouble:
        text = answer[:2_000].decode("utf-8", "replace").partition("\n")[0]
        if status == 401:
            hint = "the token is refused" if self._token else "a token is needed"
            return Trouble(f"{hint}: --token-file FILE or {TOKEN_VARIABLE}", 2)
        if status in (400, 403):
            return Trouble(by_flag(text, FILTERS), 2)
        if status == 404:
            return Trouble(f"{self.address}: answers, but not as mongo-session-proxy does")
        return Trouble(f"{self.address}: {status} {text}")
