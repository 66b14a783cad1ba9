"""The kinds of rows that the endpoint lists, as columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from proxy.terminal.printable import counted, size, span

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``sort`` is the endpoint's name for its order, "" where it has none.

    ``right`` is for numbers, which are never cut. Where the terminal is narrow texts are, down to
    ``enough`` cells, and then columns are left out: those with the lowest ``keep`` first. An ``id``
    is cut only where its beginning will do, and in a listing nothing of what has to be ``whole``.
    One that is ``rare`` is shown only where a row has it. Of an ``address`` what tells it from the
    others is enough.
    """

    title: str
    cell: Callable[[Row], object]
    sort: str = ""
    right: bool = False
    keep: int = 5
    enough: int = 12
    id: bool = False
    rare: bool = False
    whole: bool = False
    address: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """One kind of row: the endpoint's path, what is shown first, and the columns. What a listing
    has no room for stands ``below`` each row, where the rows are few and all of it may matter."""

    name: str
    title: str
    sort: str
    columns: tuple[Column, ...]
    below: bool = False


def driver(row: Row) -> str:
    """A driver and its version."""
    return f"{row.get('driver') or ''} {row.get('driver_version') or ''}".strip()


def _text(name: str) -> Callable[[Row], object]:
    return lambda row: row.get(name) or "-"


def _number(name: str) -> Callable[[Row], object]:
    return lambda row: f"{row.get(name) or 0:,}"


def _few(name: str) -> Callable[[Row], object]:
    def text(row: Row) -> object:
        value = row.get(name) or ""
        return f"{value:,}" if isinstance(value, int) else value

    return text


def _span(name: str) -> Callable[[Row], object]:
    return lambda row: span(row.get(name))


def _idle(row: Row) -> str:
    return "" if row.get("operations") else span(row["idle_seconds"])


def _flight(row: Row) -> str:
    return ", ".join(f"{one['command']} {span(one['seconds'])}" for one in row["operations"])


def _command(row: Row) -> object:
    """What a connection works at. A proxy of an earlier version does not say since when."""
    seconds = row.get("operation_seconds")
    command = row.get("command") or row.get("in_flight") or ""
    if command and row.get("use") == "monitor":
        return f"{command} (monitor)"
    return command if seconds is None else f"{command} {span(seconds)}"


def _txn_number(row: Row) -> str:
    """Those of child sessions are counted by themselves."""
    number = str(row.get("txn_number", ""))
    return f"{number} (child)" if row.get("child") else number


def _transaction(row: Row) -> str:
    if row.get("transaction") != "in progress":
        state = row.get("transaction")
        return "" if state in (None, "none") else str(state)
    idle = row["transaction_idle_seconds"]
    text = f"open {span(row['transaction_seconds'])}"
    return f"{text}, idle {span(idle)}" if idle >= 1 else text


def _share(row: Row) -> str:
    used = row.get("budget_used")
    return "" if used is None else f"{used * 100:.0f} %"


def _of_bound(row: Row) -> str:
    # The number first: where the terminal is narrow the end is cut.
    return f"{row['limit']:,} ({row['bound']})" if row.get("bound") else ""


def _brief(name: str) -> Callable[[Row], object]:
    """A time that may be far below a second."""

    def text(row: Row) -> str:
        seconds = row.get(name)
        if seconds is None:
            return ""
        if seconds >= 1:
            return f"{seconds:.2f} s"
        return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f} µs"

    return text


def _size(name: str) -> Callable[[Row], object]:
    return lambda row: size(row.get(name) or 0)


_PROXY: Final = Column(
    "PROXY", lambda row: row.get("proxy", ""), keep=9, enough=21, rare=True, address=True
)
_CLUSTER: Final = Column("CLUSTER", lambda row: row.get("cluster", ""), keep=9, rare=True)
_OWNER: Final = Column("OWNER", _text("owner"), "owner", keep=8)
_USER: Final = Column("USER", _text("user"), "user", keep=8)
_APPLICATION: Final = Column("APPLICATION", _text("application"), "application", keep=7, enough=10)
_DRIVER: Final = Column("DRIVER", driver, "driver", keep=1)
_CLIENT: Final = Column("CLIENT", _text("client"), "client", keep=2, enough=15)
_SESSION: Final = Column("SESSION", _text("session"), "session", keep=9, id=True)
_CURSORS: Final = Column("CURSORS", _few("cursors"), "cursors", right=True, keep=4)
_WHERE: Final = (_PROXY, _CLUSTER)
_WHO: Final = (*_WHERE, _OWNER, _APPLICATION, _DRIVER, _CLIENT)

