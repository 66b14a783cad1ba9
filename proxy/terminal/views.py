"""The kinds of rows that the endpoint lists, as columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.terminal.printable import fitted, printable, size, span, width

Row = Mapping[str, Any]

#: Cells that a text may take before others have what they need.
_WIDEST: Final = 60
_NARROWEST: Final = 6
_GAP: Final = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``sort`` is the endpoint's name for its order, "" where it has none.

    ``right`` is for numbers, which are never cut. Where the terminal is narrow others are, those
    with ``enough`` first: so many cells tell it apart. One that is ``rare`` is shown only where a
    row has it.
    """

    title: str
    cell: Callable[[Row], object]
    sort: str = ""
    right: bool = False
    enough: int = 0
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


_CLUSTER: Final = Column("CLUSTER", lambda row: row.get("cluster", ""), rare=True)
_OWNER: Final = Column("OWNER", _text("owner"), "owner")
_USER: Final = Column("USER", _text("user"), "user")
_APPLICATION: Final = Column("APPLICATION", _text("application"), "application")
_DRIVER: Final = Column("DRIVER", driver, "driver")
_CLIENT: Final = Column("CLIENT", _text("client"), "client")
_SESSION: Final = Column("SESSION", _text("session"), "session", enough=9)
_CURSORS: Final = Column("CURSORS", _few("cursors"), "cursors", right=True)
_WHO: Final = (_CLUSTER, _OWNER, _APPLICATION, _DRIVER, _CLIENT)

_INCIDENTS: Final = {
    "foreign_uid": "tried a session of somebody else (foreign uid)",
    "shared": "used one session from two client processes",
    "concurrent": "used one session for two things at once",
    "txn_number_backwards": "sent a txnNumber that goes backwards",
    "refused": "refused by",
    "reported": "would be refused by",
}


def incident(row: Row) -> str:
    """What somebody did, in words."""
    kind, rule = str(row["kind"]), row.get("rule")
    said = _INCIDENTS.get(kind, kind)
    if rule:
        said += f" {rule}" if rule == "the proxy" else f" the rule {rule}"
    return said


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
                Column("AGE", _span("age_seconds"), "age", right=True),
                Column("IDLE", _idle, "idle", right=True),
                Column("TRANSACTION", _transaction, "transaction"),
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
                *_WHO[:4],
                Column("SESSIONS", _number("sessions"), "sessions", right=True),
                Column("OWNER'S", _number("owner_sessions"), "owner_sessions", right=True),
                Column("BUDGET", _share, "budget_used", right=True),
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
                Column("OPEN FOR", _span("age_seconds"), "age", right=True),
                Column("IDLE", _idle, "idle", right=True),
                Column("TXNNUMBER", _txn_number, "txn_number", right=True),
                Column("STATEMENTS", _number("statements"), right=True),
                _CURSORS,
                Column("IN FLIGHT", _flight, "operations"),
                Column("UPSTREAM", _text("upstream")),
                Column("CONN", _text("conn"), right=True),
                _SESSION,
            ),
        ),
        View(
            "cursors",
            "Cursors",
            "-age",
            (
                *_WHO,
                Column("NAMESPACE", _text("namespace"), "namespace"),
                Column("OPEN FOR", _span("age_seconds"), "age", right=True),
                Column("IDLE", _idle, "idle", right=True),
                Column("UPSTREAM", _text("upstream")),
                Column("CURSOR", _text("cursor"), right=True),
                _SESSION,
            ),
        ),
        View(
            "connections",
            "Connections",
            "-conn",
            (
                Column("CONN", _text("conn"), "conn", right=True),
                _CLUSTER,
                _USER,
                *_WHO[2:],
                Column("UPSTREAM", _text("upstream"), "upstream"),
                Column("OPEN FOR", _span("age_seconds"), "age", right=True),
                Column("REQUESTS", _number("requests"), "requests", right=True),
                Column("IN FLIGHT", _command),
                Column("RECEIVED", lambda row: size(row.get("received_bytes") or 0), "received",
                       right=True),
                Column("SENT", lambda row: size(row.get("sent_bytes") or 0), "sent", right=True),
            ),
        ),
        View(
            "incidents",
            "Incidents",
            "",
            (
                Column("AGO", _span("age_seconds"), right=True),
                Column("WHAT", incident),
                Column("TIMES", _few("count"), right=True),
                _CLUSTER,
                _USER,
                *_WHO[2:4],
                Column("CLIENT", _text("client")),
                Column("CONN", _text("conn"), right=True),
                Column("COMMAND", _text("command")),
                Column("SESSION", _text("session"), enough=9),
                Column("BOUND", _bound),
                Column("WHY", _text("reason")),
                Column("FIRST", _text("first"), right=True),
            ),
        ),
    )
}  # fmt: skip


