"""What somebody may have meant who wrote a name that there is not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from proxy.settings.fields import all_paths, table_at, written

if TYPE_CHECKING:
    from pydantic import BaseModel

    from proxy.settings.fields import Path

#: Settings of one name in several tables that are named.
_MOST_NAMED: Final = 3

#: Before the capitals of camelCase.
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The one of ``known`` that ``word`` is most like; None if it is like none."""
    # A few milliseconds, needed where something is wrong only.
    from difflib import get_close_matches

    by_plain = {_plain(one): one for one in known}
    found = get_close_matches(_plain(word), by_plain, n=1, cutoff=likeness)
    return by_plain[found[0]] if found else None


def _plain(name: str) -> str:
    return _HUMP.sub("_", name).replace("-", "_").lower()


def asked(name: str | None) -> str:
    """What is put behind the text of a problem."""
    return f"; did you mean {name}?" if name else ""


def setting(model: type[BaseModel], path: Path) -> str | None:
    """The setting or table that the unknown one at ``path`` may have been meant for."""
    name = str(path[-1])
    table = table_at(model, path[:-1])
    beside = [] if table is None else list(table.model_fields)
    if near := closest(name, beside, 0.75):
        return near
    plain = _plain(name)
    elsewhere = [one for one in all_paths(model) if one[-1] == plain and len(one) > 1]
    if 0 < len(elsewhere) <= _MOST_NAMED:
        return " or ".join(", ".join(map(written, elsewhere)).rsplit(", ", 1))
    return closest(name, beside)
