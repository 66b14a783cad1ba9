"""Rules of one's own: found by ``module:Class``, and made with settings that fit what they declare.

Settings are checked by type, as those of the rules that come with the proxy are: a text in the
place of a list would mean each of its letters, and refuse everybody.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, get_type_hints

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic import Field as Bound
from pydantic.errors import PydanticUserError

from proxy.errors import ConfigError
from proxy.settings import meant
from proxy.settings.fields import written
from proxy.settings.quantities import seconds, size
from proxy.settings.reading import shown, wanted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from proxy.conversation.rule import Rule

#: What docstrings mark code with.
_MARKUP: Final = re.compile(r"(?::\w+:)?`+([^`]*)`+")

#: Behind the name of a module that there is not.
_NOT_FOUND: Final = " where Python looks; PYTHONPATH may name its folder"

#: By the end of a setting's name, what else than a number it may be.
MEASURES: Final[dict[str, Callable[[Any], Any]]] = {"_seconds": seconds, "_bytes": size}


def measured(name: str) -> Callable[[Any], Any] | None:
    """What reads the texts that stand for the numbers of a setting of this name, if there are
    any."""
    return next((read for end, read in MEASURES.items() if name.endswith(end)), None)


def find_rule(path: str) -> type[Rule]:
    """The rule that ``module:Class`` names.

    Raises:
        ConfigError: it cannot be imported, or is no rule.
    """
    module_name, colon, class_name = path.partition(":")
    try:
        if not colon:
            raise ValueError("expected module:Class")
        found = getattr(import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        raise ConfigError([f"rule {path}: there is no module {error.name}{_NOT_FOUND}"]) from error
    except AttributeError as error:
        if error.name != class_name:
            raise ConfigError([f"rule {path}: {error}"]) from error
        hint = meant.asked(meant.closest(class_name, vars(error.obj)))
        what = f"the module {module_name} has no class {class_name}"
        raise ConfigError([f"rule {path}: {what}{hint}"]) from error
    except (ImportError, ValueError) as error:
        raise ConfigError([f"rule {path}: {error}"]) from error
    except (Exception, SystemExit) as error:
        raise ConfigError([_raised(path, error)]) from error
    _check_rule(found, path)
    rule: type[Rule] = found
    return rule


def load_rule(path: str, settings: Mapping[str, Any]) -> Rule:
    """The rule that ``module:Class`` names, made with ``settings``.

    Raises:
        ConfigError: it cannot be imported, is no rule, or does not take these settings; with
            everything that is wrong with them, each as ``settings.name: what is wrong``.
    """
    return built(path, settings)


def built(rule: type[Rule] | str, settings: Mapping[str, Any]) -> Rule:
    """As :func:`load_rule`, of a class that may be at hand."""
    if isinstance(rule, str):
        found, path = find_rule(rule), rule
    else:
        found, path = rule, getattr(rule, "__qualname__", repr(rule))
        _check_rule(found, path)
    return make_rule(found, fitting(found, settings, path), path)


def name_of(path: str) -> str:
    """What the rule ``module:Class``, which was loaded, is called in metrics and the audit log."""
    module, _, name = path.partition(":")
    return str(getattr(getattr(sys.modules.get(module), name, None), "name", path))


def doc_of(path: str) -> str:
    """What such a rule says of itself, in a line; "" for nothing."""
    module, _, name = path.partition(":")
    return about(getattr(sys.modules.get(module), name, None))


def about(rule: object) -> str:
    """A docstring as a line of plain text; "" where there is none."""
    return _MARKUP.sub(r"\1", " ".join((getattr(rule, "__doc__", None) or "").split()))


def make_rule(rule: type[Rule], settings: Mapping[str, Any], path: str = "") -> Rule:
    """``rule`` made with ``settings`` that fit; ``path`` is for the text of a ConfigError."""
    path = path or rule.name
    try:
        made: Rule = rule(rule.Settings(**settings))  # type: ignore[call-arg]
    except (TypeError, ValueError) as error:
        raise ConfigError([f"rule {path}: {error}"]) from error
    except (Exception, SystemExit) as error:
        raise ConfigError([_raised(path, error)]) from error
    return made


def fitting(rule: type[Rule], settings: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """``settings`` as the rule declares them: lists as tuples, texts such as "5m" as numbers.

    Raises:
        ConfigError: with everything that is unknown, missing or of another type.
    """
    path = path or rule.name
    declared = {one.name: one for one in fields(rule.Settings) if one.init}
    try:
        kinds = get_type_hints(rule.Settings, include_extras=True)
    except Exception as error:
        # Mostly a name that is imported for type checkers alone.
        raise ConfigError([f"rule {path}: the types of Settings: {error}"]) from error
    problems = [
        f"settings.{name}: unknown setting{meant.asked(meant.closest(name, declared))}"
        for name in settings
        if name not in declared
    ]
    made: dict[str, Any] = {}
    for name, one in declared.items():
        if name not in settings:
            if one.default is MISSING and one.default_factory is MISSING:
                problems.append(f"settings.{name}: is needed")
            continue
        try:
            made[name] = _fitting(one, kinds[name], settings[name])
        except ValidationError as error:
            problems += [_said(name, problem) for problem in error.errors()]
        except PydanticUserError as error:
            text = str(error).partition("\n")[0]
            problems.append(f"rule {path}: the type of {name} cannot be checked: {text}")
    if problems:
        raise ConfigError(problems)
    return made


def _check_rule(found: Any, path: str) -> None:  # noqa: ANN401 - whatever has that name
    shape = getattr(found, "Settings", None)
    named = isinstance(getattr(found, "name", None), str)
    if not (isinstance(found, type) and named and hasattr(found, "refuse")):
        raise ConfigError([f"rule {path}: not a rule: it needs a name and a method refuse"])
    if not (isinstance(shape, type) and is_dataclass(shape)):
        raise ConfigError([f"rule {path}: Settings is not a dataclass"])
    judges = getattr(found, "judges", "sessions")
    if judges not in ("sessions", "all"):
        raise ConfigError([f'rule {path}: judges should be "all" or "sessions", not {judges!r}'])


def _fitting(one: Field[Any], kind: Any, value: Any) -> Any:  # noqa: ANN401 - of any type
    """The value as one of this type.

    As JSON is, strictly: a list may stand for a tuple or a set and a text for a path, but no text
    for a number and no number for a truth.
    """
    read = measured(one.name) if kind in (int, float) else None
    if kind is float:
        # What is compared with no number is never reached.
        kind = Annotated[float, Bound(allow_inf_nan=False)]
    if read is not None:
        kind = Annotated[kind, BeforeValidator(read)]
    adapter = TypeAdapter[Any](kind)
    try:
        data = json.dumps(value)
    except (TypeError, ValueError):
        # It does not come from a file.
        return adapter.validate_python(value, strict=True)
    return adapter.validate_json(data, strict=True)


def _said(name: str, problem: ErrorDetails) -> str:
    path = written(("settings", name, *problem["loc"]))
    if problem["type"] == "value_error":
        return f"{path}: {problem['ctx']['error']}"
    if problem["type"] == "missing":
        return f"{path}: is needed"
    return f"{path}: {wanted(problem)}, not {shown(problem['input'])}"


def _raised(path: str, error: BaseException) -> str:
    # What somebody else's code raises must not end a proxy that only reads its settings again.
    return f"rule {path}: {type(error).__name__}: {error}"
