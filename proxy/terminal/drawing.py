"""A screen of ``top`` as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal import filtering
from proxy.terminal.doing import commands
from proxy.terminal.printable import fitted, printable, span, width
from proxy.terminal.selecting import key_of
from proxy.terminal.tables import table

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.terminal.panes import Pane
    from proxy.terminal.screen import Screen
    from proxy.terminal.views import Row

_BOLD, _DIM, _REVERSE, _GREEN, _YELLOW, _RED, _PLAIN = (
    f"\x1b[{code}m" for code in (1, 2, 7, 32, 33, 31, 0)
)
_SPACE: Final = "   "
#: Before each row: which one is chosen, which ones are marked.
_GUTTER: Final = 2


def summary(screen: Screen) -> list[str]:
    """What is above the table, for where there is no terminal."""
    if screen.seen is None:
        return []
    counts = _SPACE.join(_counts(screen.seen.summary))
    return [counts, *(f"! {one.whole}" for one in screen.seen.attention)]


def drawn(screen: Screen, cells: int, height: int, now: datetime) -> list[str]:
    """The whole screen, ``height`` lines, none wider than ``cells``."""
    head = _head(screen, cells, height, now)[: height - 1]
    room = max(0, height - len(head) - 1)
    if screen.pane is not None:
        body = _in_pane(screen, screen.pane, cells, room)
    else:
        body = [] if screen.seen is None else _body(screen, cells, room)
    foot = _foot(screen, cells)
    return [*head, *body[:room], *[""] * (room - len(body)), foot]


def _head(screen: Screen, cells: int, height: int, now: datetime) -> list[str]:
    clock = f"{now:%H:%M:%S}"
    trouble = [_styled(screen.problem, cells, _RED)] if screen.problem else []
    if screen.seen is None:
        return [_styled(screen.address, cells, _BOLD), *trouble]
    seen = screen.seen.summary
    ready = bool(seen["ready"])
    # Why not stands below, where there is room for it.
    state = "ready" if ready else "not ready"
    title = f"mongo-session-proxy {printable(seen['version'])}  {screen.address}"
    rest = f"  up {span(seen['uptime_seconds'])}  {state}{'  paused' * screen.paused}  {clock}"
    color = _GREEN if ready else _RED
    lines = [
        _styled(title, min(cells, len(title)), _BOLD)
        + _styled(rest, max(0, cells - len(title)), color),
        *trouble,
    ]
    if seen.get("token") == "wrong":
        lines.append(_styled("! wrong token: the proxy has others; T types one", cells, _RED))
    if screen.pane is not None:
        return [*lines, ""]
    lines += [fitted(line, cells).rstrip() for line in _wrapped(_counts(seen), cells)]
    # Where there is little room it is the table's.
    most = min(4, max(0, (height - 8) // 4))
    found = screen.seen.attention
    shown = most if len(found) <= most else max(0, most - 1)
    for one in found[:shown]:
        text = one.whole if width(one.whole) + _GUTTER <= cells else one.short
        lines.append(_styled(f"! {text}", cells, _YELLOW))
    if shown < most:
        more = f"! {len(found) - shown:,} more: g groups, t transactions, i incidents"
        lines += [_styled(more, cells, _YELLOW)] * (len(found) > shown)
    return [*lines, ""] if height > 8 else lines


def _body(screen: Screen, cells: int, room: int) -> list[str]:
    view, rows = screen.view, screen.rows
    if not rows:
        return [_styled(_nothing(screen), cells, _DIM)]
    screen.room = max(1, room - 1)
    heading, *lines = _table(screen, rows, max(1, cells - _GUTTER))
    body = [_styled(f"{'':{_GUTTER}}{heading}", cells, _REVERSE)]
    chosen, marked = screen.selection, screen.selection.marked
    for at in chosen.shown(len(rows), screen.room):
        sign = "*" if marked and key_of(view.name, rows[at]) in marked else " "
        text = f"{'>' if at == chosen.at else ' '}{sign}"[:_GUTTER] + lines[at]
        style = _DIM if screen.problem else _style(rows[at])
        if at == chosen.at:
            body.append(f"{style}{_styled(text, cells, _REVERSE)}")
        else:
            body.append(_styled(text, cells, style))
    return body


def _table(screen: Screen, rows: Sequence[Row], cells: int) -> list[str]:
    """The table of all rows that are known, so that columns stay where they are. With thousands of
    them it takes too long to be made anew for each key."""
    what = cells, screen.sort, screen.view
    made = screen.table
    if made is None or made[0] is not rows or made[1] != what:
        seen = {} if screen.seen is None else screen.seen.summary
        proxies = [one["proxy"] for one in seen.get("proxies", ())]
        lines = table(screen.view, rows, cells, screen.sort, short_ids=True, proxies=proxies)
        made = screen.table = rows, what, lines
    return made[2]


def _nothing(screen: Screen) -> str:
    name = screen.view.title.lower()
    if not screen.filters:
        return f"No {name}."
    return f"No {name} match {printable(filtering.written(screen.filters))}  (Esc: all of them)"


def _in_pane(screen: Screen, pane: Pane, cells: int, room: int) -> list[str]:
    screen.room = max(1, room - 2)
    lines = pane.lines(cells, screen.room)
    return [_styled(pane.title, cells, _REVERSE), *(fitted(one, cells).rstrip() for one in lines)]


def _foot(screen: Screen, cells: int) -> str:
    if screen.typing is not None:
        return _typing(screen, cells)
    if screen.pane is not None:
        return _asked(screen, screen.pane, cells)
    if screen.notice:
        return _styled(screen.notice, cells, _YELLOW)
    matched = 0 if screen.seen is None else screen.seen.matched
    at = f"{screen.selection.at + 1:,}/" if screen.rows else ""
    left = f"{screen.view.title} {at}{matched:,}"
    if marked := len(screen.selection.marked):
        left += f"  {marked:,} marked"
    if screen.filters:
        left += f"  {printable(filtering.written(screen.filters))}"
    acts = [f"{key} {name}" for key, name in commands(screen.view.name).items()]
    for hints in (["Enter all", *acts, "/ filter"], [*acts, "/ filter"], acts, []):
        right = "  ".join([*hints, "? help", "q quit"])
        if width(left) + 2 + width(right) <= cells:
            break
    room = cells - width(right) - 2
    if room < 8:
        return _styled(left, cells, _DIM)
    return _styled(f"{fitted(left, room)}  {right}", cells, _DIM)


def _typing(screen: Screen, cells: int) -> str:
    assert screen.typing is not None
    what = "token" if screen.secret else "filter"
    shown = "*" * len(screen.typing) if screen.secret else printable(screen.typing)
    said = f"{screen.notice}  " if screen.notice else ""
    line = f"{said}{what}: {shown}_"
    # The end of it is what is being typed.
    excess = width(line) - cells
    return _styled(f"…{line[excess + 1 :]}" if 0 < excess < len(line) else line, cells, _BOLD)


def _asked(screen: Screen, pane: Pane, cells: int) -> str:
    more = f"PgDn {pane.below:,} more lines" if pane.below else ""
    if pane.question and pane.act is not None:
        text = f"{pane.question}  y yes, any other key no  {more}"
        return _styled(text, cells, _BOLD)
    hints = ["Esc back", *filter(None, [more])]
    if pane.row is not None:
        hints += [f"{key} {name}" for key, name in commands(screen.view.name).items()]
        hints.append("f what it leads to")
    text = "  ".join([*filter(None, [pane.question, screen.notice]), *hints])
    return _styled(text, cells, _BOLD if pane.question else _YELLOW if screen.notice else _DIM)


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
    if row.get("operations") or (row.get("in_flight") and row.get("use") != "monitor"):
        return _GREEN
    return ""


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
