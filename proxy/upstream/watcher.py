"""Asks every member its hello, over connections of its own, and keeps the topology up to date.

Nothing is asked of a member but hello and two probes (:mod:`proxy.upstream.facts`), which need no
authentication: the proxy has no credentials. Polling is enough: what clients are told comes
from hello replies made for them, and one that names somebody unknown makes the watcher ask at
once (:meth:`Watcher.poke`).
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import bson
import trio
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from proxy import __version__, logs
from proxy.conversation.overload import RATE_LIMITED
from proxy.errors import WireError
from proxy.net.transport import PeerGoneError, SocketTransport, Transport, open_socket
from proxy.upstream.facts import PROBE, SECOND_PROBE
from proxy.wire.frames import FrameBuffer
from proxy.wire.opcodes import HEADER, HEADER_SIZE, OP_QUERY
from proxy.wire.replies import command_frame, read_reply
from proxy.wire.requestids import RequestIds

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.net.tls import UpstreamTls
    from proxy.settings.upstream import Upstream
    from proxy.upstream.facts import Upstreams
    from proxy.upstream.topology import Topology

#: No hello is longer, and no member may fill the proxy's memory with one.
MAX_HELLO_SIZE: Final = 1 << 18

#: How long the first answer waits for those of the other seeds: before each seed has told its
#: own name, a seed may be taken for two members.
SETTLE_SECONDS: Final = 1.0

#: How often one member is asked at the most, and how soon after a first failure.
_SOONEST: Final = 1.0
_FIRST_RETRY: Final = 0.5

_METADATA: Final = {
    "application": {"name": "mongo-session-proxy watcher"},
    "driver": {"name": "mongo-session-proxy", "version": __version__},
    "os": {"type": platform.system()},
}

#: Any date, any text: what cannot be shown must not hide the rest.
_TOLERANT: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="replace"
)

_request_ids = RequestIds(1)


class Watcher:
    """Watches all members of ``topology`` while :meth:`run` runs.

    ``reconcile`` opens and closes listeners for ``topology.members()``; it runs after answers
    came, never twice at a time. ``ready`` is set when it is known what upstream is and the
    listeners for that are open.
    """

    def __init__(
        self,
        topology: Topology,
        tls: UpstreamTls | None,
        settings: Upstream,
        reconcile: Callable[[], Awaitable[None]],
        ready: trio.Event,
        upstreams: Upstreams | None = None,
    ) -> None:
        self._topology = topology
        self._tls = tls
        self._settings = settings
        self._reconcile = reconcile
        self._ready = ready
        self._upstreams = upstreams
        self._log = logs.logger()
        self._watched: dict[Address, trio.CancelScope] = {}
        self._problems: dict[Address, str] = {}
        self._unasked: set[Address] = set()
        self._poked = trio.Event()
        self._answered = trio.Event()
        self._settled = trio.Event()
        self._changed = trio.Event()
        self._shown: tuple[object, ...] = ()

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""
        if len(self._problems) < len(self._watched) and self._ready.is_set():
            return True, ""
        return False, "; ".join(f"{a}: {text}" for a, text in self._problems.items()) or "starting"

    def up(self) -> dict[Address, bool]:
        """Whether each process that is watched answered its latest hello."""
        return {
            address: address not in self._problems and address not in self._unasked
            for address in self._watched
        }

    def poke(self) -> None:
        """Ask at once: a client's hello named somebody who has no listener."""
        if self._topology.grows:
            self._poked.set()
            self._poked = trio.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        self._unasked = set(self._topology.targets())
        async with trio.open_nursery() as nursery:
            self._watch_targets(nursery)
            await self._answered.wait()
            with trio.move_on_after(SETTLE_SECONDS):
                await self._settled.wait()
            while True:
                self._changed = trio.Event()
                self._watch_targets(nursery)
                await self._reconcile()
                self._show()
                self._ready.set()
                await self._changed.wait()

    def _watch_targets(self, nursery: trio.Nursery) -> None:
        targets = self._topology.targets()
        for gone in self._watched.keys() - set(targets):
            self._watched.pop(gone).cancel()
            self._problems.pop(gone, None)
        for target in targets:
            if target not in self._watched:
                self._watched[target] = trio.CancelScope()
                nursery.start_soon(self._watch, target, self._watched[target])

    def _show(self) -> None:
        topology = self._topology
        shown = (topology.kind, topology.members(), topology.primary)
        if shown != self._shown:
            self._shown = shown
            self._log.info(
                "topology",
                kind=topology.kind,
                members=[str(member) for member in topology.members()],
                primary=str(topology.primary) if topology.primary else None,
            )

    async def _watch(self, address: Address, scope: trio.CancelScope) -> None:
        failures = 0
        link = _Link(address, self._tls)
        with scope:
            try:
                while True:
                    asked = trio.current_time()
                    poked = self._poked
                    problem = await self._ask(link)
                    failures = failures + 1 if problem else 0
                    self._note(address, problem)
                    interval = self._settings.watch_seconds
                    if failures:
                        await trio.sleep(min(interval, _FIRST_RETRY * 2 ** min(failures - 1, 16)))
                    else:
                        with trio.move_on_after(interval):
                            await poked.wait()
                        await trio.sleep_until(asked + min(interval, _SOONEST))
            finally:
                link.close()

    async def _ask(self, link: _Link) -> str:
        """One hello; returns what is wrong, "" for nothing."""
        problem = ""
        try:
            with trio.fail_after(self._settings.connect_seconds):
                hello = await link.hello()
                if hello.get("code") == RATE_LIMITED:
                    # It is there, and has other things to do: what was known of it stays.
                    return ""
                if self._upstreams is not None and hello.get("ok") == 1:
                    versioned = link.needs_api_version
                    self._upstreams.hello(link.address, hello, needs_api_version=versioned)
                    if not link.probed:
                        self._upstreams.probed(link.address, *await link.probe())
        except trio.TooSlowError:
            problem = "no answer in time"
        except (PeerGoneError, WireError, BSONError, RecursionError) as error:
            problem = str(error) or type(error).__name__
        else:
            return self._topology.observe(link.address, hello, trio.current_time())
        link.close()
        self._topology.failed(link.address)
        return problem

    def _note(self, address: Address, problem: str) -> None:
        known = self._problems.get(address, "")
        if problem and problem != known:
            self._log.warning("member", upstream=str(address), problem=problem)
        elif known and not problem:
            self._log.info("member", upstream=str(address), problem=None)
        if problem:
            self._problems[address] = problem
        else:
            self._problems.pop(address, None)
        self._unasked.discard(address)
        if not self._unasked:
            self._settled.set()
        if self._topology.kind != "unknown":
            self._answered.set()
        self._changed.set()


