"""Settings of the environment: ``MSP_LISTEN__ADDRESS`` is ``listen.address``.

Lists and tables are JSON. ``MSP_…_FILE`` names a file that holds the value, and a folder of
secrets holds files that are called as the variables are.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.settings.fields import Path, all_paths, field_at, is_many, of_text
from proxy.settings.layers import Layer, put
from proxy.settings.meant import asked, closest

if TYPE_CHECKING:
    import os

    from pydantic import BaseModel

PREFIX: Final = "MSP_"

#: Variables that are no settings: the configuration file, and the folder of secrets.
CONFIG: Final = "MSP_CONFIG"
SECRETS: Final = "MSP_SECRETS_DIR"
#: Where systemd puts what a unit's LoadCredential= names: looked at where there is no other.
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"

#: What Kubernetes gives each container of a Service that is called msp or msp-something, beside
#: the service's _SERVICE_HOST.
_OF_A_SERVICE: Final = re.compile(
    r"(MSP(?:_[A-Z0-9]+)*?)_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def variable(path: Path) -> str:
    """The variable of a setting."""
    return PREFIX + "__".join(map(str, path)).upper()


def of_environment(model: type[BaseModel], environment: Mapping[str, str]) -> Layer:
    """The layer that ``environment`` is; what is wrong with it is among its problems."""
    given = {
        name: text
        for name, text in sorted(environment.items())
        if name.startswith(PREFIX)
        and name not in (CONFIG, SECRETS)
        and not _is_of_a_service(name, environment)
    }
    known = {variable(path): path for path in all_paths(model)}
    return _Reading(model, known).layer("environment", given, {})


def _is_of_a_service(name: str, environment: Mapping[str, str]) -> bool:
    found = _OF_A_SERVICE.fullmatch(name)
    return found is not None and f"{found[1]}_SERVICE_HOST" in environment


def of_secrets(model: type[BaseModel], folder: str | os.PathLike[str]) -> Layer:
    """The layer that the files in ``folder`` are, those whose names are variables."""
    given: dict[str, str] = {}
    where: dict[str, str] = {}
    problems: list[str] = []
    try:
        for file in sorted(pathlib.Path(folder).iterdir()):
            if file.name.startswith(PREFIX) and file.is_file():
                where[file.name] = str(file)
                try:
                    given[file.name] = contents(file)
                except ValueError as error:
                    problems.append(str(error))
    except OSError as error:
        problems.append(f"{folder}: {error.strerror}")
    known = {variable(path): path for path in all_paths(model)}
    made = _Reading(model, known).layer("secret", given, where)
    return Layer("secret", made.data, made.where, (*problems, *made.problems))


def files_of(model: type[BaseModel], environment: Mapping[str, str]) -> Iterator[pathlib.Path]:
    """The files, and the folder, in which ``environment`` says that settings stand."""
    known = {variable(path) for path in all_paths(model)}
    for name, text in environment.items():
        if name.endswith("_FILE") and name not in known and name.removesuffix("_FILE") in known:
            yield pathlib.Path(text)
    if folder := environment.get(SECRETS) or environment.get(CREDENTIALS):
        # Itself, too: others may appear there.
        yield pathlib.Path(folder)
        with contextlib.suppress(OSError):
            yield from (
                file for file in pathlib.Path(folder).iterdir() if file.name.startswith(PREFIX)
            )


def contents(file: pathlib.Path) -> str:
    """What a file holds, without the end of its last line.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8") from error


class _Reading:
    def __init__(self, model: type[BaseModel], known: Mapping[str, Path]) -> None:
        self._model = model
        self._known = known

    def layer(self, kind: Any, given: Mapping[str, str], where: Mapping[str, str]) -> Layer:  # noqa: ANN401
        data: dict[str, Any] = {}
        places: dict[Path, str] = {}
        problems: list[str] = []
        # Tables before what is in them.
        for name, text in sorted(given.items(), key=lambda one: one[0].count("__")):
            place = where.get(name, name)
            try:
                for path, value in self._setting(name, text):
                    put(data, path, value)
                    places[path] = place
            except ValueError as error:
                problems.append(f"{place}: {error}")
        return Layer(kind, data, places, tuple(problems))

    def _setting(self, name: str, text: str) -> Iterator[tuple[Path, Any]]:
        path = self._known.get(name)
        if path is None and name.endswith("_FILE"):
            path = self._known.get(name.removesuffix("_FILE"))
            if path is not None:
                text = contents(pathlib.Path(text))
        if path is None:
            for known, above in self._known.items():
                field = field_at(self._model, above)
                if field is not None and is_many(field) and name.startswith(f"{known}__"):
                    raise ValueError(f"no such setting: {known} takes them all, as JSON")
            near = closest(name, [*self._known, CONFIG, SECRETS], 0.82)
            raise ValueError(f"no such setting{asked(near and near.upper())}")
        field = field_at(self._model, path)
        assert field is not None
        yield path, of_text(text, field)
