"""Reading a table of settings: TOML and what lies over it in, a model or every problem out."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from proxy.errors import ConfigError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)


def read(model: type[Model], path: str | Path | None, overrides: Mapping[str, Any]) -> Model:
    """A ``model`` of the TOML file at ``path``, with ``overrides`` laid over its tables.

    Raises:
        ConfigError: with every problem found, each as ``path.to.setting: what is wrong``.
    """
    data: dict[str, Any] = {}
    folder = Path()
    if path is not None:
        folder = Path(path).parent
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError([f"{path}: {error.strerror}"]) from error
        except ValueError as error:
            raise ConfigError([f"{path}: {error}"]) from error
    try:
        return model.model_validate(_merged(data, overrides), context={"folder": folder})
    except ValidationError as error:
        raise ConfigError([_describe(problem) for problem in error.errors()]) from error


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            value = _merged(below, value)
        merged[key] = value
    return merged


def _describe(problem: ErrorDetails) -> str:
    path = ""
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    path = path.lstrip(".")
    kind = problem["type"]
    if kind == "extra_forbidden":
        text = "unknown setting"
    elif kind == "value_error":
        text = str(problem["ctx"]["error"])
    elif kind == "missing":
        text = "is needed"
    else:
        given = problem["input"]
        # As it stands in the file: true and not True.
        shown = str(given).lower() if isinstance(given, bool) else repr(given)
        text = f"{problem['msg'].removeprefix('Input ')}, not {shown}"
    return f"{path}: {text}" if path else text
