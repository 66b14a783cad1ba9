"""The command line of what looks at a running proxy. Imports nothing that costs time."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from string import hexdigits
from typing import Any, Final

from proxy.terminal import stretch

DEFAULT_ADMIN: Final = "127.0.0.1:27080"

_LISTINGS: Final = {
    "sessions": "list sessions: whose, how old, what they have open",
    "groups": "list groups of sessions by owner, application and driver, the largest first",
    "transactions": "list open transactions, the oldest first",
    "cursors": "list open cursors, the oldest first",
    "connections": "list client connections",
    "namespaces": "list how much databases and collections are used, the busiest first",
    "incidents": "list who used sessions as no driver does, or was refused by a rule, or would be",
    "upstream": "list the servers behind the proxy: which of them is down, since when and why",
    "rules": "list the rules, their modes and settings, and how often each has refused",
}
#: Listings that come whole and in their own order.
_WHOLE: Final = ("incidents", "upstream", "rules")
#: What changes something.
ACTIONS: Final = ("kill", "abort", "interrupt", "close")
COMMANDS: Final = ("top", *_LISTINGS, "history", *ACTIONS, "ready")

#: By listing, the states that it knows.
STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "sessions": ("operation", "cursor", "transaction", "idle", "live", "ended", "killed"),
    "groups": ("operation", "cursor", "transaction"),
    "transactions": ("operation", "idle"),
    "cursors": ("operation", "transaction", "idle"),
    "connections": ("operation", "idle", "requests", "monitor", "opened"),
    "namespaces": (),
    "incidents": (),
    "upstream": (),
    "rules": (),
}

#: Filters of the endpoint: name → (value's name, help, what they apply to or None for all).
FILTERS: Final[dict[str, tuple[str, str, tuple[str, ...] | None]]] = {
    "cluster": ("NAME", "of which cluster, where the proxy has several", None),
    "owner": ("USER@DB", "whose sessions; * stands for anything, here and below",
              ("sessions", "groups", "transactions", "cursors", "kill", "top")),
    "user": ("USER@DB", "who is logged in; * stands for anything", ("connections", "incidents",
                                                                      "top")),
    "application": ("NAME", "the application's name", None),
    "driver": ("NAME", "the driver's name", None),
    "client": ("HOST", "where they come from", ("sessions", "transactions", "cursors",
                                                 "connections", "incidents", "kill", "top")),
    "session": ("UUID", "the session's id, or how it begins: in a listing any digits, to kill 8 or "
                "more that are no other's",
                ("sessions", "transactions", "cursors", "incidents", "kill")),
    "rule": ("NAME", "which rule refused; \"the proxy\" where it was none", ("incidents",)),
    "state": ("STATES", "{states}; several with commas between them", None),
    "namespace": ("DB.COLL", "which namespace; * stands for anything", ("namespaces",)),
    "kind": ("KIND", "query, getmore, insert, update, delete or command", ("namespaces",)),
    "text": ("TEXT", "anything that is shown contains this", None),
    "min_age": ("TIME", "at least so old: seconds, or 5m, 1h30m", ("sessions", "transactions",
                                                                   "cursors", "kill")),
    "min_idle": ("TIME", "not used for so long", ("sessions", "transactions", "cursors",
                                                      "kill")),
}  # fmt: skip


#: How a session is named.
_ID: Final = "its id, of which the first 8 digits are enough where no other begins so"

#: Digits of an id, and how many of them are enough to look for it.
_ALL: Final = 32
_SHORTEST: Final = 4

#: Of those that apply to all, what these have, too: namespaces are nobody's, and what has happened
#: is in no state.
_OF_ALL: Final = {
    "namespaces": ("cluster", "text"),
    "incidents": ("cluster", "application", "driver", "text"),
    "upstream": ("cluster", "text"),
    "rules": ("cluster", "text"),
}


def add_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands with ``add(name, help=…, description=…, …)``."""
    top = add(
        "top",
        help="a live table of sessions and what they have open",
        description="A live table of a running proxy's sessions, in which they can be killed; ? "
        "shows the keys. Where output is no terminal, one table is printed.",
    )
    _connect(top)
    _filter(top, "top")
    top.add_argument("--view", choices=[*_LISTINGS], default="sessions", help="what to list first")
    _sort(top)
    top.add_argument(
        "--interval", type=_positive, default=2.0, metavar="TIME", help="between two (2s)"
    )
    top.add_argument(
        "--count", type=count, metavar="N", help="end after so many; without a terminal, 1"
    )
    for name, text in _LISTINGS.items():
        listing = add(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        _connect(listing)
        _filter(listing, name)
        if name == "connections":
            listing.add_argument(
                "--alike",
                action="store_true",
                help="one line for all of one user, application and machine, the most first",
            )
        if name in _WHOLE:
            continue
        _sort(listing)
        listing.add_argument(
            "--limit", type=count, default=100, metavar="N", help="rows at the most (100)"
        )
    past = add(
        "history",
        help="what happened: sessions, transactions, kills and refusals of the last hours",
        description="List what the proxy remembers of a stretch of time: sessions that started, "
        "ended or were killed, transactions with their duration, refusals, kills, and what became "
        "of upstream and of the proxy itself.",
    )
    _connect(past)
    stretch.add_flags(past, count)
    kill = add(
        "kill",
        help="kill sessions by id or by filter",
        description="Kill the sessions that are named, or all that match every filter given. "
        "Each is killed through an idle connection of its owner's; where there is none it is "
        "reported as unreachable. Needs the proxy's admin.token.",
        epilog="Exit status: 0 all killed, 1 some were not, 2 a wrong argument or token.",
    )
    kill.add_argument("sessions", nargs="*", type=_session, metavar="ID", help=f"sessions by {_ID}")
    _connect(kill)
    _filter(kill, "kill")
    _sure(kill)
    _add_smaller(add)
    ready = add(
        "ready",
        help="ask whether clients are served: for health checks",
        description="Ask a running proxy's /readyz, which needs no token; with one it says why "
        "not.",
        epilog="Exit status: 0 it takes clients and reaches upstream, 1 it does not, 2 a wrong "
        "argument.",
    )
    _connect(ready)


def _add_smaller(add: Callable[..., argparse.ArgumentParser]) -> None:
    abort = add(
        "abort",
        help="end a session's open transaction, and leave the session",
        description="End the open transaction of a session, which lives on: its next statement "
        "gets the server's own NoSuchTransaction. What is in flight in it is interrupted. Needs "
        "the proxy's admin.token.",
        epilog="Exit status: 0 it is over, 1 it is not or was committed, 2 a wrong argument or "
        "token.",
    )
    abort.add_argument("session", type=_session, metavar="ID", help=f"the session, by {_ID}")
    abort.add_argument(
        "--child", metavar="TEXT", help="of which child session, as TXNNUMBER - UUID"
    )
    interrupt = add(
        "interrupt",
        help="end what is in flight on a connection or in a session",
        description="End one command that is in flight: by upstream's own killOp where another "
        "connection of the same user's is idle, else by closing its connection behind the error "
        "11601. Needs the proxy's admin.token.",
        epilog="Exit status: 0 it is over, 2 a wrong argument or token.",
    )
    interrupt.add_argument(
        "conn", nargs="?", type=_number, metavar="CONN", help="the connection's number"
    )
    interrupt.add_argument(
        "--session", type=_session, metavar="ID", help=f"in which session, by {_ID}"
    )
    close = add(
        "close",
        help="close a client connection",
        description="Close one client connection, and upstream's with it. Its sessions and what "
        "they have open upstream stay. Needs the proxy's admin.token.",
        epilog="Exit status: 0 it is closed, 2 a wrong argument or token.",
    )
    close.add_argument("conn", type=_number, metavar="CONN", help="the connection's number")
    for one in (abort, interrupt, close):
        _connect(one)
        name, text, _ = FILTERS["cluster"]
        one.add_argument("--cluster", dest="filter_cluster", metavar=name, help=text)
        _sure(one)


def _sure(parser: argparse.ArgumentParser) -> None:
    sure = parser.add_mutually_exclusive_group()
    sure.add_argument("--dry-run", action="store_true", help="only show what is meant")
    sure.add_argument("--yes", action="store_true", help="do not ask")


def _connect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--admin",
        metavar="ADDRESS",
        action="append",
        help="the proxy's admin endpoint: HOST:PORT, or an http:// or https:// URL. Several with "
        "commas between them, or a name that is several machines', are shown as one. Else the "
        f"environment's MONGO_SESSION_PROXY_ADMIN is used, else {DEFAULT_ADMIN}",
    )
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="what holds the proxy's admin.token; else the environment's "
        "MONGO_SESSION_PROXY_TOKEN is used",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _sort(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sort", metavar="NAME", help="a column in small letters; a wrong one lists them all"
    )
    parser.add_argument("--reverse", action="store_true", help="the largest or last first")


