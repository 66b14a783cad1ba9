"""The rules as settings: a table for each, made from what the rule declares."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date, time
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from policies import RULES
from proxy import cli
from proxy.conversation.rule import Context, Mode
from proxy.errors import CommandError, ConfigError
from proxy.settings.rules import RuleTables, make_rules, problems_of, rule_rows
from tests.policies.contexts import context

NUMBERS = [
    (rule.name, one.name)
    for rule in RULES
    for one in fields(rule.Settings)
    if type(one.default) in (int, float)
]


class Mine:
    """A rule of one's own."""

    name: ClassVar[str] = "mine"

    @dataclass(frozen=True)
    class Settings:
        limit: int = 3

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def refuse(self, context: Context) -> CommandError | None:
        return None


class Measured(Mine):
    """One that is given times and sizes."""


HERE = f"{__name__}:Mine"


def made(**tables: Any) -> list[tuple[str, Mode]]:
    rules = make_rules(RuleTables.model_validate(tables))
    return [(rule.name, mode) for rule, mode in rules._rules]


def test_every_rule_has_a_table_with_a_mode_and_what_it_declares():
    tables = RuleTables()
    for rule in RULES:
        table = getattr(tables, rule.name).model_dump()
        assert table.pop("mode") == "enforce"
        assert table == {one.name: one.default for one in fields(rule.Settings)}


def test_rules_come_in_their_order_and_ones_own_behind_them():
    names = [rule.name for rule in RULES]
    assert [name for name, _ in made(custom=[{"rule": HERE}])] == [*names, "mine"]


def test_modes():
    first, second = RULES[0].name, RULES[1].name
    modes = dict(made(**{first: {"mode": "report"}, second: {"mode": "off"}}))
    assert modes[first] is Mode.REPORT
    assert second not in modes
    with pytest.raises(ValidationError, match="enforce"):
        made(**{first: {"mode": "sometimes"}})


@pytest.mark.parametrize(("rule", "setting"), NUMBERS)
def test_every_number_is_a_bound(rule, setting):
    assert made(**{rule: {setting: 7}})
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        made(**{rule: {setting: -1}})


def test_unknown_settings_and_rules_are_errors():
    with pytest.raises(ValidationError, match="Extra inputs"):
        made(**{RULES[0].name: {"nonsense": 1}})
    with pytest.raises(ValidationError, match="Extra inputs"):
        made(nonsense={})


def test_a_rule_of_ones_own_gets_its_settings():
    tables = RuleTables.model_validate(
        {"custom": [{"rule": HERE, "mode": "report", "settings": {"limit": 9}}]}
    )
    rule, mode = make_rules(tables)._rules[-1]
    assert isinstance(rule, Mine)
    assert rule.settings == Mine.Settings(9)
    assert mode is Mode.REPORT


class Raising(Mine):
    def refuse(self, context: Context) -> CommandError | None:
        raise ValueError


@pytest.mark.parametrize(("given", "refused"), [({}, True), ({"on_error": "pass"}, False)])
def test_what_becomes_of_a_request_when_a_rule_raises(given, refused):
    tables = RuleTables.model_validate({"custom": [{"rule": f"{__name__}:Raising", **given}]})
    (decision,) = make_rules(tables).decide(context({"find": "c"}))
    assert (decision.failed, decision.refused) == (True, refused)


@pytest.mark.parametrize(
    ("custom", "problem"),
    [
        ({"rule": "no_such_module:Rule"}, "there is no module no_such_module"),
        ({"rule": f"{__name__}:Nothing"}, "has no class Nothing"),
        ({"rule": "no colon"}, "expected module:Class"),
        ({"rule": f"{__name__}:HERE"}, "not a rule"),
        ({"rule": HERE, "settings": {"other": 1}}, "settings.other: unknown setting"),
    ],
)
def test_a_rule_that_cannot_be_had(custom, problem):
    with pytest.raises(ConfigError, match=problem):
        made(custom=[custom])


def test_all_rules_that_cannot_be_had_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        made(custom=[{"rule": "no colon"}, {"rule": HERE}, {"rule": "no_such_module:Rule"}])
    first, second = caught.value.problems
    assert first.startswith("policies.custom[0]: rule no colon: ")
    assert second.startswith("policies.custom[2]: rule no_such_module:Rule: ")


def test_times_and_sizes_of_ones_own_rules_are_numbers_to_them():
    @dataclass(frozen=True)
    class Settings:
        idle_seconds: float = 0
        most_bytes: int = 0
        name_seconds: str = ""

    Measured.Settings = Settings
    texts = {"idle_seconds": "1m30s", "most_bytes": "1KiB", "name_seconds": "soon"}
    custom = [{"rule": f"{__name__}:Measured", "settings": texts}]
    (*_, (rule, _)) = make_rules(RuleTables.model_validate({"custom": custom}))._rules
    assert rule.settings == Settings(90.0, 1024, "soon")


def test_times_of_day_are_texts_to_all_but_the_rule():
    given = {"at": time(9), "days": [date(2026, 11, 28)], "more": {"from": time(1)}}
    tables = RuleTables.model_validate({"custom": [{"rule": HERE, "settings": given}]})
    assert rule_rows(tables)[-1]["settings"] == {
        "at": "09:00:00",
        "days": ["2026-11-28"],
        "more": {"from": "01:00:00"},
    }


WRONG = """
[[policies.custom]]
rule = "tests.settings.test_rules:Mine"
settings = { limit = "3" }

[[policies.custom]]
rule = 3
"""


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (f"{WRONG}[limits]\nconnections = 1", ["policies.custom[1].rule"]),
        (f"{WRONG}[limits]\nconnections = 'x'", ["policies.custom[1].rule", "limits.connections"]),
    ],
)
def test_rules_are_looked_at_where_other_settings_are_wrong(tmp_path, capsys, text, problems):
    path = tmp_path / "config.toml"
    path.write_text(text)
    assert cli.main(["check-config", str(path)]) == 2
    said = [line.split(": ") for line in capsys.readouterr().err.splitlines()]
    assert [one[2] for one in said] == [*problems, "policies.custom[0].settings.limit"]
    assert said[-1][1].endswith(":4")


def test_rules_of_clusters_are_found_where_others_are_wrong():
    custom = {"custom": [{"rule": "nothing"}, 3, {"rule": HERE}, {"rule": 3}]}
    cluster = [{"policies": custom}, {"policies": 3}, 3]
    found = problems_of({"policies": {"custom": 3}, "cluster": cluster})
    assert found == ["cluster[0].policies.custom[0]: rule nothing: expected module:Class"]


def test_rows_for_people():
    tables = RuleTables.model_validate({"custom": [{"rule": HERE, "settings": {"limit": 1}}]})
    *rows, mine = rule_rows(tables)
    assert [row["rule"] for row in rows] == [rule.name for rule in RULES]
    assert all(row["mode"] == "enforce" and row["about"] for row in rows)
    named = {"rule": HERE, "name": "mine"}
    said = {"about": "A rule of one's own."}
    assert mine == named | said | {"mode": "enforce", "settings": {"limit": 1}}
