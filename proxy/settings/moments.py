"""Points in time as people write them: "03:12", "2026-03-01 03:12", "20m" for so long ago."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from proxy.settings.quantities import told_seconds

#: Seconds: a number that is larger is a point in time, and none is as large as the other one.
_LONG: Final = 1e8
_LATEST: Final = 1e11

_FORMS: Final = ("%H:%M", "%H:%M:%S")
_WRONG: Final = (
    'should be a time such as "03:12", "2026-03-01 03:12" or "20m" for so long ago, not '
)


def moment(
    text: str, now: float, zone: tzinfo | None = UTC, *, after: float | None = None
) -> float:
    """The seconds since 1970 that a text means, in ``zone`` (None: this machine's own).

    A time of day is the last one before ``now``, or the first one behind ``after``, unless that is
    tomorrow's. A number is seconds since 1970.

    Raises:
        ValueError: it means none.
    """
    text = text.strip()
    if text == "now":
        return now
    for form in _FORMS:
        try:
            at = datetime.strptime(text, form).time()
        except ValueError:
            continue
        return _next_to(at.hour, at.minute, at.second, now, zone, after)
    try:
        return _dated(text, zone)
    except ValueError:
        pass
    try:
        number = told_seconds(text)
    except ValueError:
        number = _LATEST
    if number >= _LATEST:
        raise ValueError(f"{_WRONG}{text!r}")
    return number if number > _LONG else now - number


def _dated(text: str, zone: tzinfo | None) -> float:
    if "-" not in text[1:]:
        raise ValueError
    try:
        found = datetime.fromisoformat(text)
        # Without a zone it is in the one that is meant.
        return (
            found if found.tzinfo is not None or zone is None else found.replace(tzinfo=zone)
        ).timestamp()
    except OverflowError as error:
        raise ValueError from error


def _next_to(
    hour: int, minute: int, second: int, now: float, zone: tzinfo | None, after: float | None
) -> float:
    around = datetime.fromtimestamp(now if after is None else after, zone)
    found = around.replace(hour=hour, minute=minute, second=second, microsecond=0)
    day = timedelta(days=1)
    if after is None:
        return (found if found.timestamp() <= now else found - day).timestamp()
    if found.timestamp() > after:
        return found.timestamp()
    if (found + day).date() > datetime.fromtimestamp(now, zone).date():
        raise ValueError(
            f"{found:%H:%M:%S} is not behind the beginning, and tomorrow's has not been yet"
        )
    return (found + day).timestamp()
