"""Filters as one line of words: ``state=transaction application=shop* text``, by the names that the
endpoint's queries have and the web page's address."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from proxy.terminal.arguments import STATES, begun
from proxy.terminal.client import Trouble
from proxy.terminal.usage import asked

_WORD: Final = re.compile(r'(?:"[^"]*"|\S)+')
_QUOTED: Final = re.compile(r'"([^"]*)"')
_NAMED: Final = re.compile(r"([A-Za-z][A-Za-z_-]*)=(.*)", re.DOTALL)

_ANYWHERE: Final = ("text", "cluster", "application", "driver")
_SESSIONS: Final = ("owner", "client", "session", "state", "min_age", "min_idle")

#: By listing, what it can be narrowed by.
FILTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "sessions": (*_ANYWHERE, *_SESSIONS, "uid"),
    "groups": (*_ANYWHERE, "owner", "state"),
    "transactions": (*_ANYWHERE, *_SESSIONS, "uid", "upstream"),
    "cursors": (*_ANYWHERE, *_SESSIONS, "namespace", "upstream", "conn"),
    "connections": (*_ANYWHERE, "user", "client", "state", "upstream", "conn"),
    "namespaces": ("text", "cluster", "namespace", "kind"),
    "incidents": (*_ANYWHERE, "user", "client", "session", "rule"),
    "upstream": ("text", "cluster", "upstream", "role", "set"),
    "rules": ("text", "cluster", "rule", "mode"),
}
_ALL: Final = frozenset(name for names in FILTERS.values() for name in names)


def read(line: str) -> dict[str, str]:
    """The filters that a line is. What has no name is text that is looked for anywhere; quotes keep
    a value with spaces together.

    Raises:
        ValueError: there is no filter of a name.
    """
    filters: dict[str, str] = {}
    texts: list[str] = []
    for word in _WORD.findall(line):
        named = _NAMED.fullmatch(word)
        if named is None:
            texts.append(_QUOTED.sub(r"\1", word))
            continue
        name = named[1].lower().replace("-", "_")
        if name not in _ALL:
            raise ValueError(f"{named[1]}: no such filter{asked(name, sorted(_ALL))}")
        value = _QUOTED.sub(r"\1", named[2])
        filters[name] = begun(value) if name == "session" else value
    if texts:
        filters["text"] = " ".join(texts)
    return filters


def written(filters: Mapping[str, str]) -> str:
    """The line that is read as these filters."""
    words = [f"{name}={_quoted(value)}" for name, value in filters.items() if name != "text"]
    if text := filters.get("text"):
        plain = " ".join(text.split()) == text and "=" not in text
        words.append(text if plain else f'"{text}"')
    return " ".join(words)


def _quoted(value: str) -> str:
    return value if value and not any(map(str.isspace, value)) else f'"{value}"'


def fitting(filters: Mapping[str, str], view: str) -> dict[str, str]:
    """The filters that another listing has as well: who is an owner of sessions is a user of
    connections."""
    known, kept = FILTERS[view], {}
    for name, value in filters.items():
        named = name
        if name in ("user", "owner") and name not in known:
            named = "owner" if name == "user" else "user"
        states = {one.strip() for one in value.split(",")}
        if named in known and (name != "state" or states <= set(STATES[view])):
            kept[named] = value
    return kept


def matching(rows: Sequence[Mapping[str, Any]], filters: Mapping[str, str]) -> list[Any]:
    """Rows of a listing that the endpoint does not narrow itself."""
    return [row for row in rows if all(_matches(row, *one) for one in filters.items())]


def _matches(row: Mapping[str, Any], name: str, wanted: str) -> bool:
    # An incident has reasons before the latest one.
    said = [row, *row.get("before", ())]
    if name == "text":
        texts = (
            str(one) for reason in said for one in reason.values() if isinstance(one, str | int)
        )
        return any(wanted.lower() in text.lower() for text in texts)
    values = [str(one.get(name) or "") for one in (said if name == "session" else [row])]
    if name == "session":
        # Behind an incident's stands its owner's digest.
        values = [value.partition(" - ")[0] for value in values]
    pattern = ".*".join(map(re.escape, wanted.split("*")))
    matches = re.compile(pattern, re.DOTALL | re.IGNORECASE).fullmatch
    return any(matches(value) is not None for value in values)


def has_cluster(summary: Mapping[str, Any], wanted: str) -> None:
    """Make sure that a proxy's ``summary`` knows a cluster: without rows one may be mistyped.

    Raises:
        Trouble: it does not; the text says which there are.
    """
    names = [str(one.get("cluster", "")) for one in summary.get("clusters", ())]
    if names and not matching([{"cluster": name} for name in names], {"cluster": wanted}):
        hint = asked(wanted, names)
        raise Trouble(f"--cluster: no such cluster; there are {', '.join(names)}{hint}", 2)
