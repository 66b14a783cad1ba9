"""The settings that there are, found by their paths, and what each can be.

A path is the names of tables and, behind them, of the setting; numbers in it count the tables of a
list: ``("upstream", "members", 0, "listen")``.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Iterator
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from proxy.texts import printable

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Path = tuple[str | int, ...]

_JSON: Final[dict[type, str]] = {
    list: "an array",
    dict: "an object",
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "a boolean",
    type(None): "null",
}

#: A key that TOML has without quotes.
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")

#: What JSON and TOML both take for a number.
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def written(path: Path) -> str:
    """As people write it: ``upstream.members[0].listen``; in quotes what TOML has in quotes."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}"
    return text.removeprefix(".")


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else printable(json.dumps(name, ensure_ascii=False))


def table_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    """The table inside ``X``, ``X | None`` or ``tuple[X, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is None:
        return None
    return next(filter(None, map(table_in, get_args(annotation))), None)


def table_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The table at ``path``; None where there is none."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        below = None if field is None else table_in(field.annotation)
        if below is None:
            return None
        model = below
    return model


def field_at(model: type[BaseModel], path: Path) -> FieldInfo | None:
    """The setting, or the field that holds the table, at ``path``; None where there is none."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    table = table_at(model, path[:-1]) if path else None
    return None if table is None else table.model_fields.get(str(path[-1]))


def is_many(field: FieldInfo) -> bool:
    """Whether it holds a list of tables."""
    return table_in(field.annotation) is not None and tuple in kinds(field.annotation)


def all_paths(model: type[BaseModel], above: Path = ()) -> Iterator[Path]:
    """Every setting and table, without what stands inside lists."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path
        below = table_in(field.annotation)
        if below is not None and not is_many(field):
            yield from all_paths(below, path)


def kinds(annotation: Any) -> set[Any]:  # noqa: ANN401 - any annotation
    """The types that a value can have: of ``int | Literal["auto"]`` int and str."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return kinds(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*map(kinds, get_args(annotation)))
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    return {annotation if origin is None else origin}


def choices(annotation: Any) -> list[str]:  # noqa: ANN401 - any annotation
    """The words that a value can be, where they are all listed."""
    if get_origin(annotation) is Literal:
        return [value for value in get_args(annotation) if isinstance(value, str)]
    return [word for below in get_args(annotation) for word in choices(below)]


def of_text(text: str, field: FieldInfo) -> Any:  # noqa: ANN401 - as the file would hold it
    """What ``text``, of a flag or of the environment, would be in the file.

    Raises:
        ValueError: lists and tables have to be JSON.
    """
    possible = kinds(field.annotation)
    if table_in(field.annotation) is not None or possible & {tuple, list, dict}:
        shape = list if possible & {tuple, list} else dict
        # The text itself is not repeated: there may be a secret in it.
        wanted = f"should be a JSON {'array' if shape is list else 'object'}"
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{wanted}: {error}") from error
        if not isinstance(value, shape):
            raise ValueError(f"{wanted}, not {_JSON[type(value)]}")
        return _from_here(value, field.annotation)
    if pathlib.Path in possible and text:
        return os.path.abspath(text)
    if bool in possible and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if possible & {int, float} and _NUMBER.fullmatch(text):
        return int(text) if text.lstrip("+-").isdigit() else float(text)
    return text


def _from_here(value: Any, annotation: Any) -> Any:  # noqa: ANN401 - as the file would hold it
    """With relative paths of files from the working directory, where no file stands around them."""
    table = table_in(annotation)
    if table is None:
        return value
    if isinstance(value, list):
        return [_from_here(one, annotation) for one in value]
    if not isinstance(value, dict):
        return value
    made = dict(value)
    for name, field in table.model_fields.items():
        one = made.get(name)
        if isinstance(one, str) and one and pathlib.Path in kinds(field.annotation):
            made[name] = os.path.abspath(one)
        elif one is not None:
            made[name] = _from_here(one, field.annotation)
    return made
