"""What operators look at, over HTTP: health, metrics, open connections and sessions.

h11 on trio rather than an ASGI framework and server: they take 100 ms more to import, a
fifth of the time in which the proxy promises to be up, and all there is are a few GETs.
"""

from __future__ import annotations

import http
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qs
from uuid import UUID

import h11
import trio

from proxy import logs
from proxy.addresses import parse_address

if TYPE_CHECKING:
    from proxy.telemetry import Telemetry

#: A request has to be whole, and its answer sent, within this many seconds.
_PATIENCE: Final = 10.0
_MOST_CONNECTIONS: Final = 64

#: Rows in a listing unless ``limit`` says otherwise, and at the most: making one of 10,000
#: holds the loop for some 50 ms.
_ROWS: Final = 1_000
_MOST_ROWS: Final = 10_000

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"


class State(Protocol):
    """What the endpoint asks of the running proxy. Rows are JSON-like, newest facts included."""

    def connections(self) -> Iterable[dict[str, Any]]:
        """One row per open client connection."""

    def sessions(self) -> Iterable[dict[str, Any]]:
        """One row per session that is known."""

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: an HTTP status, a content type and the body."""

    status: int
    content_type: str
    body: bytes


#: Gets the query's fields (the first of each name) and the request's Accept header.
Page = Callable[[Mapping[str, str], str], Answer]


def pages(state: State, telemetry: Telemetry) -> dict[str, Page]:
    """Every path and what makes its page."""

    def index(_query: Mapping[str, str], _accept: str) -> Answer:
        return _text(200, "".join(f"{path}\n" for path in sorted(table)))

    def metrics(_query: Mapping[str, str], accept: str) -> Answer:
        content_type, body = telemetry.page(accept)
        return Answer(200, content_type, body)

    def alive(_query: Mapping[str, str], _accept: str) -> Answer:
        return _text(200, "ok\n")

    def ready(_query: Mapping[str, str], _accept: str) -> Answer:
        if state.draining():
            return _text(503, "draining\n")
        yes, reason = state.ready()
        return _text(200, "ok\n") if yes else _text(503, f"{reason}\n")

    def connections(query: Mapping[str, str], _accept: str) -> Answer:
        return _listing("connections", state.connections(), query)

    def sessions(query: Mapping[str, str], _accept: str) -> Answer:
        return _listing("sessions", state.sessions(), query)

    table: dict[str, Page] = {
        "/": index,
        "/connections": connections,
        "/healthz": alive,
        "/metrics": metrics,
        "/readyz": ready,
        "/sessions": sessions,
    }
    return table


def _text(status: int, text: str) -> Answer:
    return Answer(status, _TEXT, text.encode())


def _listing(name: str, rows: Iterable[dict[str, Any]], query: Mapping[str, str]) -> Answer:
    asked = query.get("limit", str(_ROWS))
    if not (asked.isascii() and asked.isdigit()) or not 1 <= int(asked[:9]) <= _MOST_ROWS:
        return _text(400, f"limit has to be a number from 1 to {_MOST_ROWS}\n")
    limit = int(asked)
    shown = list(islice(rows, limit + 1))
    page = {name: shown[:limit], "more": len(shown) > limit}
    return Answer(200, _JSON, json.dumps(page, default=_jsonable).encode() + b"\n")


def _jsonable(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"a row holds {type(value).__name__}")


async def serve(
    address: str,
    state: State,
    telemetry: Telemetry,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on ``address`` (host:port) until cancelled; ``started`` gets the actual one.

    Raises:
        OSError: nothing can listen there; ``filename`` is the address.
    """
    wanted = parse_address(address)
    try:
        listeners = await trio.open_tcp_listeners(wanted.port, host=wanted.host)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), address) from error
    host, port = listeners[0].socket.getsockname()[:2]
    site = _Site(pages(state, telemetry), local_only=ip_address(host).is_loopback)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, site.handle, listeners)
        task_status.started(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


class _Site:
    """Serves connections; nothing that goes wrong on one of them leaves :meth:`handle`."""

    def __init__(self, table: Mapping[str, Page], *, local_only: bool) -> None:
        self._table = table
        self._local_only = local_only
        self._open = 0
        self._log = logs.logger()

    async def handle(self, stream: trio.SocketStream) -> None:
        """Answer requests on ``stream`` until either side has enough, then close it."""
        self._open += 1
        try:
            if self._open <= _MOST_CONNECTIONS:
                await self._converse(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError):
            pass
        except Exception:
            self._log.exception("admin request failed")
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        alive = True
        while alive:
            alive = False
            with trio.move_on_after(_PATIENCE):
                try:
                    request = await _next_request(stream, connection)
                    # One with a body is answered without reading it, so it is the last one.
                    whole = request is None or type(connection.next_event()) is h11.EndOfMessage
                except h11.RemoteProtocolError as error:
                    answer = _text(error.error_status_hint, "cannot be read as HTTP\n")
                    await _send(stream, connection, answer, close=True)
                    return
                if request is None:
                    return
                head = request.method == b"HEAD"
                await _send(stream, connection, self._answer(request), close=not whole, head=head)
                alive = whole and connection.our_state is h11.DONE
                if alive:
                    connection.start_next_cycle()

    def _answer(self, request: h11.Request) -> Answer:
        headers = dict(request.headers)
        if self._local_only and not _names_this_machine(
            headers.get(b"host", b"").decode("latin-1")
        ):
            return _text(421, "ask for localhost or an address\n")
        path, _, query_string = request.target.decode("latin-1").partition("?")
        page = self._table.get(path)
        if page is None:
            return _text(404, "no such page; / lists them\n")
        if request.method not in (b"GET", b"HEAD"):
            return _text(405, "GET or HEAD\n")
        query = {name: values[0] for name, values in parse_qs(query_string).items()}
        try:
            return page(query, headers.get(b"accept", b"").decode("latin-1"))
        except Exception:
            self._log.exception("admin page failed", path=path)
            return _text(500, "failed; the log says why\n")


def _names_this_machine(host: str) -> bool:
    """Whether a Host header is an address or localhost.

    A web page elsewhere can give its own name a loopback address and have the operator's
    browser read what is here (DNS rebinding); its requests still carry that name.
    """
    name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name.lower() in ("", "localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def _next_request(
    stream: trio.SocketStream, connection: h11.Connection
) -> h11.Request | None:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            return event
        else:
            return None


async def _send(
    stream: trio.SocketStream,
    connection: h11.Connection,
    answer: Answer,
    *,
    close: bool = False,
    head: bool = False,
) -> None:
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ]
    if close:
        headers.append(("connection", "close"))
    if answer.status == 405:
        headers.append(("allow", "GET, HEAD"))
    response = h11.Response(
        status_code=answer.status,
        headers=headers,
        reason=http.HTTPStatus(answer.status).phrase.encode(),
    )
    parts = [connection.send(response)]
    if not head:
        parts.append(connection.send(h11.Data(data=answer.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    await stream.send_all(b"".join(parts))
