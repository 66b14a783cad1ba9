"""Whose the connections are: a row for all of one user, application and machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from proxy.terminal.printable import size, span
from proxy.terminal.views import Column, View

Row = Mapping[str, Any]

_COUNTS: Final = (
    "connections",
    "in_flight",
    "monitors",
    "requests",
    "received_bytes",
    "sent_bytes",
)


def pools(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """A row for the connections that are alike, the most first. ``in_flight`` is how many have a
    request there that is no driver's look at the server, ``monitors`` how many are for such."""
    found: dict[tuple[object, ...], dict[str, Any]] = {}
    for row in rows:
        client = str(row["client"]).rpartition(":")[0] or str(row["client"])
        names = {name: row[name] for name in ("cluster", "user", "application") if name in row}
        pool = found.setdefault(
            (*names.values(), client),
            {**names, "client": client, **dict.fromkeys(_COUNTS, 0), "oldest_seconds": 0.0},
        )
        monitor = row.get("use") == "monitor"
        pool["connections"] += 1
        pool["monitors"] += monitor
        pool["in_flight"] += bool(row.get("in_flight")) and not monitor
        for name in ("requests", "received_bytes", "sent_bytes"):
            pool[name] += row.get(name) or 0
        pool["oldest_seconds"] = max(pool["oldest_seconds"], row["age_seconds"])
    return sorted(found.values(), key=lambda pool: -pool["connections"])


def _few(name: str) -> Any:  # noqa: ANN401 - a Column's cell
    return lambda row: f"{row[name]:,}" if row[name] else ""


POOLS: Final = View(
    "connections",
    "Connections",
    "",
    (
        Column("CONNECTIONS", _few("connections"), right=True, keep=9),
        Column("CLUSTER", lambda row: row.get("cluster", ""), keep=9, rare=True),
        Column("USER", lambda row: row["user"] or "-", keep=9),
        Column("APPLICATION", lambda row: row["application"] or "-", keep=8, enough=10),
        Column("CLIENT", lambda row: row["client"], keep=8, enough=15),
        Column("IN FLIGHT", _few("in_flight"), right=True, keep=7),
        Column("MONITORS", _few("monitors"), right=True, keep=6),
        Column("REQUESTS", _few("requests"), right=True, keep=5),
        Column("RECEIVED", lambda row: size(row["received_bytes"]), right=True, keep=3),
        Column("SENT", lambda row: size(row["sent_bytes"]), right=True, keep=2),
        Column("OLDEST", lambda row: span(row["oldest_seconds"]), right=True, keep=4),
    ),
)
