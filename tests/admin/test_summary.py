from __future__ import annotations

from typing import Any

import pytest
import trio

from policies.session_budget import SessionBound, SessionBudget
from proxy.admin.summary import group_row, groups, summary
from proxy.session.store import SessionStore
from tests.admin.endpoint import FakeState


def budget(*numbers: int, **settings: Any) -> SessionBudget:
    return SessionBudget(SessionBudget.Settings(*numbers, **settings))


async def test_nothing_is_no_time_old() -> None:
    seen = await summary(SessionStore(), 1_000.0)
    assert {name: value for name, value in seen.items() if value} == {"sessions_limit": 1_000_000}


async def test_nobody_has_no_groups() -> None:
    assert await groups(SessionStore(), budget(5, 5)) == []


async def test_groups_differ_by_owner_application_driver_and_version_only() -> None:
    state = FakeState()
    state.add(1, client="10.0.0.1", age=10)
    state.add(2, client="10.0.0.2", age=90)
    state.add(3, application="other")
    state.add(4, driver="nodejs")
    state.add(5, "bob@admin")
    now = trio.current_time()
    rows = [group_row(one, now) for one in reversed(await groups(state.store, budget()))]
    assert [row["sessions"] for row in rows] == [2, 1, 1, 1]
    assert rows[0]["oldest_seconds"] >= 90
    assert [row["application_sessions"] for row in rows] == [4, 1, 4, 4]


async def test_groups_are_bounded_and_the_rest_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.admin.summary.MOST_GROUPS", 3)
    state = FakeState()
    for number in range(10):
        state.add(number, application=f"app{number}")
    found = await groups(state.store, budget())
    assert sorted(one.sums.sessions for one in found) == [1, 1, 1, 7]
    assert [one.application for one in found if one.sums.sessions == 7] == ["other"]


async def test_sessions_of_nobody_have_no_budget_of_a_users() -> None:
    state = FakeState()
    state.add(1, "")
    (group,) = await groups(state.store, budget(5))
    row = group_row(group, trio.current_time())
    assert (row["owner"], row["budget_used"]) == ("", None)


async def test_groups_show_what_is_live_and_what_is_known_and_the_bound_that_is_nearest() -> None:
    state = FakeState()
    for number in range(4):
        state.add(number)
    for number in range(4, 6):
        state.add(number, "bob@admin")
    keys = [one.key for one in state.store.page().sessions if one.owner.name == "alice@admin"]
    state.store.end(keys[:3], trio.current_time())
    rule = budget(10, bounds=(SessionBound(users=("BOB@*",), per_user=2),))
    now = trio.current_time()
    rows = {one.owner: group_row(one, now) for one in await groups(state.store, rule)}
    alice, bob = rows["alice@admin"], rows["bob@admin"]
    assert (alice["live"], alice["sessions"], alice["owner_live"]) == (1, 4, 1)
    assert (alice["budget_used"], alice["bound"], alice["limit"]) == (0.1, "per_user", 10)
    assert (alice["application_live"], alice["application_sessions"]) == (3, 6)
    assert (bob["budget_used"], bob["bound"], bob["used"]) == (1.0, "bounds[0].per_user", 2)
    assert (await summary(state.store, now))["sessions_live"] == 3
