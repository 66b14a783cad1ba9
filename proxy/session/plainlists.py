"""Lists of nothing but ``{id: UUID}``, as drivers send them by the ten thousand, or of nothing but
statement ids: read in bulk.

In such a list every entry looks the same but for its number and its UUID. Entries whose numbers
have as many digits are of one size, so they are compared column by column: 10,000 take 1 ms,
against 3 for a regular expression and 25 for a walk.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from proxy.session.idl import MAX_ENTRIES
from proxy.session.steps import Steps, in_one_go
from proxy.wire.fields import ARRAY
from proxy.wire.layouts import PLAIN_LSID, PLAIN_LSID_SIZE

if TYPE_CHECKING:
    from proxy.wire.fields import Element

_DIGITS: Final = [b"%d" % digit for digit in range(10)]

#: What stands in front of the first ten UUIDs; most lists are no longer than that.
_HEADS: Final = [b"\x03%b\0%b" % (digit, PLAIN_LSID) for digit in _DIGITS]
_ENTRY: Final = 3 + PLAIN_LSID_SIZE

#: The bytes of the last int32 that a list may have, its five digits and all.
_LONGEST_INT: Final = 11

#: Entries compared in one step.
_BAND: Final = 5_000


def plain_lsids(data: bytes, element: Element) -> list[bytes] | None:
    """The ids of an array that holds nothing but plain lsids, numbered as they should be.

    None for any other list, to be judged element by element.
    """
    return in_one_go(reading_plain_lsids(data, element))


def reading_plain_lsids(data: bytes, element: Element) -> Steps[list[bytes] | None]:
    """:func:`plain_lsids` in steps."""
    start, end = element.value + 4, element.end - 1
    if element.type != ARRAY or data[end] or end - start > MAX_ENTRIES * (PLAIN_LSID_SIZE + 8):
        return None
    if end - start == _ENTRY and data.startswith(_HEADS[0], start) and not data[end - 1]:
        return [data[start + 16 : end - 1]]  # as most often
    found: list[bytes] = []
    for head in _HEADS:
        if start == end:
            return found
        if end - start < _ENTRY or data[start : start + 16] != head or data[start + _ENTRY - 1]:
            return None
        found.append(data[start + 16 : start + 32])
        start += _ENTRY
    digits = 1
    while start < end:
        digits += 1
        size = _ENTRY + digits - 1
        while start < end and len(found) < 10**digits:
            count = min((end - start) // size, 10**digits - len(found), _BAND)
            band = data[start : start + count * size]
            if not count or not _is_plain(band, size, len(found), count, digits):
                return None
            found += [one for (one,) in Struct(f"{size - 17}x16sx").iter_unpack(band)]
            start += count * size
            yield
    return found if len(found) <= MAX_ENTRIES else None


def plain_ints(data: bytes, element: Element) -> list[int] | None:
    """The values of an array that holds nothing but int32s, numbered as they should be.

    None for any other list, to be judged element by element. 100,000 take 10 ms.
    """
    start, end = element.value + 4, element.end - 1
    if element.type != ARRAY or data[end] or end - start > MAX_ENTRIES * _LONGEST_INT:
        return None
    found: list[int] = []
    digits = 1
    while start < end:
        size = 6 + digits
        count = min((end - start) // size, 10**digits - len(found))
        band = data[start : start + count * size]
        head = b"\x10%b\0" % bytes(digits)
        if not count or not _begin_with(head, band, size, len(found), count, digits):
            return None
        found += [one for (one,) in Struct(f"<{size - 4}xi").iter_unpack(band)]
        start += count * size
        digits += 1
    return found if len(found) <= MAX_ENTRIES else None


def _is_plain(band: bytes, size: int, first: int, count: int, digits: int) -> bool:
    """Whether ``count`` entries of ``size`` bytes are plain and numbered from ``first``, a number
    of so many ``digits``."""
    head = b"\x03%b\0%b" % (bytes(digits), PLAIN_LSID)
    if not _begin_with(head, band, size, first, count, digits):
        return False
    return band[size - 1 :: size] == bytes(count)


def _begin_with(head: bytes, band: bytes, size: int, first: int, count: int, digits: int) -> bool:
    """Whether each entry begins with ``head``, but for the digits of its number in it."""
    for column, byte in enumerate(head):
        if 1 <= column <= digits:
            expected = _digit(digits - column, first, count)
        else:
            expected = bytes((byte,)) * count
        if band[column::size] != expected:
            return False
    return True


def _digit(place: int, first: int, count: int) -> bytes:
    """The digit at ``place`` (0: the last) of each number from ``first`` on."""
    each = 10**place
    cycle = b"".join(digit * each for digit in _DIGITS)
    first %= len(cycle)
    return (cycle * (1 + (first + count) // len(cycle)))[first : first + count]
