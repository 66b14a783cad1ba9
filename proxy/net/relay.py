"""Two pumps around one Conversation: the I/O of one client connection.

What arrives is decided on at once by plain functions (``_take_requests``,
``_take_replies``), and sent when other connections' messages were decided on too (``_settle_…``).
A pump's task is woken only where something has to be waited for: a peer that does not read, a
request that may not go yet, a message that is inflated in a thread.

Closing follows what TCP says. A client that sends no more (FIN) may still want its replies,
so upstream is told the same and gets a bounded time to finish; unacknowledged writes that
are still on their way are not lost to a reset. Only a stream that nobody reads is cut at once.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from proxy.errors import NotDialledError
from proxy.net import readiness
from proxy.net.gone import PeerGoneError
from proxy.net.intake import TURN, Intake
from proxy.net.limits import UNCOUNTED
from proxy.net.outlet import Outlet
from proxy.net.strangers import look_at_upstream, turned_away, unanswered

if TYPE_CHECKING:
    from proxy.conversation.conversation import Conversation
    from proxy.counting import Distribution
    from proxy.net.limits import Share
    from proxy.net.transport import Transport
    from proxy.settings.limits import Limits


class Relay:
    """Carries one client connection until either side ends it.

    ``dial`` opens the upstream connection when the client's first bytes are there, which it gets,
    so that a port scan costs upstream nothing. Or it raises
    :class:`~proxy.errors.NotDialledError`, and the client is told so. ``since`` is when the client
    came, if that was not just now: what TLS has taken is taken from the time for its first message.
    """

    def __init__(
        self,
        client: Transport,
        dial: Callable[[bytes], Awaitable[Transport]],
        conversation: Conversation,
        limits: Limits,
        share: Share,
        legs: Mapping[str, Distribution],
        since: float | None = None,
    ) -> None:
        self.conversation = conversation
        self._dial = dial
        self._limits = limits
        self._since = since
        self._share = share
        self._request_seconds = legs["request"]
        self._reply_seconds = legs["reply"]
        self._client = client
        self._intake = Intake(conversation, limits, share)
        self._turn = readiness.current().turn
        #: As trio.current_time, which looks for its clock at each call.
        self._clock = trio.lowlevel.current_clock().current_time
        self._to_client = Outlet(client, conversation.to_client)
        self._to_upstream: Outlet | None = None
        self._client_ended = False
        self._eof_passed = False
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._draining = False
        self._received = 0
        self._received_upstream = 0
        self._request_came = self._reply_came = 0.0
        #: Why the connection ended; set once.
        self.reason = ""

    @property
    def connected(self) -> bool:
        """Whether upstream was reached."""
        return self._to_upstream is not None

    def byte_counts(self) -> tuple[int, int, int, int]:
        """Bytes so far: from the client, to upstream, from upstream, to the client."""
        sent = self._to_upstream.sent if self._to_upstream is not None else 0
        return self._received, sent, self._received_upstream, self._to_client.sent

    @property
    def busy(self) -> bool:
        """A request is under way or half received, or its reader has not taken all of something."""
        return (
            self._intake.begun
            or not self.conversation.idle
            or self._to_client.held > 0
            or (self._to_upstream is not None and self._to_upstream.held > 0)
        )

    def drain(self) -> None:
        """Close as soon as no work is in flight."""
        self._draining = True
        if not self.busy:
            self.stop("draining")

    def rest(self, resting: bool) -> None:
        """Have requests wait from now on, but for those that begin nothing; or all go on."""
        intake = self._intake
        intake.resting = resting
        if intake.unblocked is not None and not intake.must_wait():
            intake.unblocked.set()
            intake.unblocked = None

    def stop(self, reason: str) -> None:
        """Close both connections now."""
        self.reason = self.reason or reason
        self._scope.cancel()

    def _give_way(self) -> None:
        self.stop("gave way to others")

    def flush_soon(self) -> None:
        """Send what the conversation was made to say from outside the two pumps."""
        if self._nursery is not None:
            self._nursery.start_soon(self._flush_from_outside)

    def later(self, seconds: float, what: Callable[[float], None]) -> None:
        """Call ``what`` with the time then, and send what it made the conversation say."""
        if self._nursery is not None:
            self._nursery.start_soon(self._wait_and_call, seconds, what)

    async def _wait_and_call(self, seconds: float, what: Callable[[float], None]) -> None:
        await trio.sleep(seconds)
        what(trio.current_time())
        await self._flush_from_outside()

    async def _flush_from_outside(self) -> None:
        try:
            await self._flush_both()
            if self.conversation.close:
                self.stop(self.conversation.close)
        except (PeerGoneError, _UpstreamGoneError) as error:
            self.stop(str(error))

    async def run(self) -> None:
        """Carry the connection to its end; both transports are closed afterwards."""
        self._share.give_way = self._give_way
        self._share.ready = self._client.pending
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    await self._pump_requests(nursery)
        finally:
            self._nursery = None
            self._share.release()
            # It refers back: see :mod:`proxy.memory`.
            self._share.give_way = None
            self._client.close()
            if self._to_upstream is not None:
                self._to_upstream.transport.close()

    # ------------------------------------------------------------------ client to upstream

    async def _pump_requests(self, nursery: trio.Nursery) -> None:
        since = trio.current_time() if self._since is None else self._since
        patience = self._intake.patience
        patience.deadline = since + self._limits.handshake_seconds
        with patience:
            try:
                await self._read_requests(nursery)
            except PeerGoneError as gone:
                self._client_gone(f"client: {gone}")
            except _UpstreamGoneError as error:
                self.stop(f"upstream: {error}")
        if patience.cancelled_caught:
            first = not self.conversation.requests
            self.stop("handshake timeout" if first else "half-received message timeout")

    async def _read_requests(self, nursery: trio.Nursery) -> None:
        client = self._client
        data = await client.receive()
        if away := await turned_away(client, self.conversation, data):
            self.stop(away)
            return
        if data:
            await self._connect(nursery, data)
            self._take_requests(data)
            settled = self._settle_requests()
            while not settled or await client.each(self._take_requests, self._settle_requests):
                settled = True
                await self._catch_up()
                if self.conversation.ending:
                    await self._finish(self.conversation.ending)
                    return
        self._client_said_eof()

    def _take_requests(self, data: bytes) -> None:
        """Decide on what the client sent."""
        self._request_came = perf_counter()
        self._received += len(data)
        intake = self._intake
        if intake.cut(data):
            # Asked first, as setting it takes ten times as long.
            if intake.patience.deadline != math.inf:
                intake.patience.deadline = math.inf
            intake.hand_over(self._request_came + TURN)

    def _settle_requests(self) -> bool:
        """Send what was decided; False if :meth:`_catch_up` has to do the rest."""
        conversation = self.conversation
        try:
            sent = self._to_upstream is None or self._to_upstream.push()
        except PeerGoneError as error:
            raise _UpstreamGoneError(str(error)) from error
        sent = self._push_to_client() and sent
        if sent and conversation.close:
            self.stop(conversation.close)
        self._request_seconds.observe(perf_counter() - self._request_came)
        intake = self._intake
        buffered = intake.buffer.buffered
        if buffered > UNCOUNTED:
            intake.count()  # others are read before the rest of this is done
        return sent and not (
            intake.frames
            or buffered
            or self._share.held
            or intake.garbage
            or self._draining
            or conversation.ending
        )

    async def _catch_up(self) -> None:
        """Do what was left because it has to be waited for."""
        intake = self._intake
        await self._flush()
        while intake.has_more():
            await intake.go_on()
            await self._flush()
        await intake.make_room()
        if self._draining and not self.busy:
            self.stop("draining")

    def _push_to_client(self) -> bool:
        try:
            return self._to_client.push()
        except PeerGoneError as error:
            self._client_gone(f"client: {error}")
            return True

    async def _flush_to_client(self) -> None:
        try:
            await self._to_client.flush()
        except PeerGoneError as error:
            self._client_gone(f"client: {error}")

    async def _flush(self) -> None:
        conversation = self.conversation
        if (self._to_upstream is not None and self._to_upstream.held) or self._to_client.held:
            await self._intake.unread(self._flush_both)
        if conversation.close:
            self.stop(conversation.close)

    async def _flush_both(self) -> None:
        if self._to_upstream is not None:
            try:
                await self._to_upstream.flush()
            except PeerGoneError as error:
                raise _UpstreamGoneError(str(error)) from error
        await self._flush_to_client()

    async def _connect(self, nursery: trio.Nursery, first: bytes) -> None:
        try:
            upstream = await self._dial(first)
        except NotDialledError as refused:
            self.conversation.refuse_all(refused.error)
            return
        except PeerGoneError as error:
            raise _UpstreamGoneError(str(error)) from error
        self._to_upstream = Outlet(upstream, self.conversation.to_upstream)
        self._intake.outlet = self._to_upstream
        nursery.start_soon(self._pump_replies, upstream, self._to_upstream, nursery)

    async def _finish(self, reason: str) -> None:
        """Read no more from the client, but let every reply that is due go out first."""
        await self._flush()
        self.reason = self.reason or reason
        self._end_by(self._limits.half_close_seconds)

    def _client_said_eof(self) -> None:
        self._client_ended = True
        self.reason = self.reason or "client closed"
        if self._to_upstream is None or self.conversation.streaming:
            self._scope.cancel()
            return
        self._end_by(self._limits.half_close_seconds)
        self._pass_eof()

    def _pass_eof(self) -> None:
        """Tell upstream that the client has ended, but not before all it asked for is sent."""
        conversation = self.conversation
        if conversation.blocked or self._intake.frames or self._to_upstream is None:
            return
        if self._to_upstream.held:
            return
        if not conversation.in_flight:
            self._scope.cancel()
        elif not self._eof_passed:
            self._eof_passed = True
            self._to_upstream.transport.send_eof()

    def _end_by(self, seconds: float) -> None:
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + seconds)

    def _client_gone(self, reason: str) -> None:
        """The client can be sent nothing; give upstream the chance to read what is on its way."""
        self.reason = self.reason or reason
        self._to_client.drop()
        self._client_said_eof()

    # ------------------------------------------------------------------ upstream to client

    async def _pump_replies(
        self, upstream: Transport, to_upstream: Outlet, nursery: trio.Nursery
    ) -> None:
        try:
            while await upstream.each(self._take_replies, self._settle_replies):
                await self._flush_replies(to_upstream, nursery)
                while self.conversation.unfinished:
                    async with self._turn:
                        self._reply_came = perf_counter()
                        self.conversation.go_on(self._clock(), self._enough)
                    await self._flush_replies(to_upstream, nursery)
            self._client.send_eof()
            self._upstream_ended("upstream closed")
        except PeerGoneError as error:
            self._upstream_ended(f"upstream: {error}")

    def _upstream_ended(self, how: str) -> None:
        if not (self._received_upstream or self._client_ended):
            how += unanswered(self.conversation)
        self.stop(how)

    async def _flush_replies(self, to_upstream: Outlet, nursery: trio.Nursery) -> None:
        """Send what was decided on upstream's replies."""
        collecting = self.conversation.collecting
        if (collecting or self._intake.beside) and not await self._intake.hold(collecting):
            self._give_way()
        await self._flush_to_client()
        if to_upstream.busy or to_upstream.push():
            self._replied()
        else:
            # Upstream may read on only when its replies are read, which happens here.
            nursery.start_soon(self._flush_to_upstream, to_upstream)

    async def _flush_to_upstream(self, to_upstream: Outlet) -> None:
        try:
            await to_upstream.flush()
        except PeerGoneError as error:
            self.stop(f"upstream: {error}")
        else:
            self._replied()

    def _take_replies(self, data: bytes) -> None:
        """Decide on what upstream sent."""
        self._reply_came = perf_counter()
        first = not self._received_upstream
        self._received_upstream += len(data)
        if first:
            look_at_upstream(self.conversation.observer, data)
        self.conversation.on_upstream(data, self._clock(), self._enough)

    def _enough(self) -> bool:
        """Whether others should have their turn now."""
        return perf_counter() > self._reply_came + TURN

    def _settle_replies(self) -> bool:
        """Send what was decided; False if something is left to send."""
        sent = self._push_to_client()
        if self.conversation.to_upstream and self._to_upstream is not None:
            sent = self._to_upstream.push() and sent
        self._reply_seconds.observe(perf_counter() - self._reply_came)
        if sent:
            self._replied()
        conversation, holds = self.conversation, self._intake.beside
        if conversation.at_rest:
            return sent and not holds
        return sent and not (conversation.unfinished or holds or conversation.collecting)

    def _replied(self) -> None:
        """See what may happen now that upstream has answered."""
        conversation = self.conversation
        if self._intake.unblocked is not None and not self._intake.must_wait():
            self._intake.unblocked.set()
            self._intake.unblocked = None
        if conversation.close:
            self.stop(conversation.close)
        elif self._client_ended:
            self._pass_eof()
        elif self._draining and not self.busy:
            self.stop("draining")


class _UpstreamGoneError(Exception):
    """The upstream side failed where the client side's errors are expected too."""
