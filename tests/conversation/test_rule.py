from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from proxy.conversation.rule import Context, Mode, Rules, load_rule, make_rule, refusal
from proxy.errors import CommandError, ConfigError
from tests.policies.contexts import context

NO = CommandError(13, "Unauthorized", "no")


class ARule:
    name: ClassVar[str] = "rule"

    @dataclass(frozen=True)
    class Settings:
        error: Any = None
        positive: int = 1

        def __post_init__(self) -> None:
            if self.positive < 1:
                raise ValueError("positive must be positive")

    def __init__(self, settings: Settings) -> None:
        self.error = settings.error
        self.asked = 0
        self.idle = False

    def refuse(self, context: Context) -> CommandError | None:
        self.asked += 1
        if isinstance(self.error, ValueError):
            raise self.error
        return self.error  # type: ignore[no-any-return]


class NotARule:
    pass


class Careless(ARule):
    def __init__(self, settings: ARule.Settings) -> None:
        super().__init__(settings)
        self.share = 1 / (settings.positive - 1)


def rule(error: Any = None) -> ARule:
    return ARule(ARule.Settings(error))


REQUEST = context({"find": "c"})


def test_the_first_refusal_wins() -> None:
    first, second, third = rule(), rule(NO), rule(CommandError(2, "BadValue", "later"))
    chain = Rules((one, Mode.ENFORCE) for one in (first, second, third))
    decisions = chain.decide(REQUEST)
    assert refusal(decisions) == NO
    assert len(decisions) == 1
    assert (first.asked, second.asked, third.asked) == (1, 1, 0)


def test_nothing_to_say() -> None:
    assert Rules([(rule(), Mode.ENFORCE)]).decide(REQUEST) == []
    assert refusal([]) is None


def test_reports_refuse_nothing() -> None:
    later = rule(CommandError(2, "BadValue", "later"))
    chain = Rules([(rule(NO), Mode.REPORT), (later, Mode.ENFORCE)])
    reported, refused = chain.decide(REQUEST)
    assert (reported.refused, reported.error) == (False, NO)
    assert (refused.refused, refused.rule) == (True, "rule")
    assert refusal([reported]) is None


def test_off_is_not_asked() -> None:
    one = rule(NO)
    assert Rules([(one, Mode.OFF)]).decide(REQUEST) == []
    assert one.asked == 0


def test_a_rule_that_has_nothing_to_do_is_not_asked() -> None:
    one = rule(NO)
    one.idle = True
    chain = Rules([(one, Mode.ENFORCE)])
    assert chain.decide(REQUEST) == []
    assert one.asked == 0
    assert not chain.judge_routine


def test_a_rule_that_raises_refuses() -> None:
    failure = ValueError("bug")
    (decision,) = Rules([(rule(failure), Mode.ENFORCE)]).decide(REQUEST)
    assert decision.refused
    assert decision.failed
    assert decision.failure is failure
    assert (decision.error.code, decision.error.errmsg) == (1, "the rule rule failed")
    (decision,) = Rules([(rule(failure), Mode.REPORT)]).decide(REQUEST)
    assert decision.failed
    assert not decision.refused


def test_only_rules_in_force_are_found_by_kind() -> None:
    first, second, third = rule(), rule(), rule()
    modes = (Mode.ENFORCE, Mode.REPORT, Mode.OFF)
    chain = Rules(zip((first, second, third), modes, strict=True))
    assert list(chain.enforced(ARule)) == [first]
    assert list(chain.enforced(NotARule)) == []  # type: ignore[type-var]


def test_loading() -> None:
    made = load_rule("tests.conversation.test_rule:ARule", {"error": NO})
    assert made.refuse(REQUEST) == NO


@pytest.mark.parametrize(
    ("path", "settings", "problem"),
    [
        ("tests.conversation.test_rule", {}, "expected module:Class"),
        ("no_such_module:ARule", {}, "No module named 'no_such_module'"),
        ("tests.conversation.test_rule:Missing", {}, "has no attribute 'Missing'"),
        ("tests.conversation.test_rule:NotARule", {}, "not a rule"),
        ("tests.conversation.test_rule:ARule", {"x": 1}, "unknown setting x"),
        ("tests.conversation.test_rule:ARule", {"positive": 0}, "positive must be positive"),
        ("tests.conversation.test_rule:Careless", {}, "ZeroDivisionError: division by zero"),
        ("..rule:ARule", {}, "TypeError: "),
    ],
)
def test_rules_that_cannot_be_loaded(path: str, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_rule(path, settings)
    assert problem in str(caught.value)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit('not here')", "SystemExit: not here"),
        ("raise ImportError('no such thing')", "rule broken_rule:Rule: no such thing"),
    ],
)
def test_a_module_that_cannot_be_imported(
    text: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_rule.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=problem):
        load_rule("broken_rule:Rule", {})


def test_settings_must_be_a_dataclass() -> None:
    odd = type("Odd", (ARule,), {"Settings": dict})
    with pytest.raises(ConfigError, match="Settings is not a dataclass"):
        make_rule(odd, {})
