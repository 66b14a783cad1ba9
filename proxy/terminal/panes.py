"""What ``top`` shows in the place of its table: help, all of one row, what would be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal import filtering
from proxy.terminal.arguments import STATES
from proxy.terminal.printable import printable

if TYPE_CHECKING:
    from proxy.terminal.doing import Act, Text
    from proxy.terminal.views import View

Row = Mapping[str, Any]


@dataclass(slots=True)
class Pane:
    """Lines with a title, the ``first`` of them at the top. ``act`` is done if the ``question`` is
    answered with yes. ``row`` is what it is all of, if it is that; ``waits_for`` is whose answer it
    is there for."""

    title: str
    text: Text
    first: int = 0
    question: str = ""
    act: Act | None = None
    row: Row | None = None
    waits_for: object = None
    #: Lines below those that there was room for.
    below: int = 0

    def scroll(self, key: str, room: int) -> bool:
        """Move by a key; False if it is none for that."""
        steps = {"up": -1, "down": 1, "pageup": -room, "pagedown": room, "home": -(10**6),
                 "end": 10**6}  # fmt: skip
        if key not in steps:
            return False
        self.first = max(0, self.first + steps[key])
        return True

    def lines(self, cells: int, room: int) -> list[str]:
        """Those that there is room for."""
        lines = [part for line in self.text(cells) for part in _folded(line, cells)]
        self.first = max(0, min(self.first, len(lines) - room))
        self.below = max(0, len(lines) - room - self.first)
        return lines[self.first : self.first + room]


def _folded(line: str, cells: int) -> list[str]:
    """A sentence that is too long on several lines; what stands in columns is as wide as it is."""
    if len(line) <= cells or "  " in line.strip():
        return [line]
    return wrap(line, max(10, cells), subsequent_indent=" " * (len(line) - len(line.lstrip())))


#: Fields of rows that are no columns.
_MORE: Final = ("uid", "session", "namespace", "use", "owner")


def row_pane(view: View, row: Row, gone: bool = False) -> Pane:
    """All of one row."""
    title = view.title.removesuffix("s") + (" (it is gone: this is how it was)" if gone else "")

    def text(cells: int) -> list[str]:
        values = {column.title: printable(column.cell(row)) for column in view.columns}
        for name in _MORE:
            if row.get(name) and name.upper() not in values:
                values[name.upper()] = printable(row[name])
        width = max(map(len, values)) + 2
        lines = []
        for title, value in values.items():
            if value not in ("", "-"):
                parts = wrap(value, max(10, cells - width), break_on_hyphens=False) or [""]
                lines += [f"{title:<{width}}{parts[0]}",
                          *(f"{'':<{width}}{part}" for part in parts[1:])]  # fmt: skip
        return lines

    return Pane(title, text, row=row)


_HELP: Final = """\
lists     s sessions   g groups   t transactions   c cursors   n connections
          i incidents   d databases and collections   u upstream   l rules
move      up, down, PgUp, PgDn, Home, End
a row     Enter all of it   f what it leads to   Backspace back
order     < > by another column   r turn it round
narrow    / by the words below   Esc by nothing
act       K kill   A abort transaction   I interrupt   C close connection
          shows first what it means, and asks; m marks several rows to kill
else      space pause   T another token   ? this   q quit

Columns that there is no room for are left out: Enter shows all.
"""


def help_pane(view: View) -> Pane:
    """The keys, and the words of filters for a listing."""
    names = " ".join(f"{name}=" for name in filtering.FILTERS[view.name] if name != "text")
    lines = [
        *_HELP.splitlines(),
        f"{view.title} can be narrowed by {names} and by text that is in any of it;"
        ' * stands for anything, and spaces take quotes: application="my shop*"',
    ]
    if states := STATES[view.name]:
        lines.append(f"state= takes {', '.join(states)}, or several with commas between them.")
    return Pane("Help", lambda _: lines)
