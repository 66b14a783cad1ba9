"""When sessions are forgotten: ``timeout`` seconds after their last use, never sooner because they
were ended or killed.

There is no timer per session: sessions wait in lists by the second in which they may expire, and
:meth:`ExpiringStore.expire` looks at a bounded number of them per call.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.session.progress import TransactionStore
from proxy.session.transactions import State

if TYPE_CHECKING:
    from proxy.session.records import Session

#: The epoch of a session that is forgotten although its time has not come, and how many of them
#: may wait in one list.
_GONE: Final = -1
_FEW_GONE: Final = 100


class Swept(NamedTuple):
    """What one slice of the sweep did; ``more`` says that others are due at once."""

    forgotten: int
    more: bool


class ExpiringStore(TransactionStore):
    """Sessions that are forgotten in time."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self._due: dict[int, list[Session]] = {}
        self._seconds: list[int] = []
        #: How many that are forgotten are still in a second's list.
        self._gone: dict[int, int] = {}

    def forget(self, session: Session) -> bool:
        """Drop a session with all that belongs to it; False where that has happened already."""
        having = session.with_children
        if not self._remove(session):
            return False
        for one in having:
            tracker = one.transaction
            if tracker is not None and tracker.state is State.IN_PROGRESS:
                self._ended(one, tracker, "expired", tracker.last_use)
        return True

    def expire(self, now: float, budget: int = 500) -> Swept:
        """Forget what is past its time, looking at ``budget`` sessions at most.

        Call it again at once while ``more`` is true, with other work in between. A session
        leaves within a second of its time, if the calls come as often.
        """
        forgotten = 0
        while self._seconds and self._seconds[0] <= now:
            waiting = self._due[self._seconds[0]]
            while waiting:
                if not budget:
                    return Swept(forgotten, True)
                budget -= 1
                session = waiting.pop()
                deadline = session.last_use + self.timeout
                if deadline <= now and session.activity and session.activity.operations:
                    # As the server does at each flush: what is running is in use.
                    session.last_use = now
                    deadline = now + self.timeout
                if deadline > now:
                    self._await(session, deadline)
                elif self.forget(session):
                    forgotten += 1
                    self.counts.expired += 1
            self._forget_second()
        return Swept(forgotten, False)

    def longest_idle(self, size: int = 500) -> Iterator[Session | None]:
        """Search for the session that was used longest ago and has nothing running.

        Gives None after every ``size`` sessions, so that other work can be done in between, and
        last of all what was found: exact but for the second in which sessions wait together,
        and while the timeout stays what it is. What is looked at is put where it belongs, so
        that the next search is short.
        """
        busy: list[Session] = []
        found: Session | None = None
        budget = size
        try:
            while self._seconds and found is None:
                second = self._seconds[0]
                waiting = self._due[second]
                kept: list[Session] = []
                while waiting and budget:
                    budget -= 1
                    session = waiting.pop()
                    deadline = session.last_use + self.timeout
                    if session not in self.with_id(session.id):
                        continue
                    if math.ceil(deadline) > second:
                        self._await(session, deadline)
                    elif session.activity is not None and session.activity.operations:
                        busy.append(session)
                    else:
                        kept.append(session)
                        if found is None or session.last_use < found.last_use:
                            found = session
                waiting += kept
                if not waiting:
                    self._forget_second()
                if not budget and found is None:
                    yield None
                    budget = size
        finally:
            for session in busy:
                self._await(session, session.last_use + self.timeout)
        yield found

    # Inside

    def _leave(self, session: Session) -> None:
        """Do not keep a session that was not to be until its time would have come.

        Whoever is not let in can have many of them made. A list is searched through when half of
        it is left over from such.
        """
        second = math.ceil(session.first_use + self.timeout)
        waiting = self._due.get(second)
        if not waiting:
            return
        if waiting[-1] is session:
            waiting.pop()
            return
        session.epoch = _GONE
        gone = self._gone.get(second, 0) + 1
        if gone > _FEW_GONE and 2 * gone > len(waiting):
            waiting[:] = [one for one in waiting if one.epoch != _GONE]
            gone = 0
        self._gone[second] = gone

    def _forget_second(self) -> None:
        second = heappop(self._seconds)
        del self._due[second]
        self._gone.pop(second, None)

    def _await(self, session: Session, deadline: float) -> None:
        self._waiting(deadline).append(session)

    def _waiting(self, deadline: float) -> list[Session]:
        """Those that are looked at again when ``deadline`` has passed."""
        second = math.ceil(deadline)
        waiting = self._due.get(second)
        if waiting is None:
            waiting = self._due[second] = []
            heappush(self._seconds, second)
        return waiting
