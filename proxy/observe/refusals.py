"""Accounts of refusals: how often somebody was refused the same, since when, and what was last.

One account for each rule, user and application, as long as there is room; it also says when the log
may have a line again.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import lru_cache
from heapq import nlargest
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from proxy.logs import SELDOM_SECONDS
from proxy.observe.labels import clean
from proxy.texts import kind_of

if TYPE_CHECKING:
    from proxy.observe.labels import Incident

#: Accounts that are kept; the one that was added to longest ago gives way.
MOST_ACCOUNTS: Final = 200

#: Reasons of one account that are told apart; the one that was given longest ago gives way.
_MOST_REASONS: Final = 5

#: Lines for the log between two of :data:`~proxy.logs.SELDOM_SECONDS`, whoever is refused: clients
#: choose the names that accounts go by.
MOST_LINES: Final = 20


class Whose(NamedTuple):
    """What an account is of, as label values. ``kind`` is what was decided, or an incident."""

    kind: str
    rule: str
    user: str
    application: str


#: How often it was for one reason, the last time so in seconds since 1970, what is known of that.
_Told = tuple[int, float, dict[str, Any]]

#: Count, first and last time in seconds since 1970, and each reason that there was, as it was the
#: last time.
Plain = tuple[int, float, float, list[_Told]]

#: And what is said of those before the latest one.
_SAID: Final = ("reason", "bound", "limit", "error", "command", "session", "owner")


class Account:
    """What somebody was refused, or would have been."""

    __slots__ = ("_reasons", "count", "due", "first", "incident", "last", "left_out")

    def __init__(self, first: float) -> None:
        self.count = 0
        #: Whose it was the last time, where it was here.
        self.incident: Incident | None = None
        self.first = self.last = first
        #: In the order in which they were given last.
        self._reasons: dict[tuple[Any, ...], _Told] = {}
        #: When the log may say it again, in the loop's seconds, and how often it has not.
        self.due = 0.0
        self.left_out = 0

    def add(self, plain: Plain) -> None:
        """Take over what was counted elsewhere."""
        count, first, last, told = plain
        self.first = min(self.first, first) if self.count else first
        self.last = max(self.last, last) if self.count else last
        self.count += count
        for one in told:
            self._add(*one)

    def _add(self, count: int, last: float, latest: dict[str, Any]) -> None:
        reasons = self._reasons
        which = latest.get("error"), latest.get("bound") or kind_of(latest.get("reason", ""))
        known = reasons.pop(which, None)
        if known is not None:
            count += known[0]
            if known[1] > last:
                _, last, latest = known
        reasons[which] = count, last, latest
        if len(reasons) > 1 and next(reversed(reasons.values()))[1] < self.last:
            # What comes from elsewhere may be older than what is here.
            self._reasons = reasons = dict(sorted(reasons.items(), key=lambda one: one[1][1]))
        if len(reasons) > _MOST_REASONS:
            del reasons[next(iter(reasons))]

    @property
    def latest(self) -> dict[str, Any]:
        """What is known of the last one."""
        return next(reversed(self._reasons.values()))[2] if self._reasons else {}

    @property
    def is_new(self) -> bool:
        """Whether the latest is an error for a reason that there was not before."""
        count, _, latest = next(reversed(self._reasons.values()))
        return count == 1 and "error" in latest

    def plain(self) -> Plain:
        return self.count, self.first, self.last, list(self._reasons.values())

    def row(self) -> dict[str, Any]:
        """As part of a line, with times of day in UTC."""
        times = {"first": time_of_day(self.first), "last": time_of_day(self.last)}
        return {"count": self.count, **times, **self.latest}

    def before(self) -> list[dict[str, Any]]:
        """Reasons that there were beside the latest, those given last first."""
        _, *others = reversed(self._reasons.values())
        return [
            {"count": count, "last": time_of_day(last)}
            | {name: latest[name] for name in _SAID if latest.get(name) is not None}
            for count, last, latest in others
        ]


class Refusals:
    """The accounts of a process, and what other processes say of theirs."""

    def __init__(self, most: int = MOST_ACCOUNTS) -> None:
        self._most = most
        self._own: dict[Whose, Account] = {}
        #: By the place of a worker, what it has said last.
        self._elsewhere: dict[int, dict[Whose, Plain]] = {}
        self._lines = MOST_LINES
        self._refilled = 0.0

    def note(
        self, whose: Whose, latest: dict[str, Any], incident: Incident | None = None
    ) -> Account:
        """It happened again; ``latest`` says how."""
        account = self._account(whose)
        account.incident = incident
        now = time.time()
        account.add((1, now, now, [(1, now, latest)]))
        return account

    def may_say(self, account: Account, now: float) -> bool:
        """Whether the log may have a line about it; otherwise that is counted as left out."""
        if not self._takes_line(account, now):
            account.left_out += 1
            return False
        return True

    def left_out(self, now: float) -> list[tuple[Incident, Account]]:
        """Those of which something was left out, and of which the log may say that now."""
        return [
            (account.incident, account)
            for account in self._own.values()
            if account.left_out and account.incident and self._takes_line(account, now)
        ]

    def _takes_line(self, account: Account, now: float) -> bool:
        if now >= self._refilled + SELDOM_SECONDS:
            self._refilled, self._lines = now, MOST_LINES
        if not self._lines or (now < account.due and not account.is_new):
            return False
        self._lines -= 1
        account.due = now + SELDOM_SECONDS
        return True

    def hear(self, place: int, accounts: list[tuple[tuple[str, ...], Plain]]) -> None:
        """A worker's accounts are these by now."""
        said = {Whose(*whose): plain for whose, plain in accounts}
        for whose, before in self._elsewhere.get(place, {}).items():
            # It began anew, or has let go of that one.
            if whose not in said or said[whose][0] < before[0]:
                self._account(whose).add(before)
        self._elsewhere[place] = said

    def told(self) -> list[tuple[tuple[str, ...], Plain]]:
        """The accounts of this process as plain data."""
        return [(tuple(whose), account.plain()) for whose, account in self._own.items()]

    def row(self, whose: Whose) -> dict[str, Any]:
        """What all processes know of it, as part of a row; nothing where that was forgotten."""
        whole = self._whole(whose)
        return {**whole.row(), "before": whole.before()} if whole.count else {}

    def bounds(self, count: int) -> dict[tuple[str, ...], float]:
        """The latest of what a rule or the proxy has decided, each with the bound and its limit;
        the values are when it was first."""
        known = set(self._own).union(*self._elsewhere.values())
        whole = [(one, self._whole(one)) for one in known if one.rule]
        found: dict[tuple[str, ...], float] = {}
        for one, account in nlargest(count, whole, key=lambda pair: pair[1].last):
            bound, limit = account.latest.get("bound"), account.latest.get("limit")
            found[(*one, clean(bound or ""), clean(_text(limit)))] = account.first
        return found

    def _whole(self, whose: Whose) -> Account:
        """What all processes know of it."""
        whole = Account(0.0)
        if whose in self._own:
            whole.add(self._own[whose].plain())
        for said in self._elsewhere.values():
            if whose in said:
                whole.add(said[whose])
        return whole

    def most(self, count: int) -> dict[Whose, int]:
        """How often all processes have refused or reported: the accounts with most."""
        found: Counter[Whose] = Counter()
        for whose, account in self._own.items():
            found[whose] += account.count
        for said in self._elsewhere.values():
            for whose, plain in said.items():
                found[whose] += plain[0]
        decided = [one for one in found.items() if one[0].kind in ("refused", "reported")]
        return dict(nlargest(count, decided, key=itemgetter(1)))

    def _account(self, whose: Whose) -> Account:
        account = self._own.pop(whose, None) or Account(0.0)
        self._own[whose] = account
        if len(self._own) > self._most:
            del self._own[next(iter(self._own))]
        return account


def _text(limit: float | str | None) -> str:
    """A bound's value; rules of one's own may have others than numbers."""
    return f"{limit:.10g}" if isinstance(limit, int | float) else limit or ""


def time_of_day(seconds: float) -> str:
    """Seconds since 1970 as text, in UTC."""
    return _second(int(seconds))


@lru_cache(100)
def _second(number: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(number))
