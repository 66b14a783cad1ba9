"""What ``top`` shows and how keys change it, without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal.printable import fitted, printable, span
from proxy.terminal.tables import table
from proxy.terminal.views import VIEWS, Row, View, attention

if TYPE_CHECKING:
    from datetime import datetime

_BOLD, _DIM, _REVERSE, _GREEN, _YELLOW, _RED, _PLAIN = (
    f"\x1b[{code}m" for code in (1, 2, 7, 32, 33, 31, 0)
)

_KEYS: Final = {
    "s": "sessions",
    "g": "groups",
    "t": "transactions",
    "c": "cursors",
    "n": "connections",
    "i": "incidents",
}
_SPACE: Final = "   "
_HELP: Final = "s g t c n i list  < > sort by  r reverse  / filter  space pause  q quit"


@dataclass(slots=True)
class Seen:
    """What one look at the proxy gave."""

    summary: Row
    rows: Sequence[Row]
    matched: int
    attention: list[str]


@dataclass(slots=True)
class Screen:
    """What is looked at: which listing, in which order, narrowed how.

    ``typing`` is the filter while it is being typed, None otherwise.
    """

    address: str
    view: View
    sort: str
    filters: dict[str, str] = field(default_factory=dict)
    paused: bool = False
    ended: bool = False
    typing: str | None = None
    seen: Seen | None = None
    problem: str = ""

    def fields(self, limit: int) -> dict[str, Any]:
        """What to ask of the endpoint."""
        if self.view.name == "incidents":
            return {}
        return {**self.filters, "sort": self.sort, "limit": limit}

    def key(self, key: str) -> None:
        """React to one key."""
        if self.typing is not None:
            self._type(key)
        elif key in ("q", "\x03", "\x04"):
            self.ended = True
        elif key in _KEYS:
            self.view = VIEWS[_KEYS[key]]
            self.sort = self.view.sort
            # Filters by column are the command line's, for what was listed first.
            self.filters = {k: v for k, v in self.filters.items() if k in ("text", "cluster")}
        elif key == "r" and self.sort:
            self.sort = self.sort[1:] if self.sort.startswith("-") else f"-{self.sort}"
        elif key in ("<", ">"):
            self._next_column(-1 if key == "<" else 1)
        elif key == "/":
            self.typing = self.filters.get("text", "")
        elif key == " ":
            self.paused = not self.paused

    def _type(self, key: str) -> None:
        assert self.typing is not None
        if key in ("\r", "\n"):
            self.filters.pop("text", None)
            if self.typing:
                self.filters["text"] = self.typing
            self.typing = None
        elif key in ("\x1b", "\x03"):
            self.typing = None
        elif key in ("\x7f", "\b"):
            self.typing = self.typing[:-1]
        elif key.isprintable() and len(self.typing) < 200:
            self.typing += key

    def _next_column(self, step: int) -> None:
        columns = [column for column in self.view.columns if column.sort]
        if not self.sort:
            return
        names = [column.sort for column in columns]
        current = self.sort.removeprefix("-")
        if current in names:
            at = (names.index(current) + step) % len(names)
        else:
            at = 0 if step > 0 else len(names) - 1
        # What is counted is wanted largest first.
        self.sort = f"-{names[at]}" if columns[at].right else names[at]

    # ------------------------------------------------------------------ drawing

    def summary(self) -> list[str]:
        """What is above the table, for where there is no terminal."""
        if self.seen is None:
            return []
        counts = _SPACE.join(_counts(self.seen.summary))
        return [counts, *(f"! {line}" for line in self.seen.attention)]

    def lines(self, cells: int, height: int, now: datetime) -> list[str]:
        """The whole screen, at most ``height`` lines, none wider than ``cells``."""
        head = self._head(cells, now)[: height - 1]
        body = [] if self.seen is None else self._body(cells)
        room = max(0, height - len(head) - 1)
        return [*head, *body[:room], *[""] * (room - len(body)), self._foot(cells)]

    def _head(self, cells: int, now: datetime) -> list[str]:
        clock = f"{now:%H:%M:%S}"
        if self.seen is None:
            return [_styled(self.address, cells, _BOLD), *self._trouble(cells)]
        summary = self.seen.summary
        ready = bool(summary["ready"])
        state = "ready" if ready else printable(summary["reason"])
        title = f"mongo-session-proxy {printable(summary['version'])}  {self.address}"
        rest = f"  up {span(summary['uptime_seconds'])}  {state}{'  paused' * self.paused}  {clock}"
        color = _GREEN if ready else _RED
        lines = [
            _styled(title, min(cells, len(title)), _BOLD)
            + _styled(rest, max(0, cells - len(title)), color),
            *(fitted(line, cells).rstrip() for line in _wrapped(_counts(summary), cells)),
            *self._trouble(cells),
        ]
        lines += [_styled(f"! {line}", cells, _YELLOW) for line in self.seen.attention[:4]]
        return [*lines, ""]

    def _trouble(self, cells: int) -> list[str]:
        return [_styled(self.problem, cells, _RED)] if self.problem else []

    def _body(self, cells: int) -> list[str]:
        assert self.seen is not None
        heading, *rows = table(self.view, self.seen.rows, cells, self.sort, short_ids=True)
        if not rows:
            return [_styled(f"No {self.view.title.lower()}.", cells, _DIM)]
        styles = [_style(row) for row in self.seen.rows]
        return [
            _styled(heading, cells, _REVERSE),
            *(_styled(text, cells, style) for text, style in zip(rows, styles, strict=True)),
        ]

    def _foot(self, cells: int) -> str:
        if self.typing is not None:
            return _styled(f"show what contains: {printable(self.typing)}_", cells, _BOLD)
        shown = [f"{name}={printable(value)}" for name, value in self.filters.items()]
        matched = 0 if self.seen is None else self.seen.matched
        text = f"{self.view.title} {matched:,}{' '.join(['', *shown])}  |  {_HELP}"
        return _styled(text, cells, _DIM)


def _styled(text: str, cells: int, style: str) -> str:
    text = fitted(text, cells).rstrip() if style != _REVERSE else fitted(text, cells)
    return f"{style}{text}{_PLAIN}" if style and text else text


def _style(row: Mapping[str, Any]) -> str:
    """What stands out: idle transactions and full budgets most, then what is open or running."""
    if (row.get("budget_used") or 0) >= 0.8:
        return _RED if row["budget_used"] >= 1 else _YELLOW
    if row.get("transaction") == "in progress":
        return _RED if row["transaction_idle_seconds"] >= 30 else _YELLOW
    if "statements" in row and "conn" in row:
        return _RED if row["idle_seconds"] >= 30 else _YELLOW
    return _GREEN if row.get("operations") or row.get("in_flight") else ""


def _wrapped(parts: list[str], cells: int) -> list[str]:
    """The parts on as many lines as it takes."""
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]}{_SPACE}{part}"
        if len(longer) <= cells:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines


def _counts(summary: Row) -> list[str]:
    parts = [f"sessions {summary['sessions']:,}/{summary['sessions_limit']:,}"]
    oldest = {
        "transactions": [("oldest", "transactions_oldest"), ("idle", "transactions_idlest")],
        "cursors": [("oldest", "cursors_oldest")],
        "operations": [("longest", "operations_oldest")],
    }
    titles = {"operations": "in flight"}
    for name, ages in oldest.items():
        part = f"{titles.get(name, name)} {summary[name]:,}"
        if summary[name]:
            known = [f"{word} {span(summary[f'{of}_seconds'])}" for word, of in ages
                     if summary[f"{of}_seconds"]]  # fmt: skip
            part += f" ({', '.join(known)})" if known else ""
        parts.append(part)
    parts.append(f"connections {summary['connections']:,}/{summary['connections_limit']:,}")
    return parts


def look(seen: Row, groups: Row, idlest: Row, incidents: Row, listed: Row, view: View) -> Seen:
    """One look's documents put together."""
    return Seen(
        seen,
        listed[view.name],
        listed.get("matched", len(listed[view.name])),
        attention(seen, groups["groups"], idlest["transactions"], incidents["incidents"]),
    )
