"""Which cursors a request reads on, whatever form it has."""

from __future__ import annotations

from decimal import ROUND_DOWN
from math import isfinite
from struct import Struct
from typing import TYPE_CHECKING, Final

from bson import Decimal128

from proxy.wire.fields import DECIMAL, DOUBLE, Element, every, integer
from proxy.wire.layouts import READS_ON
from proxy.wire.opcodes import HEADER_SIZE, INT64, OP_GET_MORE

if TYPE_CHECKING:
    from proxy.wire.messages import Request

_double: Final = Struct("<d").unpack_from
_LARGEST: Final = 2**63


def cursors_read(request: Request) -> list[int]:
    """The ids of the cursors that a getMore may be about, as a command or by OP_GET_MORE.

    One, mostly. What stands there twice counts twice, as versions differ in which one they take;
    servers take int64 only, but others any number.
    """
    if request.opcode == OP_GET_MORE:
        return _of_opcode(request.message)
    if request.command != READS_ON:
        return []
    fields = request.fields
    name = READS_ON.encode()
    if not fields.duplicates:
        number = integer(request.message, fields[name])
        if number is not None:
            return [number]
    return [n for one in every(fields, name) for n in _numbers(request.message, one)]


def _of_opcode(message: bytes) -> list[int]:
    # Behind the namespace stands how many documents are wanted.
    nul = message.find(0, HEADER_SIZE + 4)
    at = nul + 5
    if nul < 0 or at + INT64.size > len(message):
        return []
    return [INT64.unpack_from(message, at)[0]]


def _numbers(data: bytes, element: Element) -> list[int]:
    """A number of any type as an integer, cut and rounded."""
    if element.type == DOUBLE:
        value = _double(data, element.value)[0]
        if not isfinite(value) or abs(value) >= _LARGEST:
            return []
        return [int(value)]
    if element.type == DECIMAL:
        number = Decimal128.from_bid(data[element.value : element.end]).to_decimal()
        if not number.is_finite() or abs(number) >= _LARGEST:
            return []
        return [int(number.to_integral_value(ROUND_DOWN)), int(number.to_integral_value())]
    found = integer(data, element)
    return [] if found is None else [found]
