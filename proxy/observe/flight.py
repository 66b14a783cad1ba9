"""Notes what becomes of sessions while messages pass: a tuple each, made into rows later.

To note takes less than half a microsecond; the rest is done some times a second, in slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from proxy.counting import OTHER
from proxy.session.flight import BEGUN, OVER, STARTED
from proxy.session.ids import Origin
from proxy.texts import MOST_SHOWN, shown

if TYPE_CHECKING:
    from proxy.session.records import Child, Owner, Session

#: What is remembered of one event: when (milliseconds since 1970), what, in which cluster, whose
#: (user, application, driver, its version, client), of which session (its UUID in hex, "" for
#: none), and what else there is to say.
Row = tuple[int, str, str, str, str, str, str, str, str, Any]

#: What there is to say of a transaction, in this order; of one that has begun the first.
OF_TRANSACTION: Final = ("transaction", "outcome", "seconds", "statements")

#: Events that may wait to be made into rows; at 200 bytes each, 10 MB.
MOST_WAITING: Final = 50_000
#: Of what happens to requests, as often as clients like, so many different ones are told apart
#: between two times that rows are made.
MOST_APART: Final = 100

#: Rows made in one go, which takes half a millisecond.
_SLICE: Final = 500

#: What tells events apart beside what happened to whom.
_APART: Final = ("rule", "kind", "upstream", "command", "namespace")

#: Of what the audit log has of an operator's doing, what is remembered.
_OF_OPERATOR: Final = (
    *("conn", "operator", "upstream", "command", "reason", "targets", "meant", "txn_number"),
)

_NOBODY: Final = ("", "", "", "")


class Happened:
    """Something that may happen again at once, and is then the same event."""

    __slots__ = ("count", "first", "more")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.first = now
        self.more: dict[str, Any] = {}


class FlightLog:
    """A cluster's :class:`proxy.session.flight.Flight`, and the same for what befalls requests."""

    def __init__(
        self, clock: Callable[[], float], cluster: str = "", *, whole: bool = True
    ) -> None:
        self._clock = clock
        self._cluster = cluster
        #: Whether all sessions are seen here: what each of several processes sees of the same
        #: session, its first use and the ends that come with time, is told by who sees all.
        self._whole = whole
        self._waiting: list[tuple[Any, ...]] = []
        #: Transactions that have begun, by session and txnNumber.
        self._begun: dict[tuple[bytes, int], tuple[Any, ...]] = {}
        self._happened: dict[tuple[Any, ...], Happened] = {}
        self._acts = 0
        #: Events that found no room.
        self.lost = 0

    # ------------------------------------------------------------------ sessions

    def session(self, event: str, session: Session, now: float) -> None:
        if event == STARTED and not self._whole:
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(
                (now, event, session.owner.name, session.group.origin, session.id, None)
            )
        else:
            self.lost += 1

    def begun(self, one: Session | Child, number: int, now: float) -> None:
        if len(self._begun) < MOST_WAITING:
            self._begun[one.id, number] = (now, BEGUN, one.owner.name, one.group.origin, one.id)
        else:
            self.lost += 1

    def over(
        self,
        one: Session | Child,
        number: int,
        now: float,
        outcome: str,
        seconds: float,
        statements: int,
    ) -> None:
        if outcome == "expired" and not self._whole:
            return
        # Of one that is over before anybody was told of it, its end says all.
        self._begun.pop((one.id, number), None)
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((
                now, OVER, one.owner.name, one.group.origin, one.id,
                [number, outcome, seconds, statements],
            ))  # fmt: skip
        else:
            self.lost += 1

    def all_killed(self, owner: Owner | None, sessions: int, now: float) -> None:
        name = "" if owner is None else owner.name
        whose = {"everybody": True} if owner is None else {}
        self.happened("sessions_killed", {"sessions": sessions, **whose}, name)

    # ------------------------------------------------------------------ what befalls requests

    def happened(
        self,
        event: str,
        more: dict[str, Any],
        user: str = "",
        origin: Origin | None = None,
        act: int = 0,
    ) -> None:
        """Something else has happened, of which ``more`` says what JSON can hold. ``act`` numbers
        what operators do, each of which is an event of its own.

        What repeats itself at once becomes one event, with the latest of that and a count; events
        of another :data:`_APART` are others. ``session`` is a UUID in hex.
        """
        who = _NOBODY if origin is None else _of(origin)
        apart = [more.get(name) for name in _APART]
        key: tuple[Any, ...] = (event, user, *who, *apart, act)
        same = self._happened.get(key)
        if same is None:
            if len(self._happened) >= MOST_APART:
                key = (event, OTHER, *_NOBODY, *apart)
            same = self._happened.setdefault(key, Happened(self._clock()))
        same.count += 1
        same.more = more

    def acted(self, line: Mapping[str, Any]) -> None:
        """An operator has done what a line of the audit log says; the client is the operator's.
        What has gone well of a kill, owner by owner, is told by the line for all of it."""
        command = str(line["command"])
        if command == "killSessions" and line["decision"] == "done":
            return
        more = {"kind": line["decision"], **{name: line.get(name) for name in _OF_OPERATOR}}
        if "session" in line:
            more["session"] = str(line["session"]).replace("-", "")[:32]
        origin = Origin(line.get("client") or "", line.get("application") or "")
        whose = line.get("owner") or line.get("user") or ""
        self._acts += 1
        event = "kill" if command.startswith("kill") else command
        self.happened(event, more, whose, origin, self._acts)

    # ------------------------------------------------------------------ rows

    def __bool__(self) -> bool:
        return bool(self._waiting or self._begun or self._happened)

    def rows(self, epoch: float) -> Iterator[tuple[list[Row], list[Row]]]:
        """What was noted since the last time, some at a time: of sessions' lives, and of the rest.

        ``epoch`` is when the clock stood at 0, in seconds since 1970.
        """
        happened, self._happened = self._happened, {}
        waiting, self._waiting = self._waiting, []
        begun, self._begun = self._begun, {}
        waiting += [(*one, [number]) for (_, number), one in begun.items()]
        cluster = self._cluster
        rare = [self._rare(key, one, epoch) for key, one in happened.items()]
        if rare:
            yield [], rare
        for start in range(0, len(waiting), _SLICE):
            some = waiting[start : start + _SLICE]
            yield [_life(one, cluster, epoch) for one in some], []

    def _rare(self, key: tuple[Any, ...], one: Happened, epoch: float) -> Row:
        event, user, application, driver, version, client = key[:6]
        more = {name: _short(value) for name, value in one.more.items() if value is not None}
        session = more.pop("session", "")
        if one.count > 1:
            more["count"] = one.count
        who = map(shown, (user, application, driver, version, client))
        return (int((one.first + epoch) * 1000), event, self._cluster, *who, session, more or None)


def _short(value: Any) -> Any:  # noqa: ANN401 - whatever JSON can hold
    return shown(value) if isinstance(value, str) else value


def _life(one: tuple[Any, ...], cluster: str, epoch: float) -> Row:
    now, event, user, origin, session, more = one
    who = _who(user, origin) if len(user) <= MOST_SHOWN else _who.__wrapped__(user, origin)
    return (int((now + epoch) * 1000), event, cluster, *who, session.hex(), more)


@lru_cache(1000)
def _who(user: str, origin: Origin) -> tuple[str, str, str, str, str]:
    """What clients say of themselves is a few hundred bytes, and steers no terminal."""
    application, driver, version, client = map(shown, _of(origin))
    return shown(user), application, driver, version, client


def _of(origin: Origin) -> tuple[str, str, str, str]:
    return origin.application, origin.driver, origin.driver_version, origin.client