def order(options: argparse.Namespace, default: str) -> str:
    """What to sort by, in the endpoint's words."""
    if not options.sort:
        return default if not options.reverse else _turned(default)
    return _turned(options.sort) if options.reverse else str(options.sort)


def _turned(sort: str) -> str:
    return sort[1:] if sort.startswith("-") else f"-{sort}"


def _filter(parser: argparse.ArgumentParser, command: str) -> None:
    for name, (value, text, only) in FILTERS.items():
        of_all = _OF_ALL.get(command)
        if command in only if only is not None else of_all is None or name in of_all:
            flag = f"--{name.replace('_', '-')}"
            text = text.format(states=", ".join(STATES.get(command, STATES["sessions"])))
            parser.add_argument(flag, dest=f"filter_{name}", metavar=value, help=text)


def filters(options: argparse.Namespace) -> dict[str, str]:
    """The filters that were given."""
    given: dict[str, Any] = {name: getattr(options, f"filter_{name}", None) for name in FILTERS}
    return {name: value for name, value in given.items() if value is not None}


def _positive(text: str) -> float:
    # Costs time, and is needed where the flag is given only.
    from proxy.settings.quantities import told_seconds

    try:
        value = told_seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError("has to be a time from 0.1 to 86400 seconds")
    return value


def begun(session: str) -> str:
    """The filter for a session that was given by the first digits of its id; others as they are."""
    digits = session.replace("-", "")
    short = _SHORTEST <= len(digits) < _ALL and set(digits) <= set(hexdigits)
    return f"{session}*" if short else session


def _session(text: str) -> str:
    # Incidents, the log and the audit log say the owner's digest behind it.
    text = text.partition(" - ")[0]
    digits = text.replace("-", "")
    if not 8 <= len(digits) <= _ALL or not set(digits) <= set(hexdigits):
        problem = f"has to be a session's id, or the first 8 digits of it or more, not {text!r}"
        raise argparse.ArgumentTypeError(problem)
    return text


def _number(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise argparse.ArgumentTypeError("has to be a connection's number")
    return int(text)


def count(text: str) -> int:
    """A number of lines or rows."""
    value = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= value <= 1_000_000:
        raise argparse.ArgumentTypeError("has to be a number from 1 to 1000000")
    return value
