"""Where in a TOML file each setting stands: Python's own reader of TOML does not tell."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.settings.fields import Path

_KEY: Final = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|("(?:\\.|[^"\\\n])*"|'[^'\n]*'))[ \t]*""")
_STRING: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})'
    r"|'''.*?'''(?:'{0,2})"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")
#: Between two statements, and between the items of a list.
_BETWEEN: Final = re.compile(r"(?:[ \t\n]|#[^\n]*)*")


def lines(text: str) -> dict[Path, int]:
    """The line, from 1, of every key, table and item of a list, by its path.

    ``text`` has to be valid TOML. A table that is named more than once is where it is first.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.file()
    return scanner.found


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        #: How many tables a list has so far.
        self._lists: dict[Path, int] = {}
        self.found: dict[Path, int] = {}

    def file(self) -> None:
        table: Path = ()
        while self._past(_BETWEEN) < len(self._text):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._statement(table)

    def _past(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self._text, self._at)
        self._at = found.end() if found else self._at + 1
        return self._at

    def _note(self, path: Path) -> None:
        self.found.setdefault(path, 1 + bisect_right(self._ends, self._at))

    def _header(self) -> Path:
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        keys = self._keys()
        path: Path = ()
        for key in keys[:-1]:
            path = self._newest((*path, key))
            self._note(path)
        path = (*path, keys[-1])
        self._note(path)
        if many:
            self._lists[path] = self._lists.get(path, 0) + 1
        path = self._newest(path)
        self._note(path)
        self._at += 2 if many else 1
        return path

    def _newest(self, path: Path) -> Path:
        return (*path, self._lists[path] - 1) if path in self._lists else path

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while found := _KEY.match(self._text, self._at):
            bare, quoted = found.groups()
            keys.append(bare if quoted is None else tomllib.loads(f"key = {quoted}")["key"])
            self._at = found.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return keys

    def _statement(self, table: Path) -> None:
        """``key.key = value``"""
        begins = self._at
        path = table
        keys = self._keys()
        behind, self._at = self._at, begins
        for key in keys:
            path = (*path, key)
            self._note(path)
        self._at = behind + 1
        self._value(path)

    def _value(self, path: Path) -> None:
        self._past(_BETWEEN)
        if _STRING.match(self._text, self._at):
            self._past(_STRING)
        elif self._text.startswith("[", self._at):
            self._items(path, "]")
        elif self._text.startswith("{", self._at):
            self._items(path, "}")
        else:
            self._past(_SCALAR)

    def _items(self, path: Path, end: str) -> None:
        self._at += 1
        number = 0
        while self._past(_BETWEEN) < len(self._text) and self._text[self._at] != end:
            if self._text[self._at] == ",":
                self._at += 1
            elif end == "]":
                self._note((*path, number))
                self._value((*path, number))
                number += 1
            else:
                self._statement(path)
        self._at += 1
