"""The statement ids of a write command, as ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.session.tracker import MAX_RANGES

if TYPE_CHECKING:
    from proxy.session.info import OperationSessionInfo


def statement_ranges(info: OperationSessionInfo, count: int) -> list[range]:
    """The ids of a write command's ``count`` statements: given, from a base, or from 0.

    None of those that are negative, which servers do not remember.
    """
    if info.stmt_ids is None:
        base = info.stmt_id or 0
        return [range(base, base + count)] if count and base >= 0 else []
    ranges: list[range] = []
    start = stop = -1
    for number in info.stmt_ids:
        if number < 0:
            continue  # is carried out and not remembered
        if number != stop:
            if stop > start:
                ranges.append(range(start, stop))
            if len(ranges) == MAX_RANGES:
                return ranges
            start = number
        stop = number + 1
    return [*ranges, range(start, stop)] if stop > start else ranges
