"""Rules asked without sockets are asked what they would be asked in a proxy."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from policies.kill_guard import KillGuard
from policies.session_budget import SessionBudget
from policies.transaction_guard import TransactionGuard
from proxy.conversation.rule import Context
from proxy.errors import CommandError, ConfigError
from proxy.testing import Asking

NO = CommandError(13, "Unauthorized", "no")


class Spy:
    """Refuses what is called ``no``, and keeps what it is shown."""

    name = "spy"

    @dataclass(frozen=True)
    class Settings:
        word: str = "no"

    def __init__(self, settings: Settings) -> None:
        self._word = settings.word
        self.seen: list[Context] = []

    def refuse(self, context: Context) -> CommandError | None:
        self.seen.append(context)
        if context.command == "raise":
            raise ZeroDivisionError
        return NO if context.command == self._word else None


class All(Spy):
    judges = "all"


def test_a_rule_is_shown_who_asks_what_and_when() -> None:
    ask = Asking(Spy)
    how = {"roles": ["read@shop"], "actions": ["inprog"], "application": "shop", "driver": "mine"}
    assert ask({"find": "c", "$db": "shop"}, user="alice@app", client="10.0.0.7", **how) is None
    ask.later(5.0)
    assert ask({"find": "c"}, user="alice@app") is None
    first, second = ask.rule.seen
    assert first.caller.name == "alice@app"
    assert first.caller.identity.roles == (("read", "shop"),)
    assert first.caller.may("inprog")
    assert (first.origin.client, first.origin.application) == ("10.0.0.7", "shop")
    assert first.origin.driver == "mine"
    assert first.namespaces == ("shop.c",)
    assert second.namespaces == ("test.c",)
    assert first.session is None
    assert second.session is not None
    assert second.now - first.now == second.wall_now - first.wall_now == 5.0
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert datetime.fromtimestamp(first.wall_now, UTC) == noon


def test_what_it_says() -> None:
    ask = Asking(Spy, word="never")
    assert ask({"no": 1}) is None
    assert ask({"never": 1}) == NO
    with pytest.raises(ZeroDivisionError):
        ask({"raise": 1})


def test_only_who_judges_all_is_asked_about_what_has_no_session() -> None:
    assert Asking(Spy)({"no": 1}, session=None) is None
    assert Asking(All)({"no": 1}, session=None) == NO
    ask = Asking(All)
    assert ask({"hello": 1}, session=None) is None
    assert ask.rule.seen == []


def test_sessions_transactions_and_budgets() -> None:
    ask = Asking(SessionBudget, per_user=2)
    answers = [ask({"find": "c"}, user="alice@app", session=one) for one in (1, 2, 1, 3)]
    assert [one is None for one in answers] == [True, True, True, False]
    assert ask({"find": "c"}, user="bob@app", session=3) is None
    assert ask({"startSession": 1}, user="alice@app").code == 261
    ask = Asking(TransactionGuard, idle_seconds="5s")
    assert ask({"find": "c"}, user="alice@app", transaction="start") is None
    ask.later(4.0)
    assert ask({"find": "c"}, user="alice@app", transaction="continue") is None
    ask.later(6.0)
    assert ask({"find": "c"}, user="alice@app", transaction="continue").code == 251
    assert ask({"find": "c"}, user="alice@app", transaction="start") is None


def test_session_commands_come_with_their_plan() -> None:
    ask = Asking(KillGuard, permission="shutdown")
    may = ("killAnySession",)
    assert ask({"killAllSessions": []}, user="alice@app", actions=may).code == 13
    assert ask({"killAllSessions": []}, user="root@app", actions=(*may, "shutdown")) is None


def test_settings_are_checked_as_in_a_file() -> None:
    with pytest.raises(ConfigError, match="word: should be a valid string, not 3"):
        Asking(Spy, word=3)
    with pytest.raises(ConfigError, match="not a rule"):
        Asking(dict)
    assert Asking(f"{__name__}:Spy", word="x")({"x": 1}) == NO
