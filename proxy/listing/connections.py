"""Client connections as rows, which they make themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from proxy.listing.kinds import Listing, Row, number_of, text_of

_CONNECTION_TEXTS: Final[Mapping[str, Callable[[Row], str]]] = {
    "user": text_of("user"),
    "application": text_of("application"),
    "driver": text_of("driver"),
    "client": text_of("client"),
    "upstream": text_of("upstream"),
    "conn": text_of("conn"),
}

CONNECTIONS: Final[Listing[Row]] = Listing(
    name="connections",
    texts=_CONNECTION_TEXTS,
    words=lambda row: [str(row.get("command", "")), str(row.get("driver_version", ""))],
    states={
        # A monitor's hello waits upstream for something to change: nobody works at it.
        "operation": lambda row: bool(row.get("in_flight")) and row.get("use") != "monitor",
        "idle": lambda row: not row.get("in_flight"),
        "requests": lambda row: row.get("use") == "requests",
        "monitor": lambda row: row.get("use") == "monitor",
        "opened": lambda row: row.get("use", "opened") == "opened",
    },
    orders={
        **{name: _CONNECTION_TEXTS[name] for name in _CONNECTION_TEXTS if name != "conn"},
        "conn": number_of("conn"),
        "age": lambda row: -float(row["conn"]),
        "requests": number_of("requests"),
        "received": number_of("received_bytes"),
        "sent": number_of("sent_bytes"),
    },
    identity=lambda row: int(row["conn"]).to_bytes(8, "big"),
    default_order="-conn",
)
