"""What ``top`` looks at and how keys change it, without a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from proxy.terminal import doing, filtering
from proxy.terminal.attention import Attention, attention
from proxy.terminal.keys import ESCAPE
from proxy.terminal.panes import Pane, help_pane, row_pane
from proxy.terminal.selecting import Selection, key_of
from proxy.terminal.views import VIEWS, Row, View

if TYPE_CHECKING:
    from proxy.terminal.doing import Act, Preview, Text

_LISTS: Final = {
    "s": "sessions",
    "g": "groups",
    "t": "transactions",
    "c": "cursors",
    "n": "connections",
    "i": "incidents",
    "d": "namespaces",
    "u": "upstream",
    "l": "rules",
}
_ENTER: Final = ("\r", "\n")
_BACK: Final = ("\x7f", "\b")
_END: Final = ("\x03", "\x04")

#: Rows that are asked for at the most, and how many more where one gets to the last.
_MOST: Final = 5_000
_MORE: Final = 500


@dataclass(slots=True)
class Seen:
    """What one look at the proxy gave."""

    summary: Row
    rows: Sequence[Row]
    matched: int
    attention: list[Attention]


class Place(NamedTuple):
    """Where one was."""

    view: View
    sort: str
    filters: dict[str, str]


class Todo(NamedTuple):
    """What has to be asked of the proxy beside the rows: a preview of something, or to do it."""

    stage: Literal["preview", "do"]
    act: Act


@dataclass(slots=True)
class Screen:
    """What is looked at: which listing, in which order, narrowed how.

    ``typing`` is what is being typed, None if nothing is: filters, or a token where ``secret``.
    ``problem`` is why there is nothing newer than what was ``seen``, ``notice`` is about the last
    key. ``todo`` and ``token`` are for whoever asks the proxy, who takes them away.
    """

    address: str
    view: View
    sort: str
    filters: dict[str, str] = field(default_factory=dict)
    paused: bool = False
    ended: bool = False
    typing: str | None = None
    secret: bool = False
    seen: Seen | None = None
    problem: str = ""
    notice: str = ""
    selection: Selection = field(default_factory=Selection)
    pane: Pane | None = None
    todo: Todo | None = None
    token: str | None = None
    #: Rows that there is room for, as it was drawn last, and that are wanted beyond those.
    room: int = 20
    most: int = 0
    #: Whether the chosen row is to be the last there is.
    to_end: bool = False
    before: list[Place] = field(default_factory=list)
    #: The table as it was drawn last: of which rows, how, and its lines.
    table: tuple[Sequence[Row], tuple[int, str, View], list[str]] | None = None
    #: What waits for a token.
    refused: Todo | None = None

    @property
    def place(self) -> Place:
        """What is looked at, to be compared and to be gone back to."""
        return Place(self.view, self.sort, dict(self.filters))

    @property
    def rows(self) -> Sequence[Row]:
        """The rows that are known."""
        return () if self.seen is None else self.seen.rows

    def fields(self, limit: int) -> dict[str, Any]:
        """What to ask of the endpoint."""
        if not self.view.sort:
            # These come whole.
            return {}
        return {**self.filters, "sort": self.sort, "limit": max(limit, self.most)}

    def see(self, seen: Seen) -> None:
        """Take over what a look gave."""
        if not self.view.sort:
            seen.rows = filtering.matching(seen.rows, self.filters)
            seen.matched = len(seen.rows)
        self.seen, self.problem = seen, ""
        self.selection.follow(self.view.name, seen.rows)
        if self.to_end:
            self.to_end = False
            self._move(len(seen.rows) - 1)
        if self.pane is not None and self.pane.row is not None:
            self._renew(self.pane, self.pane.row)

    def _renew(self, pane: Pane, row: Row) -> None:
        """Show a row as it is now."""
        name = self.view.name
        key = key_of(name, row)
        now = next((one for one in self.rows if key_of(name, one) == key), None)
        self.pane = row_pane(self.view, now or row, gone=now is None)
        self.pane.first = pane.first

    def go_back(self, place: Place, why: str) -> None:
        """Look at what was looked at before, as the proxy does not know what was asked."""
        self.view, self.sort, self.filters = place
        self.notice = why

    # ------------------------------------------------------------------ keys

    def key(self, key: str) -> None:
        """React to one key: a character, or the name of one that is none."""
        self.notice = ""
        if self.typing is not None:
            self._type(key)
        elif key in _END:
            self.ended = True
        elif self.pane is not None:
            self._in_pane(self.pane, key)
        else:
            self._in_table(key)

    def _in_pane(self, pane: Pane, key: str) -> None:
        if pane.act is not None and pane.question:
            # Nothing but a plain yes does it.
            if key == "y":
                self.ask(Todo("do", pane.act))
                return
            if pane.scroll(key, self.room):
                return
            self.pane, self.notice = None, "nothing was done"
        elif pane.scroll(key, self.room):
            return
        elif pane.row is not None and key in doing.COMMANDS:
            self._act(key, [pane.row])
        elif pane.row is not None and key == "f":
            self.pane = None
            self._follow(pane.row)
        elif key in (ESCAPE, "q", "?", " ", *_ENTER, *_BACK):
            self.pane = None

    def _in_table(self, key: str) -> None:
        if key == "q":
            self.ended = True
        elif key in _LISTS:
            view = VIEWS[_LISTS[key]]
            self._go(Place(view, view.sort, filtering.fitting(self.filters, view.name)))
        elif key == "r" and self.sort:
            self.sort = self.sort[1:] if self.sort.startswith("-") else f"-{self.sort}"
        elif key in ("<", ">"):
            self._next_column(-1 if key == "<" else 1)
        elif key == "/":
            # Behind what is there already the next word can be typed at once.
            self.typing = " ".join([filtering.written(self.filters), ""]).lstrip()
        elif key == " ":
            self.paused = not self.paused
        elif key == "?":
            self.pane = help_pane(self.view)
        elif key == "T":
            self.typing, self.secret = "", True
        elif key == ESCAPE:
            if self.selection.marked:
                self.selection.marked = {}
            elif self.filters:
                self._go(self.place._replace(filters={}))
        elif key in _BACK and self.before:
            self._go(self.before.pop(), back=True)
        elif not self._moved(key):
            self._with_row(key)

    def _with_row(self, key: str) -> None:
        if self.selection.at >= len(self.rows):
            return
        row = self.rows[self.selection.at]
        if key in _ENTER:
            self.pane = row_pane(self.view, row)
        elif key == "m":
            self.selection.mark(self.view.name, row)
            self._move(self.selection.at + 1)
        elif key == "f":
            self._follow(row)
        elif key in doing.COMMANDS:
            self._act(key, list(self.selection.marked.values()) or [row])

    def _moved(self, key: str) -> bool:
        at, page = self.selection.at, max(1, self.room - 1)
        to = {"up": at - 1, "down": at + 1, "pageup": at - page, "pagedown": at + page, "home": 0,
              "end": len(self.rows) - 1}.get(key)  # fmt: skip
        if to is None:
            return False
        known = len(self.rows)
        if self.seen is not None and known < min(self.seen.matched, _MOST):
            if key == "end":
                self.most, self.to_end = _MOST, True
            elif to + page >= known:
                self.most = min(_MOST, known + _MORE)
        self._move(to)
        return True

    def _move(self, to: int) -> None:
        self.selection.move(to, self.view.name, self.rows)

    def _go(self, place: Place, *, back: bool = False) -> None:
        if not back and place != self.place:
            self.before = [*self.before[-20:], self.place]
        elsewhere = place.view is not self.view
        self.view, self.sort, self.filters = place
        self.selection, self.most, self.to_end = Selection(), 0, False
        if elsewhere and self.seen is not None:
            self.seen.rows, self.seen.matched = (), 0

    def _follow(self, row: Row) -> None:
        """Go to what a row leads to: sessions of a group or an address, or the session itself."""
        view = VIEWS["sessions"]
        filters = {"cluster": row["cluster"]} if "cluster" in row else {}
        if self.view.name == "groups":
            filters |= {name: row[name] for name in ("owner", "application", "driver")}
        elif self.view.name == "sessions":
            view = VIEWS["transactions"]
            filters["session"] = row["session"]
        elif self.view.name == "namespaces":
            view = VIEWS["cursors"]
            filters["namespace"] = row["namespace"]
        elif self.view.name == "upstream":
            view = VIEWS["connections"]
            filters["upstream"] = row["upstream"] or ""
        elif self.view.name == "rules":
            view = VIEWS["incidents"]
            filters["rule"] = row["name"]
        elif row.get("kind") in ("refused", "reported"):
            # Of whoever was refused a session, those that are there.
            filters |= {"owner": row["user"], "application": row["application"]}
            filters["driver"] = row["driver"]
        elif row.get("session"):
            filters["session"] = str(row["session"]).partition(" - ")[0]
        elif row.get("client"):
            filters["client"] = str(row["client"]).rpartition(":")[0] or row["client"]
        else:
            self.notice = "it leads to nothing"
            return
        self._go(Place(view, view.sort, filters))

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

    # ------------------------------------------------------------------ typing

    def _type(self, key: str) -> None:
        assert self.typing is not None
        if key in _ENTER:
            self._typed(self.typing)
        elif key in (ESCAPE, "\x03"):
            if self.refused is not None:
                self.pane, self.notice = None, "nothing was done"
            self.typing, self.secret, self.refused = None, False, None
        elif key in _BACK:
            self.typing = self.typing[:-1]
        elif key == "\x15":
            self.typing = ""
        elif len(key) == 1 and key.isprintable() and len(self.typing) < 200:
            self.typing += key

    def _typed(self, line: str) -> None:
        if self.secret:
            self.typing, self.secret = None, False
            if token := line.strip():
                self.token, self.todo = token, self.refused
            self.refused = None
            return
        try:
            filters = filtering.read(line)
        except ValueError as error:
            self.notice = str(error)
            return
        self.typing = None
        self._go(self.place._replace(filters=filters))

    # ------------------------------------------------------------------ doing

    def _act(self, key: str, rows: Sequence[Row]) -> None:
        command = doing.COMMANDS[key]
        if command not in doing.commands(self.view.name).values():
            self.notice = f"{command}: not for {self.view.title.lower()}"
            return
        try:
            self.ask(Todo("preview", doing.act_on(command, self.view.name, rows)))
        except ValueError as error:
            self.notice = str(error)

    def ask(self, todo: Todo) -> None:
        """Have something asked of the proxy."""
        waiting = "Looking what that means …" if todo.stage == "preview" else "It is being done …"
        self.todo = todo
        self.pane = Pane(todo.act.title, lambda _: [waiting], waits_for=todo)

    def previewed(self, todo: Todo, preview: Preview) -> None:
        """Show what would be done, and ask; unless nobody wants to know any more."""
        if self.pane is None or self.pane.waits_for is not todo:
            return
        act, question = preview.act, preview.question
        if self.seen is not None and self.seen.summary.get("kill") == "off":
            act, question = None, "It is off: the proxy has no admin.token."
        self.pane = Pane(todo.act.title, preview.text, question=question, act=act)

    def done(self, todo: Todo, text: Text) -> None:
        """Show what was done."""
        self.selection.marked = {}
        self.pane = Pane(todo.act.title, text)

    def failed(self, todo: Todo, why: str, *, token: bool) -> None:
        """Say what came in between; where it was the token, ask for another."""
        waiting = self.pane is not None and self.pane.waits_for is todo
        if todo.stage == "preview" and not waiting:
            return
        if token and waiting:
            self.refused, self.typing, self.secret = todo, "", True
            self.notice = why.partition(":")[0]
            return
        self.pane = Pane(todo.act.title, lambda _: [why])


def look(seen: Row, groups: Row, idlest: Row, incidents: Row, listed: Row, view: View) -> Seen:
    """One look's documents put together."""
    return Seen(
        seen,
        listed[view.name],
        listed.get("matched", len(listed[view.name])),
        attention(seen, groups["groups"], idlest["transactions"], incidents["incidents"]),
    )
