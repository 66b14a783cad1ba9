"""What is noted of one client connection's session commands, while they are carried out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.session.plans import Plan, committing, note
from proxy.session.promises import Promise

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
        if not part.kills:
            return self.done(part, now)
        steps = committing(
            part, self._store, now, upstream=self._upstream, origin=self._tracking.origin
        )
        return (yield from self.noted(steps))

    def done(self, part: Plan, now: float) -> int:
        """As :meth:`doing`, of what is no kill."""
        store, before = self._store, self._store.live()
        note(part, store, now, self._tracking.origin, self._sent_at)
        self._sent = None
        if self._promised is not None:
            store.promise(self._promised, min(0, before - store.live()))
        return len(part.lsids)

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
            self.done(sent if sent.creates_sessions else replace(sent, lsids=()), now)
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
