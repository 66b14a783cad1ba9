"""Which cursors a ``killCursors`` names, and which its reply says are gone."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

import bson
from bson.errors import BSONError

from proxy.errors import WireError
from proxy.session.records import CursorId
from proxy.wire.fields import ARRAY, Element, elements, integer

if TYPE_CHECKING:
    from proxy.session.store import SessionStore
    from proxy.wire.replies import Reply

#: How many of the cursors that one message lists as gone are looked at, where these are so many
#: bytes: some 10 ms. Drivers kill one at a time.
_MOST_KILLED: Final = 10_000
_LONG_ARRAY: Final = 131_072


def close_killed(store: SessionStore, upstream: str, reply: Reply) -> None:
    """Note what the reply to a killCursors of ``upstream`` (an address) says is gone; nothing where
    it is an error."""
    if reply.ok():
        for number in _killed_cursors(reply):
            store.cursor_closed(CursorId(upstream, number))


def _killed_cursors(reply: Reply) -> list[int]:
    """The cursors that a killCursors reply says are gone."""
    gone: list[int] = []
    for name in (b"cursorsKilled", b"cursorsNotFound"):
        element = reply.fields.get(name)
        if element is not None and element.type == ARRAY:
            gone += integers(reply.message, element)
    return gone


def integers(message: bytes, array: Element) -> list[int]:
    """What are integers of an array's values, as far as they are looked at; none where it cannot be
    read."""
    if array.end - array.value > _LONG_ARRAY:
        return _first_integers(message, array)
    try:
        values = bson.decode(message[array.value : array.end]).values()
        return [number for number in values if isinstance(number, int)]
    except BSONError:
        return []


def _first_integers(message: bytes, array: Element) -> list[int]:
    found: list[int] = []
    try:
        for _, element in islice(elements(message, array.value, array.end), _MOST_KILLED):
            number = integer(message, element)
            if number is not None:
                found.append(number)
    except WireError:
        return []
    return found
