"""Rules of one's own: found by name, and settings that fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field

from proxy.conversation.rule import Context
from proxy.errors import CommandError, ConfigError
from proxy.settings.loading import load_rule

if TYPE_CHECKING:
    from proxy.nowhere import Absent

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
        self.settings = settings
        self.error = getattr(settings, "error", None)

    def refuse(self, context: Context) -> CommandError | None:
        return None


class NotARule:
    pass


class Odd(ARule):
    Settings = dict


class Everything(ARule):
    judges = "everything"


class Careless(ARule):
    def __init__(self, settings: ARule.Settings) -> None:
        super().__init__(settings)
        self.share = 1 / (settings.positive - 1)


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Span:
    begin: int
    end: int = 24


class Typed(ARule):
    """A setting of every kind that a file can hold."""

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        needed: str
        number: int = 0
        share: float = 0.0
        on: bool = False
        users: tuple[str, ...] = ()
        groups: frozenset[str] = frozenset()
        numbers: list[int] = field(default_factory=list)
        bounds: dict[str, int] = field(default_factory=dict)
        word: Literal["a", "b"] = "a"
        colour: Colour = Colour.RED
        hours: Span = Span(0)
        many: tuple[Span, ...] = ()
        begin: time = time(8)
        file: Path = Path()
        maybe: int | None = None
        percent: Annotated[int, Field(ge=0, le=100)] = 0
        idle_seconds: float = 0.0
        most_bytes: int = 0
        made: int = field(default=3, init=False)


class Unresolved(ARule):
    @dataclass(frozen=True)
    class Settings:
        absent: Absent | None = None


class Uncheckable(ARule):
    @dataclass(frozen=True)
    class Settings:
        callback: Callable[[], int] = int
        odd: ARule | None = None


def settings_of(**given: Any) -> Any:
    return load_rule(f"{__name__}:Typed", {"needed": "x", **given}).settings


def problems(name: str, given: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_rule(f"{__name__}:{name}", given)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "given", "made"),
    [
        ("number", 3, 3),
        ("number", -3, -3),
        ("share", 1, 1.0),
        ("on", True, True),
        ("users", ["a", "b"], ("a", "b")),
        ("users", ("a",), ("a",)),
        ("groups", ["a", "a"], frozenset("a")),
        ("numbers", [1, 2], [1, 2]),
        ("bounds", {"a": 1}, {"a": 1}),
        ("word", "b", "b"),
        ("colour", "red", Colour.RED),
        ("hours", {"begin": 8}, Span(8)),
        ("many", [{"begin": 8, "end": 9}, {"begin": 12}], (Span(8, 9), Span(12))),
        ("begin", time(9, 30), time(9, 30)),
        ("begin", "09:30", time(9, 30)),
        ("file", "a/b", Path("a/b")),
        ("maybe", None, None),
        ("percent", 100, 100),
        ("idle_seconds", "1m30s", 90.0),
        ("most_bytes", "1KiB", 1024),
        ("most_bytes", 7, 7),
    ],
)
def test_settings_that_fit(name: str, given: Any, made: Any) -> None:
    found = getattr(settings_of(**{name: given}), name)
    assert (found, type(found)) == (made, type(made))


@pytest.mark.parametrize(
    ("name", "given", "problem"),
    [
        ("needed", 7, "should be a valid string, not 7"),
        ("number", "3", "should be a valid integer, not '3'"),
        ("number", 3.5, "not 3.5"),
        ("number", True, "should be a valid integer, not true"),
        ("share", "half", "should be a valid number, not 'half'"),
        ("share", float("nan"), "should be a finite number"),
        ("on", 1, "should be a valid boolean, not 1"),
        ("on", "yes", "should be a valid boolean, not 'yes'"),
        ("users", "backup@admin", "should be a list, not 'backup@admin'"),
        ("users", [1], "users[0]: should be a valid string, not 1"),
        ("users", {"a": 1}, "should be a list, not a table"),
        ("groups", "a", "should be a list, not 'a'"),
        ("numbers", ["1"], "numbers[0]: should be a valid integer, not '1'"),
        ("bounds", {"a": "b"}, "bounds.a: should be a valid integer, not 'b'"),
        ("bounds", 3, "should be a table, not 3"),
        ("word", "c", "should be 'a' or 'b', not 'c'"),
        ("colour", "blue", "should be 'red', not 'blue'"),
        ("hours", {"end": 8}, "hours.begin: is needed"),
        ("hours", 8, "should be a table, not 8"),
        ("many", [{"begin": "8"}], "many[0].begin: should be a valid integer, not '8'"),
        ("begin", "soon", "begin: should be in a valid time format"),
        ("needed", time(9), "should be a valid string, not 09:00:00"),
        ("percent", 101, "should be less than or equal to 100, not 101"),
        ("idle_seconds", "soon", 'should be a number of seconds or a time such as "250ms"'),
        ("idle_seconds", True, "should be a valid number, not true"),
        ("most_bytes", "7 boxes", "should be a number of bytes or a size"),
        ("made", 3, "unknown setting"),
        ("user", ["a"], "unknown setting; did you mean users?"),
    ],
)
def test_settings_that_do_not_fit(name: str, given: Any, problem: str) -> None:
    (found,) = problems("Typed", {"needed": "x", name: given})
    assert found.startswith(f"settings.{name}")
    assert problem in found


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = problems("Typed", {"number": "x", "users": "y", "other": 1})
    assert [text.partition(":")[0] for text in found] == [
        "settings.other",
        "settings.needed",
        "settings.number",
        "settings.users",
    ]


def test_types_that_cannot_be_found_or_checked() -> None:
    (found,) = problems("Unresolved", {})
    assert "the types of Settings: name 'Absent' is not defined" in found
    (found,) = problems("Uncheckable", {"odd": {}})
    assert "the type of odd cannot be checked: Unable to generate pydantic-core schema" in found


def test_loading() -> None:
    made = load_rule("tests.settings.test_loading:ARule", {"error": NO})
    assert made.error is NO


@pytest.mark.parametrize(
    ("path", "settings", "problem"),
    [
        ("tests.settings.test_loading", {}, "expected module:Class"),
        ("no_such_module:ARule", {}, "there is no module no_such_module where"),
        ("tests.settings.test_loading:Missing", {}, "test_loading has no class Missing"),
        ("tests.settings.test_loading:NotARule", {}, "not a rule"),
        ("tests.settings.test_loading:Everything", {}, 'judges should be "all" or "sessions"'),
        ("tests.settings.test_loading:ARule", {"x": 1}, "settings.x: unknown setting"),
        ("tests.settings.test_loading:ARule", {"positive": 0}, "positive must be positive"),
        ("tests.settings.test_loading:Careless", {}, "ZeroDivisionError: division by zero"),
        ("..rule:ARule", {}, "TypeError: "),
    ],
)
def test_rules_that_cannot_be_loaded(path: str, settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_rule(path, settings)
    assert problem in str(caught.value)


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
    with pytest.raises(ConfigError, match="Settings is not a dataclass"):
        load_rule(f"{__name__}:Odd", {})
