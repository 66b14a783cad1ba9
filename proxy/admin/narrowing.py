"""Filters of the pages that come whole: few rows, that no store keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from proxy.admin.query import QueryError
from proxy.texts import matcher

if TYPE_CHECKING:
    from proxy.listing import Row

#: By page, the fields of its rows that it can be narrowed by, beside ``text``.
FILTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "incidents": (
        *("cluster", "kind", "rule", "user", "application", "driver", "client", "command"),
        *("session", "owner"),
    ),
    "rules": ("cluster", "rule", "mode"),
    "upstream": ("cluster", "upstream", "role", "set"),
}


def narrowed(page: str, rows: Sequence[Row], query: Mapping[str, str]) -> list[Row]:
    """The rows that match all of ``query``, as in listings: case does not count and ``*`` stands
    for anything; ``text`` is contained in any text of theirs.

    Raises:
        QueryError: there is no such filter.
    """
    tests = [_test(page, name, value) for name, value in query.items()]
    return [row for row in rows if all(test(row) for test in tests)]


def _test(page: str, name: str, value: str) -> Callable[[Row], bool]:
    if name == "text":
        contains = matcher(f"*{value}*")
        return lambda row: any(
            contains(one) for said in _all(row) for one in said.values() if isinstance(one, str)
        )
    if name not in FILTERS[page]:
        raise QueryError(f"{name}: no such filter; there are {', '.join(FILTERS[page])}, text")
    if name == "session":
        # An incident's has its owner's digest behind it.
        begins = matcher(value.partition(" - ")[0])
        return lambda row: any(begins(_said(one, name).partition(" - ")[0]) for one in _all(row))
    matches = matcher(value)
    return lambda row: matches(_said(row, name))


def _all(row: Row) -> list[Row]:
    """The row, and what there was before the latest of an incident."""
    return [row, *row.get("before", ())]


def _said(row: Row, name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)
