"""Texts that came from elsewhere, made fit for a terminal.

Clients choose their names: one that holds an escape sequence could clear the operator's screen
or write what is not there. What is no printable character is shown by its number.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from textwrap import wrap
from unicodedata import category, east_asian_width

from proxy import texts


def printable(text: object) -> str:
    """``text`` with everything escaped that is not a printable character or a space."""
    return texts.printable(str(text))


def counted(count: int, what: str) -> str:
    """So many of something, which has a plural in ``s``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def screen_width() -> int | None:
    """How wide a table may be; None where nobody looks."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def warn(problems: Sequence[object]) -> bool:
    """Say what is wrong, if anything is, beside what goes to stdout."""
    for problem in problems:
        print(f"mongo-session-proxy: {printable(problem)}", file=sys.stderr)
    return bool(problems)


def width(text: str) -> int:
    """How many cells a printable text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def _cells(character: str) -> int:
    if category(character) in ("Mn", "Me"):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def fitted(text: str, cells: int, *, right: bool = False) -> str:
    """A printable text in exactly so many cells: padded, or cut with a ``…``."""
    taken = width(text)
    if taken > cells:
        text = "".join(_cut(text, cells - 1)) + "…" if cells else ""
        taken = width(text)
    padding = " " * (cells - taken)
    return padding + text if right else text + padding


def folded(text: str, cells: int, indent: int) -> list[str]:
    """A printable text on as many lines as it takes, each moved in; none if it is empty."""
    return [
        " " * indent + line for line in wrap(text, max(20, cells - indent), break_on_hyphens=False)
    ]


def _cut(text: str, cells: int) -> Iterator[str]:
    for character in text:
        cells -= _cells(character)
        if cells < 0:
            return
        yield character


def span(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for unit, below, length in (("m", "s", 60), ("h", "m", 3_600), ("d", "h", 86_400)):
        if whole < length * (60 if unit == "m" else 24) or unit == "d":
            smaller = whole % length // {"s": 1, "m": 60, "h": 3_600}[below]
            return f"{whole // length} {unit} {smaller} {below}"
    raise AssertionError


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_000
    return f"{count:.1f} TB"
