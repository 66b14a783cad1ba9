from __future__ import annotations

from proxy.logs import SELDOM_SECONDS
from proxy.observe.refusals import MOST_LINES, Refusals, Whose

SHOP = Whose("refused", "session_budget", "alice@app", "shop")


def test_an_account_counts_and_has_what_came_last() -> None:
    refusals = Refusals()
    refusals.note(SHOP, {"conn": 1})
    refusals.note(SHOP, {"conn": 2})
    row = refusals.row(SHOP)
    assert (row["count"], row["conn"]) == (2, 2)
    assert row["first"] <= row["last"]
    assert refusals.row(SHOP._replace(user="bob@app")) == {}


def test_accounts_are_bounded_and_who_came_last_stays() -> None:
    refusals = Refusals(most=3)
    for number in range(10):
        refusals.note(SHOP, {})
        refusals.note(SHOP._replace(application=str(number)), {})
    assert len(refusals.told()) == 3
    assert refusals.row(SHOP)["count"] == 10


def test_the_log_has_one_line_in_a_while_for_each_and_few_for_all() -> None:
    refusals = Refusals()
    account = refusals.note(SHOP, {})
    assert refusals.may_say(account, 100.0)
    assert not refusals.may_say(refusals.note(SHOP, {}), 101.0)
    assert not refusals.may_say(refusals.note(SHOP, {}), 102.0)
    assert account.left_out == 2
    others = [refusals.note(SHOP._replace(application=str(n)), {}) for n in range(3 * MOST_LINES)]
    assert sum(refusals.may_say(one, 103.0) for one in others) == MOST_LINES - 1
    assert refusals.may_say(account, 101.0 + SELDOM_SECONDS)


def test_another_reason_is_said_at_once() -> None:
    refusals = Refusals()
    for bound, now, said in (
        ("per_user", 100.0, True),
        ("per_user", 101.0, False),
        ("per_application", 102.0, True),
        ("per_application", 103.0, False),
        ("per_user", 104.0, False),
        ("per_user", 102.0 + SELDOM_SECONDS, True),
    ):
        account = refusals.note(SHOP, {"error": "261", "bound": bound})
        assert refusals.may_say(account, now) is said, (bound, now)


def test_bounds_are_the_latest_and_say_since_when() -> None:
    worker, whole = Refusals(), Refusals()
    worker.note(SHOP, {"bound": "per_user", "limit": 5})
    first = worker.told()[0][1][1]
    whole.hear(0, worker.told())
    # Sessions that are used as none should be have no rule, and no bound.
    whole.note(Whose("shared", "", "alice@app", "shop"), {})
    whole.note(SHOP, {"bound": "bounds[0].per_user", "limit": 1_000_000})
    assert whole.bounds(20) == {(*SHOP, "bounds[0].per_user", "1000000"): first}
    for number in range(3):
        whole.note(SHOP._replace(rule="ownership", user=str(number)), {"bound": None})
    latest = whole.bounds(2)
    assert len(latest) == 2
    assert {one[4:] for one in latest} == {("", "")}
    whole.note(SHOP, {"bound": "seconds", "limit": 0.5})
    assert (*SHOP, "seconds", "0.5") in whole.bounds(1)
    whole.note(SHOP, {"bound": "hours", "limit": "9 to 17"})
    assert (*SHOP, "hours", "9 to 17") in whole.bounds(1)


def test_what_workers_say_adds_up_and_outlives_them() -> None:
    worker, whole = Refusals(), Refusals()
    for number in range(3):
        worker.note(SHOP, {"conn": number})
    whole.note(SHOP, {"conn": 9})
    whole.hear(0, worker.told())
    whole.hear(0, worker.told())
    whole.hear(1, worker.told())
    assert whole.row(SHOP)["count"] == 7
    # The one in its place begins anew.
    worker = Refusals()
    worker.note(SHOP, {"conn": 5})
    whole.hear(0, worker.told())
    assert whole.row(SHOP)["count"] == 8
    whole.hear(0, [])
    assert whole.row(SHOP)["count"] == 8


def test_reasons_of_one_account_are_told_apart_and_none_hides_another() -> None:
    worker, whole = Refusals(), Refusals()
    for number in range(3):
        worker.note(SHOP, {"reason": f"{number} of 3", "bound": "per_user", "command": "find"})
    whole.note(SHOP, {"reason": "too many", "bound": "per_application", "command": "find"})
    whole.note(SHOP, {"reason": "3 of 3", "bound": "per_user", "limit": 3, "command": "find"})
    whole.hear(0, worker.told())
    row = whole.row(SHOP)
    assert (row["count"], row["reason"], row["limit"]) == (5, "3 of 3", 3)
    [before] = row["before"]
    assert before.pop("last") == row["last"]
    assert before == {
        **{"count": 1, "reason": "too many", "bound": "per_application", "command": "find"},
    }
    for number in range(20):
        whole.note(SHOP, {"reason": "why " * number, "command": str(number)})
    assert [one["command"] for one in whole.row(SHOP)["before"]] == ["18", "17", "16", "15"]


def test_what_a_worker_said_long_ago_is_not_the_latest() -> None:
    worker, whole = Refusals(), Refusals()
    worker.note(SHOP, {"reason": "old", "command": "find"})
    whole.note(SHOP, {"reason": "new", "command": "insert"})
    whole.hear(0, worker.told())
    whole.hear(0, [])
    row = whole.row(SHOP)
    assert (row["reason"], [one["reason"] for one in row["before"]]) == ("new", ["old"])
