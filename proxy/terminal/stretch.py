"""What the command ``history`` takes. Imports nothing that costs time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

FILTERS: Final = {
    "user": ("USER@DB", "whose doing it was, or whose session; * stands for anything, here and "
             "below"),
    "application": ("NAME", "the application's name"),
    "driver": ("NAME", "the driver's name"),
    "client": ("HOST", "where it comes from"),
    "session": ("UUID", "the session's id, or how it begins"),
    "event": ("NAMES", "session_started, transaction_*, refused, kill and so on; several with "
                       "commas between them. ! before a name leaves it out: "
                       "'!session_*,!transaction_*'"),
    "text": ("TEXT", "anything that is remembered contains this"),
    "cluster": ("NAME", "of which cluster, where the proxy has several"),
}  # fmt: skip


def add_flags(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Add what the command takes beside where the proxy is; ``count`` reads a number of rows."""
    parser.add_argument(
        "--since",
        metavar="TIME",
        default="1h",
        help='"03:00" (the last one), "2026-03-01 03:00", or "20m" for so long ago (1h)',
    )
    parser.add_argument(
        "--until", metavar="TIME", default="now", help="the same; a time of day is the next one"
    )
    for name, (value, text) in FILTERS.items():
        parser.add_argument(f"--{name}", dest=f"filter_{name}", metavar=value, help=text)
    parser.add_argument(
        "--limit", type=count, default=1_000, metavar="N", help="events at the most (1000)"
    )
    parser.add_argument(
        "--alike",
        action="store_true",
        help="one line for all events that are alike: how many, the first, the last, the latest",
    )
    parser.add_argument("--utc", action="store_true", help="times are in UTC, not in local time")
