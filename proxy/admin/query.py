"""Filters, sorting and paging of listings, without I/O and without ever holding the loop.

A :class:`Selecting` is fed a listing's items some at a time and keeps no more of them than fit
on one page, so a page costs one look at each item and memory for itself alone.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from string import hexdigits
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from proxy.settings import meant
from proxy.settings.quantities import told_seconds
from proxy.texts import matcher

if TYPE_CHECKING:
    from proxy.listing import Key, Listing, Rank

T = TypeVar("T")

#: Rows on a page unless ``limit`` says otherwise, and at the most.
ROWS: Final = 1_000
MOST_ROWS: Final = 5_000

#: A filter takes no more characters than this.
_LONGEST: Final = 1_000

#: How like a name has to be to one that there is to have been meant for it.
_LIKE: Final = 0.7

#: Distinct values whose verdict a filter remembers: most sessions share theirs with others.
_REMEMBERED: Final = 8_192

_CONTROLS: Final = frozenset(("limit", "sort", "after"))

Test = Callable[[T], bool]

_rank = itemgetter(0, 1)


class QueryError(ValueError):
    """A query that cannot be carried out; the text says why."""


def tests(listing: Listing[T], fields: Mapping[str, str], now: float) -> list[Test[T]]:
    """What an item has to pass to match all of ``fields`` (filter → what it asks for).

    ``state`` takes several names with commas between them and is passed by either.

    Raises:
        QueryError: an unknown filter, which must not widen what is meant, or a wrong value.
    """
    made: list[Test[T]] = []
    for name, value in fields.items():
        if name == "cluster" and name not in listing.texts:
            raise QueryError("cluster: there is but one, which has no name")
        if len(value) > _LONGEST:
            raise QueryError(f"{name}: longer than {_LONGEST} characters")
        if name == "session":
            value = _id(value)
        if name in listing.texts:
            made.append(_text_test(listing.texts[name], value))
        elif name in listing.ages:
            made.append(_age_test(listing.ages[name], _seconds(name, value), now))
        elif name == "state":
            made.append(_state_test(listing, value))
        elif name == "text":
            made.append(_search(listing, value))
        else:
            known = [*listing.texts, *listing.ages, "state", "text"]
            hint = meant.asked(meant.closest(name, known, _LIKE))
            raise QueryError(f"{name}: no such filter; there are {', '.join(known)}{hint}")
    return made


def as_written(digits: str) -> str:
    """The digits of an id, or the first of them, with a ``-`` where people write one."""
    parts = (digits[at:to] for at, to in pairwise((0, 8, 12, 16, 20, 32)))
    return "-".join(part for part in parts if part)


def _id(text: str) -> str:
    """A filter for an id as ids are listed, however it is written; it may have a ``*`` behind."""
    # Incidents, the log and the audit log say the owner's digest behind it.
    text = text.partition(" - ")[0]
    known = text.rstrip("*")
    digits = known.replace("-", "").lower()
    if not 0 < len(digits) <= 32 or not set(digits) <= set(hexdigits):
        return text
    return as_written(digits) + text[len(known) :]


def none_of(name: str, known: Iterable[str]) -> str:
    """What is said of a name that is not among those that are known."""
    known = list(known)
    hint = meant.asked(meant.closest(name[:_LONGEST], known, _LIKE))
    return f"{name!r} is none of {', '.join(known)}{hint}"


def _text_test(get: Callable[[T], str], pattern: str) -> Test[T]:
    matches = lru_cache(_REMEMBERED)(matcher(pattern))
    return lambda item: matches(get(item))


def _age_test(get: Callable[[T, float], float], least: float, now: float) -> Test[T]:
    return lambda item: get(item, now) >= least


def _seconds(name: str, value: str) -> float:
    try:
        return told_seconds(value)
    except ValueError as error:
        raise QueryError(f"{name}: {error}") from error


def _state_test(listing: Listing[T], value: str) -> Test[T]:
    names = [name.strip() for name in value.split(",")]
    for name in names:
        if name not in listing.states:
            raise QueryError(f"state: {none_of(name, listing.states)}")
    wanted = [listing.states[name] for name in names]
    return lambda item: any(state(item) for state in wanted)


def _search(listing: Listing[T], value: str) -> Test[T]:
    found_in = lru_cache(_REMEMBERED)(matcher(f"*{value}*"))
    needle = value.lower()
    gets = [get for name, get in listing.texts.items() if name not in ("session", "uid")]
    words = listing.words
    return lambda item: (
        any(found_in(get(item)) for get in gets)
        or any(needle in word.lower() for word in words(item))
    )


@dataclass(frozen=True, slots=True)
class Query(Generic[T]):
    """What one page of a listing is to hold. ``after`` is the rank of the last row before it."""

    listing: Listing[T]
    tests: list[Test[T]]
    limit: int
    sort: str
    after: Rank | None

    @property
    def order(self) -> str:
        return self.sort.removeprefix("-")

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")


def read_query(listing: Listing[T], fields: Mapping[str, str], now: float) -> Query[T]:
    """The query that a URL's fields state: ``limit``, ``sort``, ``after`` and filters.

    ``sort`` is an order's name, with a ``-`` before it for the largest first.

    Raises:
        QueryError: something in it is wrong.
    """
    asked = fields.get("limit", str(ROWS))
    if not (asked.isascii() and asked.isdigit()) or not 1 <= int(asked[:9]) <= MOST_ROWS:
        raise QueryError(f"limit: has to be a number from 1 to {MOST_ROWS}")
    sort = fields.get("sort", listing.default_order)
    filters = {name: value for name, value in fields.items() if name not in _CONTROLS}
    after = _read_after(fields["after"], sort) if "after" in fields else None
    query = Query(listing, tests(listing, filters, now), int(asked), sort, after)
    if query.order not in listing.orders:
        raise QueryError(f"sort: {none_of(query.order, listing.orders)}")
    return query


def _read_after(token: str, sort: str) -> Rank:
    problem = QueryError("after: not what a page with this sort gave as next")
    try:
        given, key, identity = json.loads(urlsafe_b64decode(token))
        at = bytes.fromhex(identity)
    except (ValueError, TypeError, RecursionError):
        raise problem from None
    if given != sort or not isinstance(key, str | float | int):
        raise problem
    return key, at


def position(sort: str, last: Rank) -> str:
    """The ``after`` of the page behind one in the order ``sort`` whose last row ranks so."""
    key, identity = last
    token = json.dumps([sort, key, identity.hex()]).encode()
    return urlsafe_b64encode(token).decode()


class Selecting(Generic[T]):
    """One page's rows being picked from all the items."""

    def __init__(self, query: Query[T]) -> None:
        self._query = query
        self._kept: list[tuple[Key, bytes, T]] = []
        self._most = 2 * query.limit + 1_000
        #: Items that passed the filters, on whichever page.
        self.matched = 0

    def feed(self, items: Iterable[T]) -> None:
        """Look at some items.

        Raises:
            QueryError: ``after`` is of another kind than the items.
        """
        query = self._query
        tests, after, descending = query.tests, query.after, query.descending
        order, identity, kept = (
            query.listing.orders[query.order],
            query.listing.identity,
            self._kept,
        )
        for item in items:
            for test in tests:
                if not test(item):
                    break
            else:
                self.matched += 1
                rank = (order(item), identity(item))
                if after is not None:
                    try:
                        passed = rank >= after if descending else rank <= after
                    except TypeError:
                        raise QueryError("after: belongs to another listing") from None
                    if passed:
                        continue
                kept.append((*rank, item))
        if len(kept) > self._most:
            self._trim()

    def result(self) -> tuple[list[T], list[Rank], bool]:
        """The page's items in order, their ranks, and whether others rank behind them."""
        self._trim()
        kept, limit = self._kept, self._query.limit
        items = [item for _, _, item in kept[:limit]]
        return items, [_rank(one) for one in kept[:limit]], len(kept) > limit

    def _trim(self) -> None:
        self._kept.sort(key=_rank, reverse=self._query.descending)
        del self._kept[self._query.limit + 1 :]
