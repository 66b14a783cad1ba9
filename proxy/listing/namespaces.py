"""Namespaces as rows: what was counted of each and each kind of commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from math import inf
from typing import TYPE_CHECKING, Final

from proxy.listing.kinds import Listing, Row, number_of, text_of

if TYPE_CHECKING:
    from proxy.observe.merging import Sample
    from proxy.observe.namespaces import Use

_TEXTS: Final[Mapping[str, Callable[[Row], str]]] = {
    "namespace": text_of("namespace"),
    "kind": text_of("kind"),
}

NAMESPACES: Final[Listing[Row]] = Listing(
    name="namespaces",
    texts=_TEXTS,
    words=lambda _row: [],
    states={},
    orders={
        **_TEXTS,
        "requests": number_of("requests"),
        "errors": number_of("errors"),
        "received": number_of("received_bytes"),
        "sent": number_of("sent_bytes"),
        "mean": number_of("mean_seconds"),
        "p95": number_of("p95_seconds"),
        "per_second": number_of("per_second"),
        "seconds": number_of("seconds"),
    },
    identity=lambda row: f"{row['namespace']}\0{row['kind']}".encode(),
    default_order="-per_second",
)

_COUNTS: Final = {
    "namespace_requests_total": "requests",
    "namespace_errors_total": "errors",
    "namespace_received_bytes_total": "received_bytes",
    "namespace_sent_bytes_total": "sent_bytes",
    "namespace_request_duration_seconds_count": "replies",
    "namespace_request_duration_seconds_sum": "seconds",
}
_BUCKET: Final = "namespace_request_duration_seconds_bucket"


def namespace_rows(
    samples: Iterable[Sample], lately: Mapping[str, Mapping[str, Use]], seconds: float
) -> list[Row]:
    """One row per namespace and kind, of the series of metrics and of the use of the last
    ``seconds``."""
    rows: dict[tuple[str, str], Row] = {}
    buckets: dict[tuple[str, str], dict[float, float]] = {}
    for name, labels, value in samples:
        named = dict(labels)
        key = named["namespace"], named["kind"]
        row = rows.setdefault(key, dict.fromkeys(_COUNTS.values(), 0))
        name = name.removeprefix("mongo_session_proxy_")
        if name in _COUNTS:
            row[_COUNTS[name]] = value if name.endswith("_sum") else int(value)
        elif name == _BUCKET:
            buckets.setdefault(key, {})[float(named["le"])] = value
    return [
        _row(*key, counted, buckets.get(key, {}), lately.get(key[0], {}).get(key[1]), seconds)
        for key, counted in rows.items()
        # Of one that was named after its only requests there is nothing to say: "other" has them.
        if any(counted.values())
    ]


def _row(
    namespace: str,
    kind: str,
    counted: Row,
    buckets: Mapping[float, float],
    lately: Use | None,
    window: float,
) -> Row:
    replies, seconds = counted.pop("replies"), counted.pop("seconds")
    row = {"namespace": namespace, "kind": kind, **counted, "seconds": round(seconds, 3)}
    row["mean_seconds"] = round(seconds / replies, 6) if replies else None
    row["p95_seconds"] = _quantile(0.95, buckets)
    if window and namespace != "other":
        count, errors, spent = lately or (0, 0, 0.0)
        row["per_second"] = round(count / window, 3)
        row["lately_errors"] = errors
        row["lately_mean_seconds"] = round(spent / count, 6) if count else None
    return row


def _quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """As PromQL's histogram_quantile: between two bounds as if values were spread evenly."""
    bounds = [(0.0, 0.0), *sorted(buckets.items())]
    whole = bounds[-1][1]
    if not whole:
        return None
    for (low, before), (high, upto) in pairwise(bounds):
        if upto >= share * whole:
            if high == inf:
                return low
            return round(low + (high - low) * (share * whole - before) / (upto - before), 6)
    return None
