"""Peers that speak something else than MongoDB's protocol: told apart, and told to whoever looks.

They cannot be served. But whoever operates the proxy should read in words what it was, and in the
number that people search for: a message of 1347703880 bytes is HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.net.gone import PeerGoneError
from proxy.wire.frames import FramingError
from proxy.wire.opcodes import INT32
from proxy.wire.protocols import MONGODB, NOTHING, TLS, protocol_of

if TYPE_CHECKING:
    from proxy.conversation.conversation import Conversation
    from proxy.conversation.exchange import Observer
    from proxy.net.transport import Transport

#: What mongod answers to somebody who tries a browser on its port, text and all.
_HTTP_ANSWER: Final = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 85\r\n\r\n"
    b"It looks like you are trying to access MongoDB over HTTP on the native driver port.\r\n"
)

#: Of an upstream that closed where an answer was due.
UNANSWERED: Final = (
    "without an answer, as servers do that expect TLS or a PROXY header, or get one unexpectedly"
)


async def turned_away(client: Transport, conversation: Conversation, data: bytes) -> str:
    """Turn away a client whose first bytes, ``data``, are of another protocol.

    Returns why the connection ends; "" where nothing is wrong with them so far.

    Raises:
        PeerGoneError: the connection broke.
    """
    protocol = protocol_of(data)
    if protocol in ("", MONGODB):
        return ""
    problem = _framing(data)
    conversation.observer.foreign("client", protocol, problem)
    if protocol == TLS:
        return "client: TLS on a port without it"
    if data.startswith(b"GET "):
        await client.send(_HTTP_ANSWER)
        client.send_eof()
        return "client: HTTP on this port"
    conversation.on_garbage(problem)
    return conversation.close


def _framing(data: bytes) -> str:
    """What is wrong with it as a message."""
    return str(FramingError(INT32.unpack_from(data)[0] if len(data) > 3 else 0, [], data))


def look_at_upstream(observer: Observer, data: bytes) -> None:
    """See whether the first bytes that upstream says are of another protocol.

    Raises:
        PeerGoneError: they are, and more of them would not show it: it is an alert of TLS.
    """
    protocol = protocol_of(data)
    if protocol not in ("", MONGODB):
        problem = _framing(data)
        observer.foreign("upstream", protocol, problem)
        if protocol == TLS:
            raise PeerGoneError(problem)


def unanswered(conversation: Conversation) -> str:
    """Tell of an upstream that closed and never said anything, if it was asked something.

    Returns it in words that can stand behind others; "" if there is nothing to tell.
    """
    if not conversation.in_flight:
        return ""
    conversation.observer.foreign("upstream", NOTHING, f"closed {UNANSWERED}")
    return f": {UNANSWERED}"
