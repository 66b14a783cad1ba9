"""HTTP of the admin endpoint: requests as they come, and answers."""

from __future__ import annotations

import http
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import h11

if TYPE_CHECKING:
    import trio

#: 10,000 sessions to kill take half of this.
MOST_BODY: Final = 1 << 20
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: an HTTP status, a content type, the body and further headers."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


_CHALLENGE: Final = (("www-authenticate", 'Bearer realm="mongo-session-proxy"'),)
UNAUTHORIZED: Final = Answer(
    401, TEXT, b"a token is needed: Authorization: Bearer TOKEN\n", _CHALLENGE
)
WRONG_TOKEN: Final = Answer(401, TEXT, b"wrong token: it is none of those configured\n", _CHALLENGE)


def text(status: int, message: str) -> Answer:
    """A plain answer."""
    return Answer(status, TEXT, f"{message}\n".encode())


class TooLongError(Exception):
    """A body is longer than any that means something."""


async def next_request(stream: trio.SocketStream, connection: h11.Connection) -> h11.Request | None:
    """The next request's head; None where the client has ended."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Request):
            return event
        else:
            return None


async def body_of(stream: trio.SocketStream, connection: h11.Connection) -> bytes:
    """The whole body of the request that has begun.

    Raises:
        TooLongError: it is longer than any that means something.
    """
    parts: list[bytes] = []
    length = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                await stream.send_all(connection.send(go_on))
            connection.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Data):
            length += len(event.data)
            if length > MOST_BODY:
                raise TooLongError
            parts.append(bytes(event.data))
        else:
            return b"".join(parts)


async def send(
    stream: trio.SocketStream,
    connection: h11.Connection,
    answer: Answer,
    *,
    close: bool = False,
    head: bool = False,
) -> None:
    """Send an answer; without its body where only the ``head`` was asked for."""
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        *answer.headers,
    ]
    if close:
        headers.append(("connection", "close"))
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
