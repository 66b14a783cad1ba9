"""What is noted of one client connection's session commands, while they are carried out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.session.ids import OwnedKeys
from proxy.session.plans import Plan, committing, note
from proxy.session.promises import Promise
from proxy.session.steps import MANY

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Iterator

    from proxy.conversation.tracking import Tracking
    from proxy.session.steps import Steps
    from proxy.session.store import SessionStore


def _finding(steps: Steps[int], found: list[int]) -> Iterator[None]:
    found.append((yield from steps))


class Noting:
    """Tells the store what has succeeded, part by part. What of that is not over when the
    connection ends is left in ``unfinished``, for somebody else to go on with."""

    def __init__(
        self,
        store: SessionStore,
        unfinished: deque[Iterator[None]],
        tracking: Tracking,
        upstream: str,
    ) -> None:
        self._store = store
        self._unfinished = unfinished
        self._tracking = tracking
        self._upstream = upstream
        #: What a session command is about to make, and which part of it waits for its reply.
        self._promised: Promise | None = None
        self._sent: Plan | None = None
        self._sent_at = 0.0
        #: What upstream has done and is being noted.
        self._noting: Iterator[None] | None = None

    def promise(self, plan: Plan) -> None:
        """Count the sessions that a command is about to make, until they are there or refused.

        Only if a rule has counted them; without limits nobody asks.
        """
        if plan.takes:
            self._promised = Promise(plan.caller.name, self._tracking.origin.application)
            self._store.promise(self._promised, plan.takes)

    def sends(self, part: Plan, now: float) -> None:
        """One of a command's parts goes upstream."""
        if not part.kills:
            self._sent, self._sent_at = part, now

    def doing(self, part: Plan, now: float) -> Steps[int]:
        """Upstream has carried out a part; returns how many known sessions it means."""
        if part.kills:
            steps = committing(
                part, self._store, now, upstream=self._upstream, origin=self._tracking.origin
            )
        elif len(part.lsids) > MANY:
            steps = self._in_slices(part, now)
        else:
            return self.done(part, now)
        return (yield from self.noted(steps))

    def done(self, part: Plan, now: float) -> int:
        """As :meth:`doing`, of what is no kill and not long."""
        self._note(part, now, self._sent_at, self._promised)
        self._sent = None
        return len(part.lsids)

    def _in_slices(self, part: Plan, now: float) -> Steps[int]:
        """As :meth:`done`, of all that a command means, in steps: where upstream lacks the session
        commands, it goes there at once. What was promised is kept when they are over."""
        asked, promised = self._sent_at, self._promised
        self._sent = self._promised = None
        return self._slices(part, now, asked, promised)

    def _slices(self, part: Plan, now: float, asked: float, promised: Promise | None) -> Steps[int]:
        lsids = part.lsids if isinstance(part.lsids, OwnedKeys) else tuple(part.lsids)
        for start in range(0, len(lsids), MANY):
            if start:
                yield
            own = None if start else part.own_lsid
            some = replace(part, lsids=lsids[start : start + MANY], own_lsid=own)
            self._note(some, now, asked, promised)
        if promised is not None:
            self._store.promise(promised, -promised.left)
        return len(lsids)

    def _note(self, part: Plan, now: float, asked: float, promised: Promise | None) -> None:
        store, before = self._store, self._store.live()
        note(part, store, now, self._tracking.origin, asked)
        if promised is not None:
            store.promise(promised, min(0, before - store.live()))

    def kept(self) -> None:
        """The command is over: what it has not made it will not make."""
        self._sent = None
        if self._promised is not None:
            self._store.promise(self._promised, -self._promised.left)
            self._promised = None

    def closed(self, now: float) -> None:
        """The connection is over. What was sent and not answered may have made its sessions, but
        has ended none as far as anybody knows."""
        sent = self._sent
        if sent is not None:
            if not sent.creates_sessions:
                sent = replace(sent, lsids=())
            if len(sent.lsids) > MANY:
                self._unfinished.append(self._in_slices(sent, now))
            else:
                self.done(sent, now)
        if self._noting is not None:
            self._unfinished.append(self._noting)
        self.kept()

    def noted(self, steps: Steps[int]) -> Steps[int]:
        """As ``steps``, which are gone to the end even if the connection ends before."""
        found: list[int] = []
        noting = self._noting = _finding(steps, found)
        for _ in noting:
            yield
        self._noting = None
        return found[0]
