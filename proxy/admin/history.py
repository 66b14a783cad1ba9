"""What is remembered of the last hours, as somebody asks for it: events of a stretch of time that
match filters, and samples of the numbers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import trio

from proxy.admin.query import QueryError, none_of
from proxy.observe.blocks import unpacked
from proxy.observe.flight import OF_TRANSACTION
from proxy.observe.history import FLOWS, Sample
from proxy.session.flight import OVER
from proxy.settings.moments import moment
from proxy.texts import matcher

if TYPE_CHECKING:
    from proxy.observe.history import History

#: Events on a page unless ``limit`` says otherwise, and at the most; and points of a line.
ROWS: Final = 1_000
MOST_ROWS: Final = 10_000
POINTS: Final = 300
MOST_POINTS: Final = 2_000

#: What is looked at where nothing is said: the last so many seconds.
_LATELY: Final = 3600.0

#: Seconds behind the stretch in which the ends of transactions are looked for that were open in it.
_BEHIND: Final = 3600.0

#: Blocks read at a time.
_BLOCKS: Final = 20

#: Where an event has what is filtered by, and what the filter is called.
_PLACES: Final = {
    "event": 1,
    "cluster": 2,
    "user": 3,
    "application": 4,
    "driver": 5,
    "client": 7,
}
#: What is remembered, as operation.md lists it.
EVENTS: Final = (
    *("session_started", "session_ended", "session_killed", "session_not_taken"),
    *("transaction_started", "transaction_ended"),
    *("refused", "reported", "foreign_uid", "incident", "login_failed", "slow"),
    *("kill", "abort", "interrupt", "close", "sessions_killed"),
    *("topology", "upstream_down", "upstream_up"),
    *("proxy_started", "proxy_stopping", "reloaded", "worker_died"),
)
_OTHERS: Final = ("since", "until", "session", "text", "sort", "limit", "skip", "points")
#: Shorter than a whole id, it has to be so long.
_SHORTEST: Final = 4

Event = Sequence[Any]
Test = Callable[[Event], bool]


class Asking:
    """What one query asks for.

    Raises:
        QueryError: something in it is wrong.
    """

    def __init__(self, fields: Mapping[str, str], now: float) -> None:
        for name in fields:
            if name not in _PLACES and name not in _OTHERS:
                known = ", ".join([*_PLACES, *_OTHERS])
                raise QueryError(f"{name}: no such filter; there are {known}")
        since = _moment("since", fields.get("since"), now, now - _LATELY, None)
        until = _moment("until", fields.get("until"), now, now, since)
        if until < since:
            raise QueryError("until: is before since")
        self.since, self.until = int(since * 1000), int(until * 1000)
        sort = fields.get("sort", "time")
        if sort not in ("time", "-time"):
            raise QueryError(f"sort: {sort} is not one of time, -time")
        self.latest = sort == "-time"
        self.limit = _number(fields, "limit", ROWS, MOST_ROWS)
        self.skip = _number(fields, "skip", 0, 100_000_000)
        self.points = _number(fields, "points", POINTS, MOST_POINTS)
        self.cluster = fields.get("cluster")
        self.tests = list(_tests(fields))


class Remembered:
    """Answers what is asked of a history."""

    def __init__(
        self,
        history: History,
        collect: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._history = history
        self._collect = collect
        self._clock = clock
        # One at a time: each has its slice before others get their turn.
        self._looking = trio.Lock()

    async def answer(self, fields: Mapping[str, str]) -> dict[str, Any]:
        """What the page ``/history`` says.

        Raises:
            QueryError: something in the fields is wrong.
        """
        asking = Asking(fields, self._clock())
        self._collect()
        async with self._looking:
            found = await self._events(asking)
            samples, step = await self._samples(asking)
        shown = found.rows[asking.skip : asking.skip + asking.limit]
        behind = asking.skip + len(shown)
        return {
            "since": _said(asking.since),
            "until": _said(asking.until),
            "remembered_since": _said(found.first) if found.first else None,
            "matched": found.matched,
            "next": behind if behind < found.matched else None,
            "counts": dict(found.counts.most_common()),
            "events": [_row(one) for one in shown],
            "open_meanwhile": [_row(one) for one in found.open_meanwhile],
            "step_seconds": step,
            "samples": samples,
        }

    async def _events(self, asking: Asking) -> Found:
        found = Found(asking)
        behind = asking.until + int(_BEHIND * 1000)
        found.first = self._earliest()
        async for rows in self._rows("events", asking.since, asking.until):
            found.feed(rows)
        async for rows in self._rows("sessions", asking.since, behind):
            found.feed(rows)
        found.put_in_order()
        return found

    def _earliest(self) -> int:
        firsts = [self._history.first(name) for name in ("sessions", "samples")]
        return max((one for one in firsts if one), default=0)

    async def _rows(self, ring: str, since: int, until: int) -> Any:  # noqa: ANN401 - rows
        blocks = self._history.blocks(ring, since, until)
        waiting = self._history.waiting(ring)
        while some := await trio.to_thread.run_sync(lambda: list(islice(blocks, _BLOCKS))):
            for block in some:
                yield unpacked(block)
                await trio.lowlevel.checkpoint()
        yield waiting

    async def _samples(self, asking: Asking) -> tuple[list[dict[str, Any]], float]:
        """Lines of so many points, and how many seconds each stands for."""
        rows: list[Sample] = []
        async for some in self._rows("samples", asking.since, asking.until):
            rows += [
                Sample(*one)
                for one in some
                if asking.since <= one[0] <= asking.until and asking.cluster in (None, one[1])
            ]
        width = max(10_000, -(-(asking.until - asking.since) // asking.points))
        steps: dict[int, dict[str, Any]] = {}
        names = Sample._fields[2:]
        for one in sorted(rows):
            at = asking.since + (one.time - asking.since) // width * width
            point = steps.setdefault(at, {"time": at, **dict.fromkeys(names, 0), "clusters": {}})
            # Of the numbers of a moment the highest, and those of clusters add up.
            of_cluster = point["clusters"].setdefault(one.cluster, dict.fromkeys(names, 0))
            for name in names:
                value = getattr(one, name)
                if name in FLOWS:
                    point[name] += value
                else:
                    point[name] += max(0, value - of_cluster[name])
                    of_cluster[name] = max(of_cluster[name], value)
        for point in steps.values():
            del point["clusters"]
            point["time"] = _said(point["time"])
        return list(steps.values()), width / 1000


class Found:
    """What matches, fed some rows at a time; the oldest are kept, or the latest."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        #: Rows are only about in order: some more are kept than are asked for.
        self._most = asking.skip + asking.limit + 5_000
        self.rows: list[Event] = []
        self.open_meanwhile: list[Event] = []
        self.counts: Counter[str] = Counter()
        self.matched = 0
        self.first = 0

    def feed(self, rows: Sequence[Event]) -> None:
        """Look at these."""
        asking = self._asking
        since, until, tests = asking.since, asking.until, asking.tests
        for one in rows:
            at = one[0]
            if not since <= at <= until:
                if at > until and one[1] == OVER:
                    self._look(one)
                continue
            for test in tests:
                if not test(one):
                    break
            else:
                self.matched += 1
                more = one[9]
                self.counts[one[1]] += more.get("count", 1) if isinstance(more, dict) else 1
                self.rows.append(one)
        if len(self.rows) > 2 * self._most:
            self.put_in_order()
            del self.rows[self._most :]

    def put_in_order(self) -> None:
        """Sort what there is as it was asked for."""
        self.rows.sort(key=_time, reverse=self._asking.latest)

    def _look(self, one: Event) -> None:
        """A transaction that has ended behind the stretch may have been open all the while."""
        asking = self._asking
        seconds = max(0, one[9][2])
        if (
            one[0] - seconds * 1000 <= asking.until
            and len(self.open_meanwhile) < asking.limit
            and all(test(one) for test in asking.tests)
        ):
            self.open_meanwhile.append(one)


