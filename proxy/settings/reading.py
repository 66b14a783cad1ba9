"""Reading settings: layers in, a model or every problem out, each with where it stands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from proxy.errors import ConfigError
from proxy.settings import meant
from proxy.settings.fields import (
    Path,
    choices,
    field_at,
    is_many,
    kinds,
    of_text,
    table_at,
    written,
)
from proxy.settings.kinds import SeveralError
from proxy.settings.layers import Layer, Origin, laid, merged, put
from proxy.settings.lines import lines

if TYPE_CHECKING:
    import pathlib

    from pydantic_core import ErrorDetails

Model = TypeVar("Model", bound=BaseModel)

#: What a value should be, by the kind of error.
_SHOULD: Final = {
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dict_type": "a table",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dataclass_type": "a table",
    "path_type": "a path",
}

#: Bytes of a file. What is longer is no such file, or has no end, as /dev/zero.
_LONGEST: Final = 16 << 20

_WHERE: Final = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True)
class Read(Generic[Model]):
    """Settings, and the layers that they are from, the highest first."""

    settings: Model
    layers: Sequence[Layer]

    def origin(self, path: Path) -> Origin:
        """Where the value of the setting at ``path`` is from."""
        return _origin(self.layers, path)

    def located(self, problem: str) -> str:
        """A problem that begins with the path of a setting, behind where that is from."""
        return located(self.layers, problem)


def located(layers: Sequence[Layer], problem: str) -> str:
    """As :meth:`Read.located`, of layers that may be no settings."""
    named, _, what = problem.partition(": ")
    kind, where = _origin(layers, _named(layers, named))
    if not where:
        return problem
    # A flag or a variable is a setting's other name.
    return f"{where}: {problem if kind == 'file' else what}"


def _named(layers: Sequence[Layer], name: str) -> Path:
    """The path that is written so, if somebody gives that setting; else of nothing."""
    paths = (path for layer in layers for path in layer.where if written(path) == name)
    return next(paths, ())


def _origin(layers: Sequence[Layer], path: Path) -> Origin:
    found = (origin for layer in layers if (origin := layer.origin(path)) is not None)
    return next(found, Origin("default"))


def read(model: type[Model], layers: Sequence[Layer], folder: pathlib.Path) -> Read[Model]:
    """A ``model`` of ``layers``, the highest first; relative paths start at ``folder``.

    Raises:
        ConfigError: with every problem found, each as ``where: path.to.setting: what is wrong``.
    """
    layers = laid(layers)
    problems = [problem for layer in layers for problem in layer.problems]
    found: list[tuple[int, str]] = []
    try:
        made = model.model_validate(merged(layers), context={"folder": folder})
    except ValidationError as error:
        unread = any(layer.kind == "file" and layer.problems for layer in layers)
        errors = error.errors()
        for problem in errors:
            if _for_lack_of_those(problem, errors):
                continue
            path = tuple(part for part in problem["loc"])
            # What an unreadable file may have held is not missed.
            at_all = _origin(layers, path).kind != "default" and table_at(model, path) is None
            if at_all or not unread:
                found += [_said(model, layers, path, text) for text in _texts(model, problem)]
    # From the top of the file to its end, behind what stands nowhere in it.
    problems += [text for _, text in sorted(found, key=itemgetter(0))]
    if problems:
        raise ConfigError(problems)
    return Read(made, layers)


def _for_lack_of_those(problem: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only because some that it has are wrong, which is said."""
    path = problem["loc"]
    return problem["type"] == "too_short" and any(
        one["loc"][: len(path)] == path and len(one["loc"]) > len(path) for one in errors
    )


