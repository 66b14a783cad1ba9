"""A connection of the proxy's own to one upstream process: hello and the probes are asked on it.

Its hello carries a mark (``client.platform``) of the proxy that asks, by which the same proxy knows
it again if it comes back (:mod:`proxy.upstream.ways`). Clients' own messages carry nothing of it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from proxy import __version__
from proxy.conversation.overload import RATE_LIMITED
from proxy.errors import CommandError, WireError
from proxy.net.gone import PeerGoneError
from proxy.net.strangers import UNANSWERED
from proxy.net.transport import SocketTransport, Transport, open_socket
from proxy.upstream.facts import LIFETIME, PROBE, SECOND_PROBE
from proxy.wire.frames import FrameBuffer
from proxy.wire.opcodes import HEADER, HEADER_SIZE, OP_QUERY
from proxy.wire.protocols import TLS, protocol_of
from proxy.wire.replies import command_frame, read_reply
from proxy.wire.requestids import RequestIds

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.net.tls import UpstreamTls

#: No hello is longer, and no member may fill the proxy's memory with one.
MAX_HELLO_SIZE: Final = 1 << 18

#: Any date, any text: what cannot be shown must not hide the rest.
_TOLERANT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)

#: How the refusal begins that a mark which has come back is answered with. The code is one after
#: which drivers look for another server, and try again.
_LOOP: Final = "this proxy is its own upstream"
_HOST_UNREACHABLE: Final = 6

#: LoadBalancerSupportMismatch: mongos takes whoever comes on that port for a balancer's.
_FOR_BALANCERS: Final = 354

_request_ids = RequestIds(1)


def loop(address: Address) -> CommandError:
    """What clients are told where the way to ``address`` comes back."""
    text = f"{_LOOP}: what it sends to {address} comes back to it"
    return CommandError(_HOST_UNREACHABLE, "HostUnreachable", text)


def is_loop(reply: Mapping[str, Any]) -> bool:
    """Whether a reply document is :func:`loop`'s, of this proxy or of one behind it."""
    return reply.get("code") == _HOST_UNREACHABLE and str(reply.get("errmsg")).startswith(_LOOP)


class Link:
    """A connection to one member, made when needed and kept while it works.

    Raises from :meth:`hello`, after which the link has to be closed, are those of
    :mod:`proxy.net.transport`, :mod:`proxy.wire` and bson. ``mark`` says whose connection it is,
    ``header`` what goes in front of everything, TLS included, ``name`` whom it leads to where TLS
    cannot tell by the address.
    """

    def __init__(
        self,
        address: Address,
        tls: UpstreamTls | None,
        mark: str,
        header: bytes = b"",
        name: str = "",
        socket_mark: int = 0,
    ) -> None:
        self.address = address
        self._tls = tls
        self._header = header
        self._name = name
        self._socket_mark = socket_mark
        self._metadata = {
            "application": {"name": "mongo-session-proxy watcher"},
            "driver": {"name": "mongo-session-proxy", "version": __version__},
            "os": {"type": platform.system()},
            "platform": mark,
        }
        self._transport: Transport | None = None
        self._form: Callable[[dict[str, Any]], bytes] | None = None
        #: What :meth:`probe` finds out holds until the process ends, and so the connection.
        self.probed = False

    @property
    def connected(self) -> bool:
        """Whether the next question goes over a connection that was used before."""
        return self._transport is not None

    def close(self) -> None:
        self.probed = False
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    async def hello(self) -> dict[str, Any]:
        """The member's answer, which is one of failure only if it fails in every form."""
        if self._transport is not None and self._form is not None:
            return await self._exchange(self._transport, self._form({}))
        reply: dict[str, Any] = {}
        for form in _FORMS:
            if form is _balanced_hello and reply.get("code") != _FOR_BALANCERS:
                continue
            transport = self._transport or await self._connect()
            try:
                reply = await self._exchange(transport, form({"client": self._metadata}))
            except PeerGoneError:
                # Before 3.6, OP_MSG is a reason to hang up. Otherwise the last form fails too.
                self.close()
                if form is _FORMS[-1]:
                    raise
                continue
            if reply.get("ok") == 1:
                self._form = form
                return reply
            if is_loop(reply):
                break
        self.close()
        return reply

    async def first_answer(self) -> dict[str, Any]:
        """What comes back for a hello over a new connection, without trying other forms."""
        return await self._exchange(await self._connect(), _hello({"client": self._metadata}))

    @property
    def needs_api_version(self) -> bool:
        """Whether hello was refused without ``apiVersion``."""
        return self._form is _versioned_hello

    async def probe(self) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """The member's answers to :data:`PROBE` and, where that is ok, to :data:`SECOND_PROBE`;
        call it after :meth:`hello`."""
        first = await self._put(PROBE)
        second = await self._put(SECOND_PROBE) if first.get("ok") == 1 else None
        self.probed = RATE_LIMITED not in (first.get("code"), (second or {}).get("code"))
        return first, second

    async def lifetime(self) -> dict[str, Any]:
        """The member's answer to :data:`LIFETIME`; call it after :meth:`hello`."""
        return await self._put(LIFETIME)

    async def _put(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._transport is not None
        version = {"apiVersion": "1"} if self.needs_api_version else {}
        frame = command_frame(_request_ids.next(), {**question, **version})
        return await self._exchange(self._transport, frame)

    async def _connect(self) -> Transport:
        sock = await open_socket(self.address, self._header, self._socket_mark)
        if self._tls is None:
            self._transport = SocketTransport(sock)
        else:
            self._transport = await self._tls.start(sock, self.address, name=self._name)
        return self._transport

    async def _exchange(self, transport: Transport, frame: bytes) -> dict[str, Any]:
        await transport.send(frame)
        buffer = FrameBuffer(MAX_HELLO_SIZE)
        while True:
            data = await transport.receive()
            if not data:
                raise PeerGoneError(f"closed {UNANSWERED}")
            if frames := buffer.feed(data):
                break
            if protocol_of(buffer.peek()) == TLS:  # an alert, whose length could be a message's
                raise PeerGoneError("this is TLS")
        reply = read_reply(frames[0])
        if reply.response_to != HEADER.unpack_from(frame)[1]:
            raise WireError("an answer to something else")
        return bson.decode(reply.body_bytes(), _TOLERANT)


def _hello(more: dict[str, Any]) -> bytes:
    return command_frame(_request_ids.next(), {"hello": 1, "$db": "admin", **more})


def _versioned_hello(more: dict[str, Any]) -> bytes:
    # Where requireApiVersion is set.
    return _hello({"apiVersion": "1", **more})


def _balanced_hello(more: dict[str, Any]) -> bytes:
    # On the load balancer port of mongos.
    return _hello({"loadBalanced": True, **more})


def _is_master(more: dict[str, Any]) -> bytes:
    query = bson.encode({"isMaster": 1, **more})
    # int32 flags (secondaryOk), cstring namespace, int32 skip, int32 nReturn, the command
    body = b"\4\0\0\0admin.$cmd\0\0\0\0\0\xff\xff\xff\xff" + query
    return HEADER.pack(HEADER_SIZE + len(body), _request_ids.next(), 0, OP_QUERY) + body


#: The forms of hello, tried in this order; servers before 4.4 know only the last.
_FORMS: Final = (_hello, _balanced_hello, _versioned_hello, _is_master)
