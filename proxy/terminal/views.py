"""The kinds of rows that the endpoint lists, as columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from proxy.terminal.printable import counted, printable, size, span

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``sort`` is the endpoint's name for its order, "" where it has none.

    ``right`` is for numbers, which are never cut. Where the terminal is narrow texts are, down to
    ``enough`` cells, and then columns are left out: those with the lowest ``keep`` first. An ``id``
    is cut only where its beginning will do. One that is ``rare`` is shown only where a row has it.
    """

    title: str
    cell: Callable[[Row], object]
    sort: str = ""
    right: bool = False
    keep: int = 5
    enough: int = 12
    id: bool = False
    rare: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """One kind of row: the endpoint's path, what is shown first, and the columns."""

    name: str
    title: str
    sort: str
    columns: tuple[Column, ...]


def driver(row: Row) -> str:
    """A driver and its version."""
    return f"{row.get('driver') or ''} {row.get('driver_version') or ''}".strip()


def _text(name: str) -> Callable[[Row], object]:
    return lambda row: row.get(name) or "-"


def _number(name: str) -> Callable[[Row], object]:
    return lambda row: f"{row.get(name) or 0:,}"


def _few(name: str) -> Callable[[Row], object]:
    return lambda row: row.get(name) or ""


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


_PROXY: Final = Column("PROXY", lambda row: row.get("proxy", ""), keep=9, enough=21, rare=True)
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


def _brief_incident(row: Row) -> str:
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
                Column("WHAT", _brief_incident, keep=9, enough=36),
                Column("TIMES", _few("count"), right=True, keep=6),
                *_WHERE,
                _USER,
                *_WHO[3:5],
                Column("CLIENT", _text("client"), keep=3, enough=15),
                Column("CONN", _text("conn"), right=True, keep=3),
                Column("COMMAND", _text("command")),
                Column("SESSION", _uuid, keep=2, id=True),
                Column("BOUND", _bound),
                Column("WHY", _why, keep=7),
                Column("FIRST", _moment("first"), right=True, keep=4),
            ),
        ),
    )
}  # fmt: skip


class Attention(NamedTuple):
    """What an operator should look at; and in short, without the driver."""

    whole: str
    short: str


def attention(
    summary: Row, groups: Sequence[Row], idlest: Sequence[Row], incidents: Sequence[Row]
) -> list[Attention]:
    """What an operator should look at, by owner, application and driver."""
    found: list[tuple[Row | None, str]] = []
    for one in summary.get("clusters", [summary]):
        if one["sessions"] >= 0.8 * one["sessions_limit"]:
            text = f"{one['sessions']:,} sessions: nearly as many as there may be"
            found.append((None, f"{one['cluster']}: {text}" if "cluster" in one else text))
    found += [
        (group, f"{group['budget_used'] * 100:.0f} % of the session budget used")
        for group in groups
        if (group["budget_used"] or 0) >= 0.8
    ]
    found += [
        (one, f"a transaction has been idle for {span(one['idle_seconds'])}")
        for one in idlest
        if one["idle_seconds"] >= 30
    ]
    for group in groups[:1]:
        if group["sessions"] >= max(1_000, summary["sessions"] / 2):
            found.append((group, f"has {group['sessions']:,} sessions; are they ended?"))
    found += [
        (one, f"{incident(one)}, {span(one['age_seconds'])} ago")
        for one in incidents[:3]
        if one["age_seconds"] < 900
    ]
    return [_attention(row, text) for row, text in found]


def _attention(row: Row | None, text: str) -> Attention:
    if row is None:
        return Attention(printable(text), printable(text))
    # An incident has an owner, too: of the session that somebody used.
    whose = row["user"] if "user" in row else row["owner"]
    cluster = [row["cluster"]] if "cluster" in row else []
    names = [*cluster, whose or "nobody", row["application"] or "no application name"]
    lines = (f"{' · '.join(some)}: {text}" for some in ([*names, driver(row)], names))
    return Attention(*map(printable, lines))
