"""The rules as settings: one table each, made from the dataclass that the rule declares."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Final, Literal, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

import policies
from proxy.conversation.rule import Mode, Rule, Rules, load_rule, make_rule, name_of
from proxy.errors import ConfigError
from proxy.settings.quantities import seconds, size

#: What docstrings mark code with.
_MARKUP: Final = re.compile(r"(?::\w+:)?`+([^`]*)`+")

#: By the end of a setting's name, what else than a number it may be.
_MEASURES: Final[dict[str, Callable[[Any], Any]]] = {"_seconds": seconds, "_bytes": size}

ModeName = Literal["enforce", "report", "off"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CustomRule(_Table):
    """A rule of one's own: ``rule`` is ``module:Class``, ``settings`` are those it declares."""

    rule: Annotated[str, Field(min_length=3)]
    mode: ModeName = "enforce"
    settings: dict[str, Any] = {}


def _table(rule: type[Rule]) -> type[BaseModel]:
    kinds = get_type_hints(rule.Settings)
    declared: dict[str, Any] = {
        one.name: (_positive(one.name, kinds[one.name]), one.default)
        for one in fields(rule.Settings)
    }
    made: type[BaseModel] = create_model(
        rule.__name__, __base__=_Table, __doc__=rule.__doc__, mode=(ModeName, "enforce"), **declared
    )
    return made


def _positive(name: str, kind: Any) -> Any:  # noqa: ANN401 - a type or an annotation of one
    """Every number that a rule takes is a bound of some kind; 0 is for none."""
    if kind not in (int, float):
        return kind
    bound = Annotated[kind, Field(ge=0, strict=kind is int)]
    read = next((one for end, one in _MEASURES.items() if name.endswith(end)), None)
    return bound if read is None else Annotated[bound, BeforeValidator(read)]


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
    for rule in _RULES:
        settings = getattr(tables, rule.name).model_dump()
        mode = Mode(settings.pop("mode"))
        rules.append((make_rule(rule, settings), mode))
    problems: list[str] = []
    for number, custom in enumerate(tables.custom):
        try:
            rules.append((load_rule(custom.rule, _measured(custom.settings)), Mode(custom.mode)))
        except ConfigError as error:
            problems += [f"policies.custom[{number}]: {text}" for text in error.problems]
    if problems:
        raise ConfigError(problems)
    return Rules(rules)


def _measured(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With times and sizes as numbers, as the rules that come with the proxy get them."""
    made = dict(settings)
    for name, value in settings.items():
        read = next((one for end, one in _MEASURES.items() if name.endswith(end)), None)
        if read is not None and isinstance(value, str):
            # What is no time or size is the rule's to judge.
            with contextlib.suppress(ValueError):
                made[name] = read(value)
    return made


def rule_rows(tables: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a RuleTables
    """Each rule with its mode and settings, and what it says of itself, for people."""
    rows: list[dict[str, Any]] = []
    for rule in _RULES:
        settings = getattr(tables, rule.name).model_dump()
        about = _MARKUP.sub(r"\1", " ".join((rule.__doc__ or "").split()))
        mode = settings.pop("mode")
        rows.append({"rule": rule.name, "name": rule.name, "mode": mode, "settings": settings})
        rows[-1]["about"] = about
    rows += [
        {
            "rule": one.rule,
            "name": name_of(one.rule),
            "mode": one.mode,
            "settings": dict(one.settings),
            "about": "",
        }
        for one in tables.custom
    ]
    return rows
