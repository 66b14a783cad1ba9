"""What becomes of what was noted when the process ends."""

from __future__ import annotations

from typing import Any

import trio

from proxy.observe.history import History
from proxy.process.remembering import Remembering
from proxy.session.flight import ENDED
from proxy.session.ids import LogicalSessionId
from proxy.session.store import SessionStore
from tests.session.sessions import ALICE, uuid


async def test_what_was_noted_is_kept_though_the_end_comes_while_it_is_collected(autojump_clock):
    history = History(trio.current_time, 1.0, 1 << 20)
    flight = history.flight("one")
    session = SessionStore().use(LogicalSessionId(uuid(1), ALICE), 0.0)
    assert session is not None
    kept: list[str] = []
    with trio.CancelScope() as scope:

        def tell(lives: Any, events: Any, _counted: Any) -> None:
            kept.extend(row[1] for row in (*events, *lives))
            if kept:
                scope.cancel()

        flight.happened("upstream_down", {})
        flight.session(ENDED, session, 1.0)
        await Remembering(history, [], tell).run()
    assert kept == ["upstream_down", ENDED]
