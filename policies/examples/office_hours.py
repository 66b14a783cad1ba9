"""An example of a rule of one's own: some users work in office hours only.

In the configuration it is named ``policies.examples.office_hours:OfficeHours``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, tzinfo
from typing import TYPE_CHECKING, ClassVar, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.conversation.rule import Context

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
_DAYS: Final[tuple[Day, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: What is under way may be ended at any time.
_ENDING: Final = frozenset(("abortTransaction", "commitTransaction", "endSessions", "killCursors"))


class OfficeHours:
    """Refuses everything to the users that are named, or to all, when the office is closed."""

    name: ClassVar[str] = "office_hours"
    judges: ClassVar[str] = "all"
    judges_privileges: ClassVar[bool] = False

    @dataclass(frozen=True, slots=True)
    class Settings:
        #: Users ``user@db`` that have hours; nobody named: all that log in.
        users: tuple[str, ...] = ()
        #: Users that have none.
        except_users: tuple[str, ...] = ()
        #: From when to when on these days; over midnight where it ends before it begins.
        begin: time = time(8)
        end: time = time(18)
        days: tuple[Day, ...] = _DAYS[:5]
        #: Whose time that is, as in ``Europe/Berlin``.
        zone: str = "UTC"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._days = {_DAYS.index(day) for day in settings.days}
        self._zone = _zone(settings.zone)

    def refuse(self, context: Context) -> CommandError | None:
        user = context.caller.name
        named, excepted = self._settings.users, self._settings.except_users
        if not user or user in excepted or (named and user not in named):
            return None
        moment = datetime.fromtimestamp(context.wall_now, self._zone)
        if self._is_open(moment) or context.command in _ENDING:
            return None
        return CommandError(
            13, "Unauthorized", f"{user} has no access outside office hours"
        ).because(f"it is {moment:%A, %H:%M} in {self._settings.zone}")

    def _is_open(self, moment: datetime) -> bool:
        begin, end = self._settings.begin, self._settings.end
        day, now = moment.weekday(), moment.time()
        if begin < end:
            return day in self._days and begin <= now < end
        # What begins on a day goes on over midnight.
        return (day in self._days and now >= begin) or ((day - 1) % 7 in self._days and now < end)


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        # For which no database of time zones has to be there.
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"zone: there is no time zone {name!r} here") from None
