"""What is in force and where it is from, for people and programs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import BaseModel, SecretStr

from proxy.settings.fields import written

if TYPE_CHECKING:
    from proxy.settings.fields import Path
    from proxy.settings.layers import Kind
    from proxy.settings.reading import Read

#: What is shown in place of a secret.
MASK: Final = "********"

#: Settings that people give to their own rules are secrets where they are called so.
_SECRET: Final = re.compile(r"(?i)token|secret|passw|credential|api_?key")


class Row(NamedTuple):
    """One setting: its value as a file would hold it, and where that is from.

    ``source`` is "flag", "environment", "secret", "file" or "default"; ``where`` the flag, the
    variable, the secret's file, or ``file:line``.
    """

    setting: str
    value: Any
    source: Kind
    where: str

    def text(self) -> str:
        """The value as the file would hold it, nearly."""
        return "none" if self.value is None else json.dumps(self.value, ensure_ascii=False)

    def said(self) -> str:
        """Where it is from, in a word or two."""
        return self.where or self.source


def rows(read: Read[Any]) -> list[Row]:
    """Every setting, in the order of the tables."""
    return [
        Row(written(path), value, *read.origin(path)) for path, value in _values(read.settings, ())
    ]


def _values(table: BaseModel, above: Path) -> Iterator[tuple[Path, Any]]:
    for name in type(table).model_fields:
        path, value = (*above, name), getattr(table, name)
        if isinstance(value, BaseModel):
            yield from _values(value, path)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            for number, one in enumerate(value):
                yield from _values(one, (*path, number))
        else:
            yield path, _plain(value)


def _plain(value: Any) -> Any:  # noqa: ANN401 - whatever a setting can be
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {
            key: MASK if _SECRET.search(str(key)) else _plain(one) for key, one in value.items()
        }
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
