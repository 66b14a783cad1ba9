"""What is open, for how long, and how it ends."""

from __future__ import annotations

from typing import Final

from grafana.panels import COLUMNS, PLACE, Dashboard, Query, Row, number, series, table
from grafana.promql import WHERE, highest, most, quantile, rate, top, total

BOARD: Final = Dashboard(
    "mongo-session-proxy-transactions",
    "Session proxy · transactions and cursors",
    "What is open, for how long, and how it ends.",
    (
        Row(
            "Open now",
            (
                number("Open transactions", total("transactions_open")),
                number(
                    "Oldest",
                    highest("transaction_oldest_seconds"),
                    unit="s",
                    limits=((60, "orange"),),
                ),
                number(
                    "Waiting longest for its client",
                    highest("transaction_idlest_seconds"),
                    unit="s",
                    limits=((10, "orange"), (60, "red")),
                ),
                number("Open cursors", total("cursors_open")),
                number(
                    "Oldest cursor",
                    highest("cursor_oldest_seconds"),
                    unit="s",
                    limits=((600, "orange"),),
                ),
                table(
                    "Idle transactions",
                    top(
                        10,
                        most(
                            highest(
                                "transaction_idle_seconds", f"{WHERE}, owner, application, driver"
                            )
                        ),
                    ),
                    (*COLUMNS, "owner", "application", "driver"),
                    "waits for",
                    page="transactions?sort=-idle",
                    unit="s",
                    help="Whose open transactions wait for their clients: they hold locks and"
                    " snapshots all the while.",
                ),
                table(
                    "Open transactions by owner",
                    top(10, most(total("owner_open_transactions", f"{WHERE}, owner"))),
                    (*COLUMNS, "owner"),
                    "open",
                    page="transactions",
                ),
            ),
        ),
        Row(
            "Who, over time",
            (
                series(
                    "Idle transactions by owner",
                    Query(
                        top(
                            10, highest("transaction_idle_seconds", f"{WHERE}, owner, application")
                        ),
                        f"{{{{owner}}}} {{{{application}}}} {PLACE}",
                    ),
                    unit="s",
                    page="transactions?sort=-idle",
                ),
                series(
                    "Transactions by owner",
                    Query(
                        top(10, total("owner_open_transactions", f"{WHERE}, owner")),
                        f"{{{{owner}}}} {PLACE}",
                    ),
                    page="transactions",
                ),
                series(
                    "Cursors by owner",
                    Query(
                        top(10, total("owner_cursors", f"{WHERE}, owner")), f"{{{{owner}}}} {PLACE}"
                    ),
                    page="cursors",
                ),
            ),
        ),
        Row(
            "Over time",
            (
                series(
                    "Open",
                    Query(total("transactions_open"), "transactions"),
                    Query(total("cursors_open"), "cursors"),
                ),
                series(
                    "Age of the oldest",
                    Query(highest("transaction_oldest_seconds"), "transaction"),
                    Query(highest("transaction_idlest_seconds"), "idle transaction"),
                    Query(highest("cursor_oldest_seconds"), "cursor"),
                    unit="s",
                ),
                series(
                    "Started and ended",
                    Query(rate("transactions_started_total"), "started"),
                    Query(rate("transactions_ended_total", "outcome"), "{{outcome}}"),
                    unit="ops",
                    page="history?event=transaction_ended",
                    help="aborted: by its client or the rule transaction_guard. killed, expired:"
                    " with its session. unknown: the reply to its end never came. timed out: nobody"
                    " ended it, and upstream lets none be open for so long.",
                ),
                series(
                    "Duration",
                    *(
                        Query(
                            quantile(share, "transaction_duration_seconds", "outcome"),
                            f"{share:.0%} {{{{outcome}}}}",
                        )
                        for share in (0.5, 0.99)
                    ),
                    unit="s",
                ),
                series(
                    "Statements per transaction",
                    Query(
                        f"{rate('transaction_statements_total')} /"
                        f" {rate('transactions_started_total')}",
                        "statements",
                    ),
                ),
                series(
                    "Retryable writes",
                    Query(rate("retryable_writes_total"), "succeeded"),
                    Query(rate("retryable_write_replays_total"), "sent again"),
                    unit="ops",
                    help="Writes that are sent again say that connections break or primaries"
                    " change.",
                ),
            ),
        ),
    ),
)
