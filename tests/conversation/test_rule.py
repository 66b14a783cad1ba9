from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from proxy.conversation.rule import Context, Mode, Rules, refusal
from proxy.errors import CommandError
from tests.policies.contexts import context

NO = CommandError(13, "Unauthorized", "no")


class ARule:
    name: ClassVar[str] = "rule"

    @dataclass(frozen=True)
    class Settings:
        error: Any = None

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


def test_a_lenient_rule_that_raises_lets_the_request_go_on() -> None:
    one, other = rule(ValueError("bug")), rule(NO)
    first, second = Rules([(one, Mode.ENFORCE), (other, Mode.ENFORCE)], [one, other]).decide(
        REQUEST
    )
    assert first.failed
    assert not first.refused
    assert (second.refused, second.error) == (True, NO)


def test_rules_that_judge_all() -> None:
    one, other = rule(NO), rule(NO)
    one.judges = "all"  # type: ignore[attr-defined]
    other.judges_routine = False  # type: ignore[attr-defined]
    assert not Rules([(other, Mode.ENFORCE)]).judge_all
    chain = Rules([(other, Mode.ENFORCE), (one, Mode.REPORT)])
    assert chain.judge_all
    # As to the others.
    assert not chain.judge_routine
    assert chain.judge_plans
    (decision,) = chain.decide_plain(REQUEST)
    assert (decision.refused, other.asked) == (False, 0)
    assert not Rules([(one, Mode.OFF)]).judge_all


def test_only_rules_in_force_are_found_by_kind() -> None:
    first, second, third = rule(), rule(), rule()
    modes = (Mode.ENFORCE, Mode.REPORT, Mode.OFF)
    chain = Rules(zip((first, second, third), modes, strict=True))
    assert list(chain.enforced(ARule)) == [first]
    assert list(chain.enforced(NotARule)) == []  # type: ignore[type-var]