def _tests(fields: Mapping[str, str]) -> Iterator[Test]:
    for name, place in _PLACES.items():
        if name in fields:
            parts = [part.strip() for part in fields[name].split(",")]
            if name == "event":
                yield _of_events(parts)
            else:
                yield _any_of(place, [matcher(part) for part in parts])
    if "session" in fields:
        wanted = fields["session"].replace("-", "").lower()
        if len(wanted) < _SHORTEST or wanted.strip("0123456789abcdef"):
            raise QueryError(
                f"session: has to be an id, or {_SHORTEST} or more of its first digits"
            )
        yield lambda one: str(one[8]).startswith(wanted)
    if "text" in fields:
        needle = fields["text"].lower()
        yield lambda one: needle in str(one[1:]).lower()


def _of_events(parts: list[str]) -> Test:
    """Events with these names, and without those that have a ``!`` in front; all others, where
    there is nothing else. Other filters know no ``!``: clients choose what is looked for there."""
    wanted: set[str] = set()
    unwanted: set[str] = set()
    for part in parts:
        matches = matcher(part.removeprefix("!").strip())
        found = [name for name in EVENTS if matches(name)]
        if not found:
            name = part.strip().removeprefix("!")
            raise QueryError(f"event: {none_of(name, EVENTS)}")
        (unwanted if part.startswith("!") else wanted).update(found)
    if all(part.startswith("!") for part in parts):
        return lambda one: one[1] not in unwanted
    chosen = wanted - unwanted
    return lambda one: one[1] in chosen


def _any_of(place: int, matchers: list[Callable[[str], bool]]) -> Test:
    return lambda one: any(matches(one[place]) for matches in matchers)


def _moment(name: str, text: str | None, now: float, default: float, after: float | None) -> float:
    if not text:
        return default
    try:
        return moment(text, now, after=after)
    except ValueError as error:
        raise QueryError(f"{name}: {error}") from error


def _number(fields: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = fields.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or int(text[:9]) > most:
        raise QueryError(f"{name}: has to be a number from 0 to {most}")
    return int(text)


def _time(one: Event) -> int:
    return int(one[0])


def _row(one: Event) -> dict[str, Any]:
    at, event, cluster, user, application, driver, version, client, session, more = one
    return {
        "time": _said(at),
        "event": event,
        **({"cluster": cluster} if cluster else {}),
        "user": user,
        "application": application,
        "driver": driver,
        "driver_version": version,
        "client": client,
        "session": str(UUID(session)) if session else None,
        **_more(more),
    }


def _more(more: Any) -> dict[str, Any]:  # noqa: ANN401 - what a row says more
    if not isinstance(more, list):
        return more or {}
    found = dict(zip(OF_TRANSACTION, more, strict=False))
    if "seconds" in found:
        found["seconds"] = round(found["seconds"], 6) if found["seconds"] >= 0 else None
    return found


def _said(milliseconds: int) -> str:
    text = datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"
