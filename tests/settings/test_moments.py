from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from proxy.settings.moments import moment

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC).timestamp()
EAST = timezone(timedelta(hours=2))


def at(text: str, zone: timezone = UTC) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("03:12", at("2026-03-02 03:12")),
        ("03:12:05", at("2026-03-02 03:12:05")),
        (" 09:30 ", NOW),
        ("09:31", at("2026-03-01 09:31")),
        ("2026-02-28 03:12", at("2026-02-28 03:12")),
        ("2026-02-28T03:12:01", at("2026-02-28 03:12:01")),
        ("2026-02-28T03:12:01Z", at("2026-02-28 03:12:01")),
        ("2026-02-28T03:12+02:00", at("2026-02-28 01:12")),
        ("2026-02-28", at("2026-02-28")),
        ("20m", NOW - 1200),
        ("1h30m", NOW - 5400),
        ("90", NOW - 90),
        ("now", NOW),
        ("1772438400.5", 1772438400.5),
    ],
)
def test_what_people_write(text: str, meant: float) -> None:
    assert moment(text, NOW) == meant


def test_a_time_of_day_is_the_one_of_a_zone() -> None:
    assert moment("03:12", NOW, EAST) == at("2026-03-02 03:12", EAST)
    assert moment("11:31", NOW, EAST) == at("2026-03-01 11:31", EAST)
    # Without a zone it is the machine's own.
    assert moment("00:00", NOW, None) <= NOW


def test_an_end_is_the_first_one_behind_the_beginning() -> None:
    since = moment("23:50", NOW)
    assert moment("00:10", NOW, after=since) == since + 1200
    assert moment("23:50", since + 90_000, after=since) == since + 86_400
    assert moment("03:20", NOW, after=moment("03:00", NOW)) == at("2026-03-02 03:20")


def test_an_end_is_not_tomorrow() -> None:
    since = moment("09:12", NOW)
    for text in ("09:10", "09:12"):
        with pytest.raises(ValueError, match=f"{text}:00 is not behind the beginning"):
            moment(text, NOW, after=since)
    # Today's may be still to come.
    assert moment("23:00", NOW, after=since) > NOW
    assert moment("10:00", NOW, after=moment("22:00", NOW)) > NOW


@pytest.mark.parametrize("text", ["", "soon", "25:00", "3:99", "2026-13-01", "-5", "1x", "9" * 400])
def test_what_means_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="should be a time such as"):
        moment(text, NOW)
