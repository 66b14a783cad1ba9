"""Transactions that upstream has ended by itself, as it lets none be open for so long.

Upstream tells nobody. So one that is older than it can be is taken to have timed out, which is a
guess: what succeeds in it shows that it is open all the same, and it stays so from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from proxy.conversation.facts import UpstreamFacts
    from proxy.listing.sessions import Transacting
    from proxy.session.store import SessionStore

#: Seconds between two rounds.
INTERVAL: Final = 5.0

#: Upstream looks for those that are too old once in half of what they may be, within these bounds.
_OFTENEST: Final = 1.0
_SELDOMEST: Final = 60.0

#: Seconds more, for an upstream that is busy.
_MARGIN: Final = 5.0


def patience(lifetime: float) -> float:
    """After how many seconds it is over for all that is known, where it may be ``lifetime``."""
    return lifetime + min(max(lifetime / 2, _OFTENEST), _SELDOMEST) + _MARGIN


async def end_outlived(
    store: SessionStore, facts: Callable[[str], UpstreamFacts], own: Callable[[int], bool]
) -> None:
    """Note every :data:`INTERVAL` which transactions have timed out, until cancelled.

    Each of several processes does so for what its ``own`` connections have used last.
    """
    while True:
        await trio.sleep(INTERVAL)
        for some in store.open_transaction_sessions():
            now = trio.current_time()
            for one in some:
                tracker = one.transaction
                if tracker is None or not own(tracker.connection):
                    continue
                lifetime = facts(tracker.upstream).transaction_lifetime
                if lifetime is None or _is_running(one):
                    continue
                most = patience(lifetime)
                # What was used later than it could be has more time than is known.
                if now - tracker.started > most >= tracker.last_use - tracker.started:
                    store.transaction_timed_out(one, now)
            await trio.lowlevel.checkpoint()


def _is_running(one: Transacting) -> bool:
    """Whether a statement of the transaction is in flight, whose reply will tell."""
    activity = one.activity
    return activity is not None and any(
        operation.attempt is not None and operation.attempt.info.child == one.child
        for operation in activity.operations
    )
