"""What upstream has said of a connection, to be recognised when it says the same again."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from proxy.wire.fields import decisive_size, in_order
from proxy.wire.opcodes import INT32, OP_MSG
from proxy.wire.sections import MSG_BODY

if TYPE_CHECKING:
    from proxy.session.identity import Identity
    from proxy.wire.fields import Element
    from proxy.wire.replies import Reply

#: A longer answer is read each time, and so is one with more behind what decides.
# Not Final, as tests set it.
_LONGEST = 65_536
_MOST_BEHIND: Final = 8

#: Where a message's opcode stands. Its length and its numbers are in front of that.
_OPCODE: Final = 12


class Said:
    """An answer to the question who is authenticated, and whom it named.

    Another one says the same if it is as long and the same up to its ``ok``, which stands behind
    ``authInfo``; of what follows (the cluster's times) only what the fields are called, of which
    type and how long they are. So no byte of what decides is ever taken on trust.
    """

    __slots__ = ("_behind", "_head", "_parts", "_size", "_unpack", "identity")

    def __init__(self, frame: bytes, until: int, behind: list[Element], identity: Identity) -> None:
        self.identity = identity
        self._size = len(frame)
        self._head = frame[_OPCODE:until]
        self._behind = until
        pattern = ["<"]
        for element in behind:
            decisive = element.value + decisive_size(element)
            pattern.append(f"{decisive - element.start}s{element.end - decisive}x")
        unpack = Struct("".join([*pattern, "c"]))
        self._unpack = unpack.unpack_from
        self._parts: tuple[bytes, ...] = unpack.unpack_from(frame, until)

    @property
    def form(self) -> tuple[object, ...]:
        """Equal for those that recognise the same."""
        return self._size, self._head, self._parts

    def again(self, frame: bytes) -> bool:
        """Whether a frame says the same."""
        return (
            len(frame) == self._size
            and frame.startswith(self._head, _OPCODE)
            and self._unpack(frame, self._behind) == self._parts
        )


def said_in(reply: Reply, identity: Identity) -> Said | None:
    """What is needed to recognise ``reply``, which names ``identity``; None where each has to be
    read."""
    frame, fields = reply.frame, reply.fields
    info, ok = fields.get(b"authInfo"), fields.get(b"ok")
    if (
        frame is not reply.message
        or reply.opcode != OP_MSG
        or reply.more_to_come
        or reply.body != MSG_BODY
        or len(frame) - MSG_BODY != INT32.unpack_from(frame, MSG_BODY)[0]
        or fields.duplicates
        or info is None
        or ok is None
        or info.end > ok.start
        or ok.end > _LONGEST
    ):
        return None
    behind = [element for element in in_order(fields) if element.start >= ok.end]
    if len(behind) > _MOST_BEHIND:
        return None
    return Said(frame, ok.end, behind, identity)


#: Answers that connections share. With as many others, each keeps its own.
_SHARED: Final = 100


class Sayings:
    """Answers that are kept once, however many connections were given them: they are long."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Said] = {}

    def one(self, said: Said) -> Said:
        """What stands for ``said``."""
        known = self._known.get(said.form)
        if known is not None and known.identity is said.identity:
            return known
        if len(self._known) >= _SHARED:
            self._known.clear()
        self._known[said.form] = said
        return said