class _Link:
    """A connection to one member, made when needed and kept while it works.

    Raises from :meth:`hello`, after which the link has to be closed, are those of
    :mod:`proxy.net.transport`, :mod:`proxy.wire` and bson.
    """

    def __init__(self, address: Address, tls: UpstreamTls | None) -> None:
        self.address = address
        self._tls = tls
        self._transport: Transport | None = None
        self._form: Callable[[dict[str, Any]], bytes] | None = None
        #: What :meth:`probe` finds out holds until the process ends, and so the connection.
        self.probed = False

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
            transport = self._transport or await self._connect()
            try:
                reply = await self._exchange(transport, form({"client": _METADATA}))
            except PeerGoneError:
                # Before 3.6, OP_MSG is a reason to hang up. Otherwise the last form fails too.
                self.close()
                if form is _FORMS[-1]:
                    raise
                continue
            if reply.get("ok") == 1:
                self._form = form
                return reply
        self.close()
        return reply

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

    async def _put(self, question: Mapping[str, Any]) -> dict[str, Any]:
        assert self._transport is not None
        version = {"apiVersion": "1"} if self.needs_api_version else {}
        frame = command_frame(_request_ids.next(), {**question, **version})
        return await self._exchange(self._transport, frame)

    async def _connect(self) -> Transport:
        sock = await open_socket(self.address)
        if self._tls is None:
            self._transport = SocketTransport(sock)
        else:
            self._transport = await self._tls.start(sock, self.address)
        return self._transport

    async def _exchange(self, transport: Transport, frame: bytes) -> dict[str, Any]:
        await transport.send(frame)
        buffer = FrameBuffer(MAX_HELLO_SIZE)
        while True:
            data = await transport.receive()
            if not data:
                raise PeerGoneError("closed without an answer")
            if frames := buffer.feed(data):
                break
        reply = read_reply(frames[0])
        if reply.response_to != HEADER.unpack_from(frame)[1]:
            raise WireError("an answer to something else")
        return bson.decode(reply.body_bytes(), _TOLERANT)


def _hello(more: dict[str, Any]) -> bytes:
    return command_frame(_request_ids.next(), {"hello": 1, "$db": "admin", **more})


def _versioned_hello(more: dict[str, Any]) -> bytes:
    # Where requireApiVersion is set.
    return _hello({"apiVersion": "1", **more})


def _is_master(more: dict[str, Any]) -> bytes:
    query = bson.encode({"isMaster": 1, **more})
    # int32 flags (secondaryOk), cstring namespace, int32 skip, int32 nReturn, the command
    body = b"\4\0\0\0admin.$cmd\0\0\0\0\0\xff\xff\xff\xff" + query
    return HEADER.pack(HEADER_SIZE + len(body), _request_ids.next(), 0, OP_QUERY) + body


#: The forms of hello, tried in this order; servers before 4.4 know only the last.
_FORMS: Final = (_hello, _versioned_hello, _is_master)
