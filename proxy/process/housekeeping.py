"""What has to happen to sessions though nobody asks: forgetting them, ending late transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import trio

from policies.transaction_guard import TransactionGuard
from proxy.session.plans import abort_command

if TYPE_CHECKING:
    from proxy.conversation.desk import Sessions
    from proxy.conversation.rule import Overdue
    from proxy.upstream.facts import Upstreams
    from proxy.wire.replies import Reply

#: Seconds between two rounds.
INTERVAL: Final = 1.0

#: Sessions looked at in one go, which takes well under the 10 ms that the loop may be held.
_SLICE: Final = 500

#: NoSuchTransaction: it was gone already.
_GONE: Final = 251


class Asker(Protocol):
    """A connection that can put a question to its upstream."""

    def ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        """Send a command (BSON); ``handler`` gets the reply."""


#: Finds a connection to this upstream address that works as the owner of this digest.
FindIdle = Callable[[str, bytes], Asker | None]


async def keep_house(sessions: Sessions, upstreams: Upstreams, find_idle: FindIdle) -> None:
    """Sweep every :data:`INTERVAL` until cancelled."""
    while True:
        await trio.sleep(INTERVAL)
        sessions.store.timeout = upstreams.timeout_minutes * 60.0
        while sessions.store.expire(trio.current_time(), _SLICE).more:
            await trio.lowlevel.checkpoint()
        for rule in sessions.rules.enforced(TransactionGuard):
            for overdue in list(rule.overdue(sessions.store, trio.current_time())):
                _abort(sessions, overdue, find_idle)


def _abort(sessions: Sessions, overdue: Overdue, find_idle: FindIdle) -> None:
    """Abort one transaction upstream, as its owner; without a connection of theirs, later."""
    session, tracker = overdue.session, overdue.session.transaction
    if tracker is None:
        return
    asker = find_idle(tracker.upstream, session.owner.uid)
    if asker is None:
        return

    def aborted(reply: Reply, now: float) -> None:
        if reply.ok() or reply.integer(b"code") == _GONE:
            sessions.store.abort_transaction(session, now)
        sessions.recorder.aborted(overdue, reply.ok())

    asker.ask(abort_command(session.key, overdue.txn_number, session.owner.uid), aborted)
