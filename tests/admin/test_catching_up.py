"""What other processes have not told yet is known before somebody hears that it is not there."""

from __future__ import annotations

from uuid import UUID

import pytest

from proxy.admin.query import QueryError
from tests.admin.endpoint import TOKEN, UPSTREAM, FakeAsker, FakeState, asking
from tests.admin.test_actions import ALICE, ONE, act, connection, open_one


@pytest.mark.parametrize("known", [True, False])
async def test_what_began_a_moment_ago_in_another_process_is_found(known: bool) -> None:
    state = FakeState()
    state.asking = {UPSTREAM: {ALICE: FakeAsker()}}
    if known:
        state.add(1)
    state.untold = lambda: open_one(state)
    done = await act(state, "abort", session=ONE)
    assert done["outcome"] == "aborted"
    state.untold = lambda: state.add(2, command="find")
    state.open[7] = connection()
    done = await act(state, "interrupt", session=str(UUID(int=2)))
    assert (done["connection"]["conn"], done["outcome"]) == (7, "closed")
    state.untold = lambda: None
    with pytest.raises(QueryError, match="no such session"):
        await act(state, "abort", session=str(UUID(int=3)))


async def test_a_session_that_began_a_moment_ago_in_another_process_is_known() -> None:
    state = FakeState()
    state.untold = lambda: state.add(1)
    body = {"sessions": [str(UUID(int=1)), str(UUID(int=2))]}
    async with asking(state, token=lambda: [("", TOKEN)]) as client:
        _, seen = await client.kill(body)
    assert (seen["matched"], seen["unknown"]) == (1, [str(UUID(int=2))])