INCIDENTS: Final = {
    "foreign_uid": "tried a session of somebody else (foreign uid)",
    "shared": "used one session from two client processes",
    "concurrent": "used one session for two things at once",
    "concurrent_in_transaction": "used one transaction for two things at once",
    "txn_number_backwards": "sent a txnNumber that goes backwards",
    "txn_number_reused": "sent a txnNumber twice for different things",
    "refused": "refused by",
    "reported": "would be refused by",
    "aborted": "left a transaction open too long: aborted by",
    "over": "left a transaction open too long: it had ended before it was aborted by",
    "given_up": "left a transaction open too long, which could not be aborted by",
}


def incident(row: Row) -> str:
    """What somebody did, in words."""
    kind, rule = str(row["kind"]), row.get("rule")
    said = INCIDENTS.get(kind, kind)
    if kind == "foreign_uid" and row.get("owner"):
        said = f"tried a session of {row['owner']} (foreign uid)"
    if rule:
        said += f" {rule}" if rule == "the proxy" else f" the rule {rule}"
    return said


def _moment(name: str) -> Callable[[Row], object]:
    """A time of the endpoint's, which is in UTC, in the machine's own zone and with its name."""

    def text(row: Row) -> str:
        told = row.get(name)
        return f"{datetime.fromisoformat(told).astimezone():%Y-%m-%d %H:%M:%S %Z}" if told else "-"

    return text


def _uuid(row: Row) -> str:
    """A session without its owner's digest, which incidents say behind it."""
    return str(row.get("session") or "-").partition(" - ")[0]


def brief_incident(row: Row) -> str:
    """What somebody did, in so few words that the name of a rule can be read in 36 cells."""
    return incident(row).replace(" the rule ", " ")


def _why(row: Row) -> str:
    """The latest reason, and those before it."""
    # A proxy of an earlier version does not say those.
    said = [str(row.get("reason") or "-"), *map(_earlier, row.get("before") or ())]
    return "; ".join(said)


def _earlier(one: Row) -> str:
    times = f"{counted(one['count'], 'time')} " if one.get("count") else ""
    return f"before: {times}{one.get('command') or 'connect'}: {one.get('reason', '-')}"


def _state(row: Row) -> str:
    up = row.get("up")
    return "not asked yet" if up is None else "up" if up else "down"


def _settings(row: Row) -> str:
    """What is set of a rule: what is empty or nought does nothing."""
    return _said(row.get("settings") or {})


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items() if one)
    if isinstance(value, list | tuple):
        return ", ".join(
            f"[{text}]" if isinstance(one, Mapping) else text
            for one in value
            for text in [_said(one)]
        )
    return "yes" if value is True else str(value)


def _bound(row: Row) -> str:
    bound = row.get("bound")
    return f"{bound} = {row['limit']}" if bound else ""


