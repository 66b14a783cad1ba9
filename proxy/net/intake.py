"""What came from a client and was not handed over to its Conversation yet.

Here it is cut into requests, counted, inflated where that has to be, and handed over in turns.
What is waited for here is no fault of the client's, so its time for a message stands still
meanwhile (:attr:`Intake.patience`), and nothing of it is read.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio

from proxy.errors import WireError
from proxy.net import readiness
from proxy.net.limits import CHUNK, UNCOUNTED
from proxy.wire.compression import declared_size, inflate, inflate_start
from proxy.wire.frames import FrameBuffer, FramingError
from proxy.wire.opcodes import COMPRESSED, HEADER_SIZE

if TYPE_CHECKING:
    from proxy.conversation.conversation import Conversation
    from proxy.net.limits import Share
    from proxy.net.outlet import Outlet
    from proxy.settings.limits import Limits

#: Seconds for which one connection's messages are decided on before others have their turn.
TURN: Final = 0.002

#: Inflating more than this happens in a thread: 1 MB of zlib holds the loop for 3.5 ms.
_INFLATE_IN_THREAD: Final = 262_144

#: The threads for it. Slow name look-ups may have all of those that trio lends.
_THREADS: Final = trio.CapacityLimiter(8)

#: Requests a client may have sent without their replies: drivers send one, the rest is memory.
MOST_PIPELINED: Final = 100

#: Bytes of refusals that may wait until what was asked before them is answered.
MOST_ANSWERS: Final = 65_536

#: The slowest sender that the frame deadline still lets through, in bytes per second.
_SLOWEST: Final = 65_536


#: Where the command's name stands in an OP_MSG: behind header, flags, kind, length and type.
_NAME_AT: Final = 26

#: What reads a cursor on or closes it, or watches the server, begins nothing new. No more than ten
#: bytes, which :func:`inflate_start` has of a name.
_GOES_ON: Final = (b"getMore\0", b"killCursor", b"hello\0", b"isMaster\0", b"ismaster\0")


class Intake:
    """Requests on their way from the client to ``conversation``, and their part of the budget.

    :meth:`cut` and :meth:`hand_over` are what an ordinary request passes. Where something has to
    be waited for: :meth:`go_on` while :meth:`has_more`, then :meth:`make_room`.
    """

    __slots__ = (
        "_clock",
        "_conversation",
        "_frame_seconds",
        "_inflates_to",
        "_kept",
        "_share",
        "_turn",
        "_waiting_since",
        "beside",
        "buffer",
        "frames",
        "garbage",
        "inflated",
        "outlet",
        "patience",
        "resting",
        "unblocked",
    )

    def __init__(self, conversation: Conversation, limits: Limits, share: Share) -> None:
        self._conversation = conversation
        self._frame_seconds = limits.frame_seconds
        self._share = share
        self._turn = readiness.current().turn
        #: As trio.current_time, which looks for its clock at each call.
        self._clock = trio.lowlevel.current_clock().current_time
        self.buffer = FrameBuffer(limits.before_login_bytes, conversation.let_in)
        #: Requests that were not handed over yet; the first of them inflated, if it had to be;
        #: and what is wrong with the bytes behind them.
        self.frames: deque[bytes] = deque()
        self.inflated: bytes | None = None
        self.garbage = ""
        #: What the first of them inflates to, if that needs care; and bytes of an inflated one
        #: that is still needed here.
        self._inflates_to = 0
        self._kept = 0
        #: Since when the first of them waits.
        self._waiting_since: float | None = None
        #: Bytes of replies that are held for the client, and count with what it sent.
        self.beside = 0
        #: The client's time for its message. One scope as long as it is read, armed only until
        #: its first message is whole and while one is half received: the idle cost no timer.
        self.patience = trio.CancelScope()
        #: Where what was handed over goes; None until upstream is reached.
        self.outlet: Outlet | None = None
        #: Requests have to wait for somebody outside, but for those that go on.
        self.resting = False
        #: To be set when :meth:`must_wait` says no again, while somebody waits for that.
        self.unblocked: trio.Event | None = None

    @property
    def begun(self) -> bool:
        """Whether something is half received, or whole and not handed over."""
        return bool(self.buffer.buffered or self.frames)

    def cut(self, data: bytes) -> bool:
        """Cut what came into requests; whether there were new ones.

        Unacknowledged writes like the last one pass at once, if nothing is in front of them.
        """
        passed, conversation, buffer = 0, self._conversation, self.buffer
        if conversation.burst is not None and not (
            self.frames or buffer.buffered or self.garbage or self.must_wait()
        ):
            passed = conversation.repeat_run(data, buffer.max_length)
            data = data[passed:]
        try:
            frames = buffer.feed(data)
        except FramingError as error:
            frames, self.garbage = error.frames, str(error)
            if error.protocol:
                self._conversation.observer.foreign("client", error.protocol, self.garbage)
        self.frames += frames
        return passed > 0 or bool(frames)

    def hand_over(self, until: float) -> None:
        """Let requests pass until one has to wait, or this time (of ``perf_counter``) is over."""
        conversation, frames = self._conversation, self.frames
        now = self._clock()
        if self._waiting_since is not None:
            conversation.waited = now - self._waiting_since
        while frames:
            if self.must_wait():
                break
            if conversation.burst is not None:
                conversation.repeat(frames)
                if not frames:
                    break
            frame = frames[0]
            if frame[12:16] == COMPRESSED and self.inflated is None and not self._is_light(frame):
                break
            frames.popleft()
            conversation.on_request(frame, now, self.inflated)
            self.inflated = None
            if frames and perf_counter() > until:
                break
        if self._waiting_since is not None:
            conversation.waited = 0.0
            if not frames:
                self._waiting_since = None
        elif frames:
            self._waiting_since = now

    def _is_light(self, frame: bytes) -> bool:
        """Whether the compressed ``frame`` can be inflated, or refused, here and now."""
        if not self._conversation.takes_compressed:
            return True
        try:
            size = declared_size(frame)
        except WireError:
            return True
        longest = self.buffer.max_length - HEADER_SIZE
        if size <= UNCOUNTED and size <= longest:
            return True
        self._inflates_to = size
        return False

    def must_wait(self) -> bool:
        """Whether upstream has to answer something, or a rest be over, before more may be sent."""
        conversation = self._conversation
        return (
            conversation.blocked
            or conversation.in_flight >= MOST_PIPELINED
            or conversation.answers > MOST_ANSWERS
            # What is inflated is not to be held while something slow is in front of it.
            or (self._inflates_to > 0 and conversation.in_flight > 0)
            or (self.resting and not self._goes_on())
        )

    def _goes_on(self) -> bool:
        """Whether the first request is one of :data:`_GOES_ON` in an ordinary message."""
        if not self.frames:
            return False
        frame = self.frames[0]
        if frame[12:16] == COMPRESSED:
            try:
                frame = inflate_start(frame)
            except WireError:
                return True  # it is refused, for which nobody has to wait
        return frame.startswith(_GOES_ON, _NAME_AT)

    def has_more(self) -> bool:
        """Whether there are whole requests that were not handed over, or one is not done with.

        None where the conversation ends: what came behind is forgotten.
        """
        conversation = self._conversation
        if conversation.ending:
            self.frames.clear()
            return False
        if not self.frames and self.buffer.more:
            self.cut(b"")
        return bool(self.frames or (self._kept and conversation.blocked))

    async def go_on(self) -> None:
        """Wait for what the first request has to wait for, and hand over for one turn."""
        if self.must_wait():
            self.unblocked = trio.Event()
            await self.unread(self.unblocked.wait)
        elif self._inflates_to and self.inflated is None:
            await self._inflate_next()
        async with self._turn:
            self.hand_over(perf_counter() + TURN)
        if self.inflated is None and not self._conversation.blocked:
            self._kept = 0  # who had it has done with it

    async def _inflate_next(self) -> None:
        frame, size = self.frames[0], self._inflates_to
        self._inflates_to = 0
        try:
            if not self.buffer.allows(HEADER_SIZE + size):
                raise WireError(f"it inflates to {size} bytes, which is too long before login")
            # Before, not after: from a few KiB may come 48 MB.
            self.count()
            await self._off_the_clock(partial(self._share.room, HEADER_SIZE + size))
            self._kept = HEADER_SIZE + size
            if size > _INFLATE_IN_THREAD:
                self._share.rest(math.inf)
                self.inflated = await trio.to_thread.run_sync(inflate, frame, limiter=_THREADS)
            else:
                self.inflated = inflate(frame)
        except WireError as error:
            self.frames.clear()
            self._kept = 0
            self._conversation.end("client message", str(error))

    async def make_room(self) -> None:
        """All that is whole was handed over: see that the rest of the next may come."""
        buffer = self.buffer
        if self.garbage:
            self._conversation.on_garbage(self.garbage)
            self.garbage = ""
        if buffer.buffered and self.patience.deadline == math.inf:
            # Armed once per message: dribbling does not extend it.
            patience = self._frame_seconds + buffer.declared / _SLOWEST
            self.patience.deadline = trio.current_time() + patience
        self.count()
        if buffer.buffered > UNCOUNTED:
            left = max(0, buffer.declared - buffer.buffered)
            extra = min(left, CHUNK)
            if not self._share.take(extra):
                await self._off_the_clock(partial(self._share.room, extra, left))

    def count(self) -> None:
        """Tell the budget what is held here for the client."""
        share = self._share
        held = self.buffer.buffered + self._kept + self.beside
        if self.frames:
            held += sum(map(len, self.frames))
        if self.outlet is not None:
            held += self.outlet.held
        if held or share.held:
            share.count(held, self.buffer.declared)

    async def hold(self, beside: int) -> bool:
        """Count so many bytes of a reply that somebody here has to see whole; False if there is no
        room for them, and none comes."""
        share = self._share
        self.beside = beside
        self.count()
        if not beside and share.held and self.unblocked is not None:
            share.rest(self._frame_seconds)
        return not beside or await share.fits()

    async def unread(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait for something that the client cannot hasten; nothing of it is read meanwhile."""
        self.count()
        if self._share.held:
            # Drivers send nothing behind a request that waits for its reply.
            behind = self._conversation.is_behind()
            self._share.rest(self._frame_seconds if behind else math.inf)
        await self._off_the_clock(wait)

    async def _off_the_clock(self, wait: Callable[[], Awaitable[object]]) -> None:
        """Wait for something without counting that as the client's time for its message."""
        left = self.patience.deadline - trio.current_time()
        self.patience.deadline = math.inf
        await wait()
        self.patience.deadline = trio.current_time() + left
