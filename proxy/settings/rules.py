"""The rules as settings: one table each, made from the dataclass that the rule declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)

import policies
from proxy.conversation.rule import Mode, Rule, Rules
from proxy.errors import ConfigError
from proxy.settings.loading import about, doc_of, load_rule, make_rule, measured, name_of

ModeName = Literal["enforce", "report", "off"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _written(value: Any) -> Any:  # noqa: ANN401 - whatever the file holds
    """Times of day and dates as texts: pages and other processes have no others."""
    if isinstance(value, dict):
        return {name: _written(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_written(one) for one in value]
    return value.isoformat() if isinstance(value, date | time) else value


class CustomRule(_Table):
    """A rule of one's own: ``rule`` is ``module:Class``, ``settings`` are those it declares."""

    rule: Annotated[str, Field(min_length=3)]
    mode: ModeName = "enforce"
    on_error: Literal["refuse", "pass"] = "refuse"
    settings: Annotated[dict[str, Any], AfterValidator(_written)] = {}


def _table(rule: type[Rule]) -> type[BaseModel]:
    return _model(rule.__name__, rule.__doc__, rule.Settings, mode=(ModeName, "enforce"))


def _model(name: str, doc: str | None, shape: type[Any], **more: Any) -> type[BaseModel]:  # noqa: ANN401
    """What checks the fields of the dataclass ``shape``, and ``more`` of them before those."""
    kinds = get_type_hints(shape)
    declared: dict[str, Any] = {
        one.name: (_positive(one.name, kinds[one.name]), one.default) for one in fields(shape)
    }
    made: type[BaseModel] = create_model(name, __base__=_Table, __doc__=doc, **more, **declared)
    return made


def _positive(name: str, kind: Any) -> Any:  # noqa: ANN401 - a type or an annotation of one
    """Every number that a rule takes is a bound of some kind; 0 is for none. A list of dataclasses
    is one of tables."""
    entry = _entry(kind)
    if entry is not None:
        return tuple[_model(entry.__name__, entry.__doc__, entry), ...]  # type: ignore[misc]
    number = next((one for one in (int, float) if kind in (one, one | None)), None)
    if number is None:
        return kind
    bound: Any = Annotated[number, Field(ge=0, strict=number is int)]
    read = measured(name)
    if read is not None:
        bound = Annotated[bound, BeforeValidator(read)]
    return bound if kind is number else bound | None


def _entry(kind: Any) -> type[Any] | None:  # noqa: ANN401
    """The dataclass that a setting is a list of, if it is one."""
    first = next(iter(get_args(kind)), None) if get_origin(kind) is tuple else None
    return first if isinstance(first, type) and is_dataclass(first) else None


def settings_of(rule: type[Any], tables: Any) -> tuple[Mode, dict[str, Any]]:  # noqa: ANN401
    """A rule's mode and settings in ``tables`` (a RuleTables), as it takes them."""
    settings = getattr(tables, rule.name).model_dump()
    mode = Mode(settings.pop("mode"))
    for name, kind in get_type_hints(rule.Settings).items():
        entry = _entry(kind)
        if entry is not None:
            settings[name] = tuple(entry(**one) for one in settings[name])
    return mode, settings


_RULES: Final[tuple[type[Rule], ...]] = policies.RULES

#: As (type, default), for pydantic.
_TABLES: Final[dict[str, Any]] = {}
for _rule in _RULES:
    _made = _table(_rule)
    _TABLES[_rule.name] = (_made, _made())

#: The names of the rules that come with the proxy.
RULES: Final = tuple(_TABLES)

#: The table ``policies`` of the configuration, with one table for each rule.
RuleTables: Final[Any] = create_model(
    "RuleTables",
    __base__=_Table,
    **_TABLES,
    custom=(tuple[CustomRule, ...], ()),
)


def make_rules(tables: Any) -> Rules:  # noqa: ANN401 - a RuleTables
    """The rules as configured: those that come with the proxy in their order, then one's own.

    Raises:
        ConfigError: with every rule of one's own that cannot be had, or not with these settings.
    """
    rules: list[tuple[Rule, Mode]] = []
    for kind in _RULES:
        mode, settings = settings_of(kind, tables)
        rules.append((make_rule(kind, settings), mode))
    problems: list[str] = []
    lenient: list[Rule] = []
    for number, custom in enumerate(tables.custom):
        try:
            rule = load_rule(custom.rule, custom.settings)
            rules.append((rule, Mode(custom.mode)))
            if custom.on_error == "pass":
                lenient.append(rule)
        except ConfigError as error:
            problems += [_placed(number, text) for text in error.problems]
    if problems:
        raise ConfigError(problems)
    return Rules(rules, lenient)


def problems_of(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with the rules of one's own in a file whose other settings are wrong as well.

    What their tables themselves have wrong is said with the file's other problems.
    """
    problems: list[str] = []
    clusters = data.get("cluster")
    places = [("", data)]
    if isinstance(clusters, list):
        places += [(f"cluster[{number}].", one) for number, one in enumerate(clusters)]
    for path, place in places:
        tables = place.get("policies") if isinstance(place, dict) else None
        custom = tables.get("custom") if isinstance(tables, dict) else None
        for number, one in enumerate(custom if isinstance(custom, list) else ()):
            try:
                table = CustomRule.model_validate(one)
                load_rule(table.rule, table.settings)
            except ValidationError:
                continue
            except ConfigError as error:
                problems += [f"{path}{_placed(number, text)}" for text in error.problems]
    return problems


def _placed(number: int, text: str) -> str:
    """What is wrong with a rule of one's own, behind the path of what it is about."""
    between = "." if text.startswith("settings.") else ": "
    return f"policies.custom[{number}]{between}{text}"


def rule_rows(tables: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a RuleTables
    """Each rule with its mode and settings, and what it says of itself, for people."""
    rows: list[dict[str, Any]] = []
    for rule in _RULES:
        settings = getattr(tables, rule.name).model_dump()
        mode = settings.pop("mode")
        rows.append({"rule": rule.name, "name": rule.name, "mode": mode, "settings": settings})
        rows[-1]["about"] = about(rule)
    rows += [
        {
            "rule": one.rule,
            "name": name_of(one.rule),
            "mode": one.mode,
            "settings": dict(one.settings),
            "about": doc_of(one.rule),
        }
        for one in tables.custom
    ]
    return rows
