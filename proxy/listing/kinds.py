"""What every kind of listing says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from proxy.session.records import Selection

T = TypeVar("T")
Row = dict[str, Any]
#: All values of one order are of one type.
Key = str | float
#: What a row is sorted by, and what tells it from those that sort alike.
Rank = tuple[Key, bytes]

EVERYTHING: Final = Selection(everything=True)


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One kind of row, made from a ``T``.

    ``texts`` are filtered by patterns, ``ages`` (in seconds) by a minimum, ``states`` by name.
    ``words`` are texts that only a search through everything looks at. ``orders`` give what to
    sort by, ``identity`` tells apart what sorts alike.
    """

    name: str
    texts: Mapping[str, Callable[[T], str]]
    words: Callable[[T], list[str]]
    states: Mapping[str, Callable[[T], bool]]
    orders: Mapping[str, Callable[[T], Key]]
    identity: Callable[[T], bytes]
    default_order: str
    ages: Mapping[str, Callable[[T, float], float]] = field(default_factory=dict)


def of_cluster(listing: Listing[T], cluster: str) -> Listing[T]:
    """The listing for one of several clusters: its rows are found, sorted and told apart by that;
    the same where there is but one, which has no name."""
    if not cluster:
        return listing

    def name(_item: T) -> str:
        return cluster

    end = f"\0{cluster}".encode()
    return replace(
        listing,
        texts={**listing.texts, "cluster": name},
        orders={**listing.orders, "cluster": name},
        identity=lambda item: listing.identity(item) + end,
    )


def text_of(name: str) -> Callable[[Row], str]:
    """A row's text, "" where it has none."""
    return lambda row: str(row.get(name, ""))


def seconds_since(then: float, now: float) -> float:
    """What rows say of times: never negative, also of what began while the rows were made."""
    return max(0.0, round(now - then, 3))


def number_of(name: str) -> Callable[[Row], Key]:
    """A row's number, 0 where it has none."""
    return lambda row: float(row.get(name) or 0)
