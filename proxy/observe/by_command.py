"""Requests and replies by command, as metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.observe.families import counter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.metrics_core import Metric


def by_command(commands: Mapping[str, Sequence[int]]) -> Iterator[Metric]:
    """``commands`` are requests, replies that are ok and error replies, by command."""
    asked: dict[tuple[str, ...], int] = {}
    answered: dict[tuple[str, ...], int] = {}
    for command, (requests, ok, errors) in commands.items():
        if requests:
            asked[command,] = requests
        if ok or errors:
            answered[command, "ok"], answered[command, "error"] = ok, errors
    yield counter("requests_total", "Requests from clients.", ("command",), asked)
    yield counter(
        "replies_total",
        "Replies to clients; in an exhaust stream each one counts.",
        ("command", "result"),
        answered,
    )