def of_file(path: pathlib.Path) -> Layer:
    """The layer that a TOML file is; what is wrong with it as a whole is among its problems."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST + 1)
    except OSError as error:
        return Layer("file", problems=(f"{path}: {error.strerror}",))
    except ValueError as error:
        # A NUL in its name.
        return Layer("file", problems=(f"{str(path)!r}: {error}",))
    if len(raw) > _LONGEST:
        what = f"is no configuration file: more than {_LONGEST >> 20} MiB"
        return Layer("file", problems=(f"{path}: {what}",))
    try:
        # Some editors begin a file with a mark of its encoding.
        text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return Layer("file", problems=(f"{path}: is UTF-16: save it as UTF-8",))
        line = 1 + raw.count(b"\n", 0, error.start)
        what = f"not UTF-8 (byte 0x{raw[error.start]:02x}): save it as UTF-8"
        return Layer("file", problems=(f"{path}:{line}: {what}",))
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Layer("file", problems=(_syntax(path, text, str(error)),))
    except RecursionError:
        return Layer("file", problems=(f"{path}: nested too deeply",))
    return Layer("file", data, {where: f"{path}:{line}" for where, line in lines(text).items()})


def _syntax(path: pathlib.Path, text: str, error: str) -> str:
    found = _WHERE.fullmatch(error)
    if found is None:
        return f"{path}: {error}"
    said, line, column = found.groups()
    if line is None:
        where = "" if said.startswith("Cannot") else " at the end of the file"
        return f"{path}:{1 + text.rstrip().count(chr(10))}: {said}{where}"
    return f"{path}:{line}:{column}: {said}"


def _said(
    model: type[BaseModel], layers: Sequence[Layer], path: Path, text: str
) -> tuple[int, str]:
    """A problem with what it is about: the flag, the variable, or the line and the setting.

    Before it the number of the line, for the order; 0 where there is none.
    """
    # What is between settings of several tables is said where the first that it names is.
    place = path or _named(layers, text.partition(" ")[0])
    while place and _origin(layers, place).kind == "default":
        place = place[:-1]  # What is missing has no place of its own.
    if place and table_at(model, place) is not None:
        # What is in a table may be from several places; the file shows most.
        layers = sorted(layers, key=lambda layer: layer.kind != "file")
    kind, where = _origin(layers, place)
    line = int(where.rpartition(":")[2]) if kind == "file" and where else 0
    exact = any(layer.kind != "file" and layer.where.get(path) == where for layer in layers)
    parts = [where, *([] if where and exact else _by_cluster(layers, path)), text]
    return line, ": ".join(filter(None, parts))


def _texts(model: type[BaseModel], problem: ErrorDetails) -> list[str]:
    error = problem.get("ctx", {}).get("error")
    return error.texts if isinstance(error, SeveralError) else [_described(model, problem)]


def _by_cluster(layers: Sequence[Layer], path: Path) -> list[str]:
    """The setting, and before it the name of its cluster where there are several."""
    if path[:1] == ("cluster",) and len(path) > 1 and isinstance(path[1], int):
        given = merged(layers)["cluster"][path[1]]
        name = given.get("name") if isinstance(given, dict) else None
        if isinstance(name, str) and path[2:] != ("name",):
            return [f"cluster {name}", written(path[2:])]
    return [written(path)]


def _described(model: type[BaseModel], problem: ErrorDetails) -> str:
    kind, path, given = problem["type"], problem["loc"], problem["input"]
    if kind == "extra_forbidden":
        what = "unknown table" if isinstance(given, dict) else "unknown setting"
        return what + meant.asked(meant.setting(model, path))
    if kind == "value_error":
        return str(problem["ctx"]["error"])
    if kind == "missing":
        return "is needed"
    field = field_at(model, path)
    what = wanted(problem)
    if kind == "tuple_type" and field is not None and is_many(field):
        what = f"should be a list of tables, [[{written(path)}]]"
    if field is not None and SecretStr in kinds(field.annotation):
        return what
    text = f"{what}, not {shown(given)}"
    if isinstance(given, str) and field is not None:
        near = meant.closest(given, choices(field.annotation))
        text += meant.asked(near and f'"{near}"')
    return text


def wanted(problem: ErrorDetails) -> str:
    """What a value of the wrong kind should be instead."""
    should = _SHOULD.get(problem["type"])
    return problem["msg"].removeprefix("Input ") if should is None else f"should be {should}"


def shown(given: object) -> str:
    """As it stands in the file: true and not True."""
    if isinstance(given, list | dict):
        return "a table" if isinstance(given, dict) else "a list"
    if isinstance(given, bool):
        return str(given).lower()
    return str(given) if isinstance(given, date | time) else repr(given)


def of_flags(model: type[BaseModel], given: Mapping[str, tuple[Path, str]]) -> Layer:
    """The layer of ``given``: by the flag, the setting's path and the text behind the flag."""
    data: dict[str, Any] = {}
    where: dict[Path, str] = {}
    problems: list[str] = []
    for flag, (path, text) in given.items():
        field = field_at(model, path)
        assert field is not None
        try:
            put(data, path, of_text(text, field))
            where[path] = flag
        except ValueError as error:
            problems.append(f"{flag}: {error}")
    return Layer("flag", data, where, tuple(problems))