VIEWS: Final[Mapping[str, View]] = {
    view.name: view
    for view in (
        View(
            "sessions",
            "Sessions",
            "activity",
            (
                *_WHO,
                Column("AGE", _span("age_seconds"), "age", right=True, keep=3),
                Column("IDLE", _idle, "idle", right=True, keep=6),
                Column("TRANSACTION", _transaction, "transaction", keep=7, enough=13),
                _CURSORS,
                Column("IN FLIGHT", _flight, "operations"),
                Column("ENDED", _few("ended")),
                _SESSION,
            ),
        ),
        View(
            "groups",
            "Groups",
            "-sessions",
            (
                *_WHO[:5],
                Column("LIVE", _number("live"), "live", right=True, keep=8),
                Column("SESSIONS", _number("sessions"), "sessions", right=True, keep=8),
                Column("OWNER'S", _number("owner_live"), "owner_live", right=True),
                Column("BUDGET", _share, "budget_used", right=True),
                Column("OF", _of_bound),
                Column("TXNS", _few("transactions"), "transactions", right=True),
                _CURSORS,
                Column("IN FLIGHT", _few("operations"), "operations", right=True),
                Column("OLDEST", _span("oldest_seconds"), "oldest", right=True),
                Column("LONGEST IDLE", _span("idlest_seconds"), "idlest", right=True),
            ),
        ),
        View(
            "transactions",
            "Transactions",
            "-age",
            (
                *_WHO,
                Column("OPEN FOR", _span("age_seconds"), "age", right=True, keep=7),
                Column("IDLE", _idle, "idle", right=True, keep=6),
                Column("TXNNUMBER", _txn_number, "txn_number", right=True, keep=3),
                Column("STATEMENTS", _number("statements"), right=True, keep=2),
                _CURSORS,
                Column("IN FLIGHT", _flight, "operations"),
                Column("UPSTREAM", _text("upstream"), keep=2),
                Column("CONN", _text("conn"), right=True, keep=3),
                _SESSION,
            ),
            below=True,
        ),
        View(
            "cursors",
            "Cursors",
            "-age",
            (
                *_WHO,
                Column("NAMESPACE", _text("namespace"), "namespace", keep=7),
                Column("OPEN FOR", _span("age_seconds"), "age", right=True, keep=7),
                Column("IDLE", _idle, "idle", right=True, keep=6),
                Column("UPSTREAM", _text("upstream"), keep=2),
                Column("CONN", _text("conn"), right=True, keep=3),
                Column("CURSOR", _text("cursor"), right=True, keep=4),
                _SESSION,
            ),
        ),
        View(
            "connections",
            "Connections",
            "-conn",
            (
                Column("CONN", _text("conn"), "conn", right=True, keep=9),
                *_WHERE,
                _USER,
                *_WHO[3:],
                Column("UPSTREAM", _text("upstream"), "upstream", keep=3),
                Column("OPEN FOR", _span("age_seconds"), "age", right=True, keep=7),
                Column("REQUESTS", _number("requests"), "requests", right=True),
                Column("IN FLIGHT", _command, enough=15),
                Column("RECEIVED", _size("received_bytes"), "received",
                       right=True, keep=2),
                Column("SENT", _size("sent_bytes"), "sent", right=True,
                       keep=2),
            ),
        ),
        View(
            "namespaces",
            "Namespaces",
            "-per_second",
            (
                *_WHERE,
                Column("NAMESPACE", _text("namespace"), "namespace", keep=9),
                Column("KIND", _text("kind"), "kind", keep=9),
                Column("PER SECOND", lambda row: f"{row.get('per_second') or 0:,.1f}", "per_second",
                       right=True, keep=9),
                Column("MEAN 1 MIN", _brief("lately_mean_seconds"), right=True, keep=8),
                Column("MEAN", _brief("mean_seconds"), "mean", right=True, keep=5),
                Column("95 %", _brief("p95_seconds"), "p95", right=True, keep=6),
                Column("REQUESTS", _number("requests"), "requests", right=True, keep=8),
                Column("ERRORS", _few("errors"), "errors", right=True, keep=7),
                Column("RECEIVED", _size("received_bytes"), "received", right=True, keep=2),
                Column("SENT", _size("sent_bytes"), "sent", right=True, keep=3),
            ),
        ),
        View(
            "incidents",
            "Incidents",
            "",
            (
                Column("AGO", _span("age_seconds"), right=True, keep=8),
                Column("WHAT", brief_incident, keep=9, enough=36),
                Column("TIMES", _few("count"), right=True, keep=6),
                *_WHERE,
                _USER,
                *_WHO[3:5],
                Column("CLIENT", _text("client"), keep=3, enough=15),
                Column("CONN", _text("conn"), right=True, keep=3),
                Column("COMMAND", _text("command")),
                Column("SESSION", _uuid, keep=2, id=True),
                Column("BOUND", _bound),
                Column("WHY", _why, keep=7, enough=40, whole=True),
                Column("FIRST", _moment("first"), right=True, keep=4),
            ),
            below=True,
        ),
        View(
            "upstream",
            "Upstream",
            "",
            (
                *_WHERE,
                Column("UPSTREAM", _text("upstream"), keep=9, whole=True),
                Column("ROLE", _text("role"), keep=8, enough=9),
                Column("STATE", _state, keep=9, enough=13),
                Column("SINCE", _span("since_seconds"), right=True, keep=8),
                Column("LISTENER", lambda row: row.get("listener") or "none", keep=7, enough=15),
                Column("CONNECTIONS", _few("connections"), right=True),
                Column("SET", _text("set"), keep=3, enough=5),
                Column("WIRE VERSION", _few("wire_version"), right=True, keep=2),
                Column("PROBLEM", _text("problem"), keep=7, rare=True, whole=True),
            ),
            below=True,
        ),
        View(
            "rules",
            "Rules",
            "",
            (
                *_WHERE,
                Column("RULE", _text("rule"), keep=9),
                Column("MODE", _text("mode"), keep=9, enough=7),
                Column("REFUSED", _number("refused"), right=True, keep=8),
                Column("WOULD BE", _number("reported"), right=True, keep=8),
                Column("ABORTED", _few("aborted"), right=True, keep=8),
                Column("SETTINGS", _settings, keep=7, whole=True),
            ),
            below=True,
        ),
    )
}  # fmt: skip
