"""The cursors of a transaction that an operator has ended."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.session.records import CursorId
from tests.admin.endpoint import UPSTREAM, FakeAsker, FakeState
from tests.admin.test_actions import ALICE, ONE, act, asked, open_one


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ({"ok": 1.0, "cursorsKilled": [7], "cursorsNotFound": []}, [6, 8, 9]),
        ({"ok": 0.0, "code": 13}, [6, 7, 8, 9]),
    ],
)
async def test_they_are_killed_behind_it(answer: dict[str, Any], left: list[int]) -> None:
    state = FakeState()
    asker = FakeAsker({"ok": 1.0}, answer)
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state)
    for number, where, within in (
        (6, UPSTREAM, -1),
        (7, UPSTREAM, 5),
        (8, UPSTREAM, 4),
        (9, "other:1", 5),
    ):
        state.store.cursor_opened(CursorId(where, number), session, "a.b", 1.0, 7, within)
    done = await act(state, "abort", session=ONE)
    assert (done["outcome"], done["problem"]) == ("aborted", "")
    assert asked(asker)[1:] == [{"killCursors": "b", "cursors": [7], "$db": "a"}]
    assert session.activity is not None
    assert sorted(cursor.id for cursor in session.activity.cursors) == left


async def test_those_of_one_that_goes_on_are_spared() -> None:
    state = FakeState()
    asker = FakeAsker({"ok": 0.0, "code": 13})
    state.asking = {UPSTREAM: {ALICE: asker}}
    session = open_one(state)
    state.store.cursor_opened(CursorId(UPSTREAM, 7), session, "a.b", 1.0, 7, 5)
    done = await act(state, "abort", session=ONE)
    assert (done["outcome"], len(asker.asked)) == ("failed", 1)
    assert state.store.open_cursors() == 1