def table(view: View, rows: Sequence[Row], cells: int | None = None, sort: str = "") -> list[str]:
    """A heading and one line per row, as wide as needed or at most ``cells``.

    Columns without anything in them are left out; the one that is sorted by has an arrow.
    """
    texts = [[printable(column.cell(row)) for row in rows] for column in view.columns]
    shown = [
        (column, [_heading(column, sort), *values])
        for column, values in zip(view.columns, texts, strict=True)
        if any(value not in ("", "-") for value in values) or not (rows or column.rare)
    ]
    widths = [min(_WIDEST, max(map(width, values))) for _, values in shown]
    if cells is not None:
        _squeeze([column for column, _ in shown], widths, cells)
    return [
        _GAP.join(
            fitted(values[line], taken, right=column.right)
            for (column, values), taken in zip(shown, widths, strict=True)
        ).rstrip()
        for line in range(len(rows) + 1)
    ]


def _heading(column: Column, sort: str) -> str:
    if column.sort and sort.removeprefix("-") == column.sort:
        return f"{column.title} {'↓' if sort.startswith('-') else '↑'}"
    return column.title


def _squeeze(columns: Sequence[Column], widths: list[int], cells: int) -> None:
    """Take cells from the widest texts until all fits, or nothing can give way."""
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - cells
    for at, column in enumerate(columns):
        if column.enough and excess > 0:
            given = min(excess, max(0, widths[at] - column.enough))
            widths[at] -= given
            excess -= given
    while excess > 0:
        texts = [at for at, column in enumerate(columns) if not column.right]
        widest = max(texts, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1
        excess -= 1


def attention(
    summary: Row, groups: Sequence[Row], idlest: Sequence[Row], incidents: Sequence[Row]
) -> list[str]:
    """What an operator should look at, by owner, application and driver."""
    lines: list[str] = []
    for one in summary.get("clusters", [summary]):
        if one["sessions"] >= 0.8 * one["sessions_limit"]:
            text = f"{one['sessions']:,} sessions: nearly as many as there may be"
            lines.append(f"{one['cluster']}: {text}" if "cluster" in one else text)
    lines += [
        f"{_whose(group)}: {group['budget_used'] * 100:.0f} % of the session budget used"
        for group in groups
        if (group["budget_used"] or 0) >= 0.8
    ]
    lines += [
        f"{_whose(one)}: a transaction has been idle for {span(one['idle_seconds'])}"
        for one in idlest
        if one["idle_seconds"] >= 30
    ]
    for group in groups[:1]:
        if group["sessions"] >= max(1_000, summary["sessions"] / 2):
            lines.append(f"{_whose(group)}: has {group['sessions']:,} sessions; are they ended?")
    lines += [
        f"{_whose(one)}: {incident(one)}, {span(one['age_seconds'])} ago"
        for one in incidents[:3]
        if one["age_seconds"] < 900
    ]
    return [printable(line) for line in lines]


def _whose(row: Row) -> str:
    whose = row["owner"] if "owner" in row else row["user"]
    cluster = [row["cluster"]] if "cluster" in row else []
    names = (*cluster, whose or "nobody", row["application"] or "no application name", driver(row))
    return " · ".join(names)
