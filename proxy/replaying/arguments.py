"""What the command ``replay`` is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from proxy.terminal.arguments import count

if TYPE_CHECKING:
    import argparse

#: Lines that are shown unless ``--limit`` says otherwise.
LIMIT: Final = 1000


def add_command(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command with ``add(name, help=…, …)``."""
    replay = add(
        "replay",
        help="say what rules would have refused of an audit log or a history",
        description="Ask the rules of a configuration file about what an audit log or a history "
        "has, one event after the other, and list what they would have refused. What a rule "
        "looks at and nobody has written down it cannot judge, which is said.",
        epilog="A history: mongo-session-proxy history --since 03:00 --json --limit 1000000 | "
        "mongo-session-proxy replay - --rules rules.toml",
    )
    replay.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="audit log, what history --json printed, or a file of history.file; - is stdin",
    )
    replay.add_argument(
        "--rules",
        # As some say.
        "--policy",
        metavar="FILE",
        required=True,
        help="TOML with the tables [policies]; nothing else in it is looked at",
    )
    replay.add_argument(
        "--cluster",
        metavar="NAME",
        help="whose events, and whose [policies] of several [[cluster]]",
    )
    replay.add_argument(
        "--limit", type=count, default=LIMIT, metavar="NUMBER", help="lines to show (1000)"
    )
    replay.add_argument("--utc", action="store_true", help="times in UTC, not of this machine")
    replay.add_argument("--json", action="store_true", help="print JSON")
