"""Which row of a table is chosen and which are on the screen, while rows come and go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Row = Mapping[str, Any]
Key = tuple[object, ...]

#: By listing, what tells a row from others of the same proxy and cluster.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "sessions": ("session", "uid"),
    "groups": ("owner", "application", "driver", "driver_version"),
    "transactions": ("session", "uid", "child"),
    "cursors": ("session", "upstream", "cursor"),
    "connections": ("conn",),
    "namespaces": ("namespace", "kind"),
    "incidents": ("kind", "rule", "user", "application", "driver", "driver_version"),
    "upstream": ("upstream", "listener"),
    "rules": ("rule",),
}


def key_of(view: str, row: Row) -> Key:
    """What a row keeps while its numbers change."""
    return tuple(row.get(name) for name in ("proxy", "cluster", *_KEYS[view]))


@dataclass(slots=True)
class Selection:
    """The row ``at`` which one is, and the ``first`` that is on the screen. Once somebody has moved
    to a row that row stays chosen wherever it goes (``held``); ``marked`` are more of them."""

    at: int = 0
    first: int = 0
    held: Key | None = None
    marked: dict[Key, Row] = field(default_factory=dict)

    def follow(self, view: str, rows: Sequence[Row]) -> None:
        """Find the row again among those of now; where it is gone, its place counts."""
        keys = [key_of(view, row) for row in rows]
        if self.held is not None and self.held in keys:
            self.at = keys.index(self.held)
        self.at = max(0, min(self.at, len(rows) - 1))
        if self.held is not None:
            self.held = keys[self.at] if keys and self.at else None
        for key, row in zip(keys, rows, strict=True):
            if key in self.marked:
                self.marked[key] = row

    def move(self, to: int, view: str, rows: Sequence[Row]) -> None:
        """Choose another row. At the top it is whichever is first."""
        self.at = max(0, min(to, len(rows) - 1))
        self.held = key_of(view, rows[self.at]) if rows and self.at else None

    def mark(self, view: str, row: Row) -> None:
        """Mark a row, or take its mark away."""
        key = key_of(view, row)
        if self.marked.pop(key, None) is None:
            self.marked[key] = row

    def shown(self, count: int, room: int) -> range:
        """The rows that there is room for, the chosen one among them."""
        room = max(1, room)
        self.first = max(self.at - room + 1, min(self.first, self.at))
        self.first = max(0, min(self.first, count - room))
        return range(self.first, min(count, self.first + room))
