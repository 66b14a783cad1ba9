"""A long reply that goes on to the client while it still arrives."""

from __future__ import annotations

from typing import Final

from proxy.wire.edges import EDGE, Edges
from proxy.wire.opcodes import HEADER, OP_COMPRESSED

#: A longer reply to an ordinary request is passed on while it arrives instead of being
#: collected first: a 1 MB reply then costs one receive buffer and no added latency.
PASS_ABOVE: Final = 65_536


class Passing:
    """Counts what is still to come of a reply of ``length`` bytes, and keeps its two ends.

    ``begun`` is what of it is there: its header at least, and not all of it.
    """

    __slots__ = ("_head", "_tail", "left", "length")

    def __init__(self, begun: bytes, length: int) -> None:
        self._head, self._tail = begun[:EDGE], begun[-EDGE:]
        #: Bytes of the whole.
        self.length = length
        #: Bytes still to come.
        self.left = length - len(begun)

    def take(self, data: bytes) -> bytes:
        """The part of ``data``, the next bytes of the stream, that belongs to the reply."""
        taken = data[: self.left]
        self.left -= len(taken)
        self._tail = (self._tail + taken if len(taken) < EDGE else taken)[-EDGE:]
        return taken

    def edges(self) -> Edges | None:
        """The ends of the whole reply; None where they are compressed."""
        if HEADER.unpack_from(self._head)[3] == OP_COMPRESSED:
            return None
        return Edges(self._head, self._tail, self.length)
