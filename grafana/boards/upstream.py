"""The mongod and mongos processes as the proxies see them."""

from __future__ import annotations

from typing import Final

from grafana.panels import PLACE, Dashboard, Query, Row, quantiles, series
from grafana.promql import WHERE, highest, lowest, rate, top, total

BOARD: Final = Dashboard(
    "mongo-session-proxy-upstream",
    "Session proxy · upstream",
    "The mongod and mongos processes as the proxies see them.",
    (
        Row(
            "Members",
            (
                series(
                    "Answering",
                    Query(lowest("upstream_up", f"{WHERE}, upstream"), f"{{{{upstream}}}} {PLACE}"),
                    help="1: answers the own hello of that proxy, 0: does not.",
                    page="upstream",
                ),
                series(
                    "Primary",
                    Query(highest("upstream_primary", "upstream"), "{{upstream}}"),
                ),
                series(
                    "Connections",
                    Query(
                        total("upstream_connections", "upstream, state"), "{{upstream}} {{state}}"
                    ),
                    Query(total("connections_limit", side="upstream"), "limit"),
                    help="One for each client connection.",
                ),
            ),
        ),
        Row(
            "Connecting",
            (
                series(
                    "Attempts",
                    Query(rate("upstream_connects_total", "result"), "{{result}}"),
                    unit="cps",
                ),
                quantiles("Until a connection stands", "upstream_connect_duration_seconds"),
                series(
                    "Bytes",
                    Query(rate("received_bytes_total", side="upstream"), "received"),
                    Query(rate("sent_bytes_total", side="upstream"), "sent"),
                    unit="Bps",
                ),
            ),
        ),
        Row(
            "Answers",
            (
                series(
                    "Errors",
                    Query(
                        top(10, rate("errors_total", "code_name", source="upstream")),
                        "{{code_name}}",
                    ),
                    unit="ops",
                ),
                series(
                    "Mean request duration",
                    Query(
                        f"{rate('request_duration_seconds_sum')} /"
                        f" {rate('request_duration_seconds_count')}",
                        "whole",
                    ),
                    Query(
                        f"{rate('inside_duration_seconds_sum')} /"
                        f" {rate('inside_duration_seconds_count', leg='request')}",
                        "inside the proxy",
                    ),
                    unit="s",
                    help="What is not inside the proxy is upstream and the network behind.",
                ),
            ),
        ),
    ),
)
