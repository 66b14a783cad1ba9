"""Any chunks in, whole frames out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from proxy.errors import WireError
from proxy.wire.opcodes import HEADER_SIZE, INT32, MAX_MESSAGE_SIZE
from proxy.wire.protocols import MONGODB, protocol_of

_length = INT32.unpack_from


class FramingError(WireError):
    """A length that cannot be; ``frames`` are those that were whole in front of it.

    ``protocol`` is what begins so, "" where nothing known does.
    """

    def __init__(self, length: int, frames: list[bytes], begun: bytes = b"") -> None:
        found = protocol_of(begun)
        #: A message of MongoDB's is merely too long.
        self.protocol = "" if found == MONGODB else found
        known = f": this is {self.protocol}" if self.protocol else ""
        super().__init__(f"message length {length} is out of range{known}")
        self.frames = frames


#: Frames cut out of the stream in one go. The smallest are 16 bytes: of those, 65,000 fit into one
#: read, and take 20 ms.
MOST_AT_ONCE: Final = 1_000


class FrameBuffer:
    """Cuts a byte stream into frames by the length in their headers.

    Holds at most one unfinished frame and never reserves memory for a declared length: what
    is buffered is what arrived. ``let_in`` is asked when a frame is longer than ``max_length``:
    where it says True, that is the longest of all messages from then on.
    """

    __slots__ = ("_data", "_declared", "_let_in", "max_length", "more")

    def __init__(
        self, max_length: int = MAX_MESSAGE_SIZE, let_in: Callable[[], bool] | None = None
    ) -> None:
        self.max_length = max_length
        self._let_in = let_in
        self._data = bytearray()
        self._declared = 0
        #: Whether what is buffered may hold whole frames: feed nothing to get them.
        self.more = False

    @property
    def buffered(self) -> int:
        """Bytes held of the unfinished frame."""
        return len(self._data)

    @property
    def declared(self) -> int:
        """The length that the unfinished frame declares; 0 while its first 4 bytes are missing."""
        return self._declared

    def allows(self, length: int) -> bool:
        """Whether a frame may be so long by now."""
        if length > self.max_length and self._let_in is not None and self._let_in():
            self._let_in = None
            self.max_length = MAX_MESSAGE_SIZE
        return HEADER_SIZE <= length <= self.max_length

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take what the peer sent; return the frames that are now whole, in order.

        No more than :data:`MOST_AT_ONCE` of them; the rest stays for the next call.

        Raises:
            FramingError: a declared length below 16 or above ``max_length``. Framing is lost:
                the connection cannot go on.
        """
        data = self._data
        if not data:
            # The common case, one message in one read, costs no copy.
            size = len(chunk)
            if HEADER_SIZE <= size <= self.max_length and _length(chunk)[0] == size:
                return [chunk]
        elif self._declared > len(data) + len(chunk):
            data += chunk
            return []
        frames: list[bytes] = []
        if data:
            data += chunk
            with memoryview(data) as view:
                start = self._cut(view, frames)
            del data[:start]
        else:
            # Many in one read are cut out of it as they are.
            start = self._cut(chunk, frames)
            if start < len(chunk):
                data += chunk[start:]
        return frames

    def _cut(self, data: bytes | memoryview, frames: list[bytes]) -> int:
        """Add the frames that are whole; returns where the unfinished one begins."""
        start, end = 0, len(data)
        most, append = self.max_length, frames.append
        self.more = False
        self._declared = 0
        for _ in range(MOST_AT_ONCE):
            if end - start < 4:
                break
            (declared,) = _length(data, start)
            if not HEADER_SIZE <= declared <= most:
                if not self.allows(declared):
                    raise FramingError(declared, frames, bytes(data[start : start + 64]))
                most = self.max_length
            stop = start + declared
            if stop > end:
                self._declared = declared
                break
            frame = data[start:stop]
            append(frame if isinstance(frame, bytes) else bytes(frame))
            start = stop
        else:
            self.more = end - start >= HEADER_SIZE
        return start

    def peek(self) -> bytes:
        """A copy of the unfinished frame's first bytes, 64 at the most."""
        return bytes(self._data[:64])

    def take(self) -> bytes:
        """Hand over the unfinished frame's bytes; the caller now counts the rest itself."""
        taken = bytes(self._data)
        self._data.clear()
        self._declared = 0
        return taken
