from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from policies.examples.office_hours import OfficeHours
from proxy.errors import ConfigError
from proxy.testing import Asking

FIND = {"find": "orders"}
BERLIN = ZoneInfo("Europe/Berlin")
#: 2024-01-01 is a Monday.
MONDAY, FRIDAY, SATURDAY = 1, 5, 6


def at(ask: Asking, day: int, hour: int, minute: int = 0) -> bool:
    """Whether alice gets in then, in Berlin."""
    ask.wall_now = datetime(2024, 1, day, hour, minute, tzinfo=BERLIN)
    answers = {ask(FIND, user="alice@app", session=session) is None for session in (1, None)}
    assert len(answers) == 1
    return answers.pop()


@pytest.mark.parametrize(
    ("day", "hour", "minute", "may"),
    [
        (MONDAY, 7, 59, False),
        (MONDAY, 8, 0, True),
        (FRIDAY, 17, 59, True),
        (FRIDAY, 18, 0, False),
        (SATURDAY, 12, 0, False),
    ],
)
def test_hours(day: int, hour: int, minute: int, may: bool) -> None:
    ask = Asking("policies.examples.office_hours:OfficeHours", zone="Europe/Berlin")
    assert at(ask, day, hour, minute) is may


def test_over_midnight() -> None:
    ask = Asking(OfficeHours, begin="22:00:00", end="06:00:00", days=["fri"], zone="Europe/Berlin")
    assert at(ask, FRIDAY, 23)
    assert at(ask, SATURDAY, 5, 59)
    assert not at(ask, SATURDAY, 6)
    assert not at(ask, FRIDAY, 5)
    assert not at(ask, SATURDAY, 22)


def test_who_has_hours() -> None:
    ask = Asking(OfficeHours, users=["alice@app"])
    ask.wall_now = datetime(2024, 1, 6, tzinfo=UTC)
    error = ask(FIND, user="alice@app")
    assert error is not None
    assert (error.code, error.reason) == (13, "it is Saturday, 00:00 in UTC")
    assert ask(FIND, user="bob@app") is None
    assert ask(FIND) is None
    ask = Asking(OfficeHours, except_users=["alice@app"])
    ask.wall_now = datetime(2024, 1, 6, tzinfo=UTC)
    assert ask(FIND, user="alice@app") is None
    assert ask(FIND, user="bob@app") is not None


def test_what_is_under_way_may_be_ended() -> None:
    ask = Asking(OfficeHours, begin="08:00:00", end="18:00:00")
    assert ask({"insert": "orders"}, user="alice@app", transaction="start") is None
    ask.later(8 * 3600)
    assert ask({"insert": "orders"}, user="alice@app", transaction="continue") is not None
    assert ask({"commitTransaction": 1}, user="alice@app", transaction="continue") is None
    assert ask({"endSessions": []}, user="alice@app") is None


@pytest.mark.parametrize("zone", ["Nowhere/Town", "../etc", ""])
def test_a_zone_that_there_is_not(zone: str) -> None:
    with pytest.raises(ConfigError, match="there is no time zone"):
        Asking(OfficeHours, zone=zone)
