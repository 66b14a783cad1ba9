from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

import pytest

from proxy.admin.history import EVENTS, Remembered
from proxy.admin.http import Asked
from proxy.admin.pages import pages
from proxy.admin.process import Process
from proxy.admin.query import QueryError
from proxy.observe.history import History, Sample
from proxy.observe.telemetry import Telemetry
from tests.admin.endpoint import FakeState

#: 2026-03-02 03:00 UTC, and an hour later it is asked.
THREE = 1772420400
NOW = THREE + 3600
SESSION = UUID(int=5)


def row(second: float, event: str, *more: Any, user: str = "shop@admin", **what: Any) -> Any:
    who = (user, "shop", "PyMongo", "4.20", "10.0.0.1")
    session = SESSION.hex if event.startswith(("session", "transaction")) else ""
    at = int((THREE + second) * 1000)
    return (at, event, what.pop("cluster", ""), *who, session, list(more) or what or None)


def remembered() -> tuple[History, Remembered]:
    history = History(lambda: 0.0, 24, 1 << 20)
    return history, Remembered(history, clock=lambda: NOW)


async def ask(one: Remembered, **fields: str) -> dict[str, Any]:
    answer = await one.answer({"since": "03:00", "until": "03:20"} | fields)
    json.dumps(answer)
    return answer


async def test_what_happened_in_a_stretch_of_time() -> None:
    history, asked = remembered()
    lives = [
        row(-1, "session_started"),
        row(60, "session_started"),
        row(62, "transaction_ended", 3, "committed", 1.5, 2),
        row(61, "transaction_started", 4),
        row(1300, "session_ended"),
    ]
    history.add(lives, [row(61.5, "refused", rule="session_budget", reason="full", count=7)])
    answer = await ask(asked)
    assert [one["event"] for one in answer["events"]] == [
        *("session_started", "transaction_started", "refused", "transaction_ended")
    ]
    assert answer["events"][0] == {
        "time": "2026-03-02T03:01:00.000Z",
        "event": "session_started",
        "user": "shop@admin",
        "application": "shop",
        "driver": "PyMongo",
        "driver_version": "4.20",
        "client": "10.0.0.1",
        "session": str(SESSION),
    }
    assert answer["events"][1]["transaction"] == 4
    assert answer["events"][2]["reason"] == "full"
    ended = answer["events"][3]
    assert (ended["outcome"], ended["seconds"], ended["statements"]) == ("committed", 1.5, 2)
    assert answer["counts"] == {
        **{"refused": 7, "session_started": 1},
        **{"transaction_started": 1, "transaction_ended": 1},
    }
    assert (answer["matched"], answer["next"]) == (4, None)
    assert answer["remembered_since"] == "2026-03-02T02:59:59.000Z"


@pytest.mark.parametrize(
    ("fields", "matched"),
    [
        ({"user": "shop*"}, 2),
        ({"user": "SHOP@admin"}, 2),
        ({"user": "web@admin"}, 1),
        ({"application": "shop", "driver": "py*", "client": "10.*"}, 3),
        ({"event": "session_*"}, 2),
        ({"event": "kill, refused"}, 1),
        ({"event": "!session_*"}, 1),
        ({"event": "!session_started, !refused"}, 1),
        ({"event": "session_*,!session_ended"}, 1),
        ({"event": "refused,! refused"}, 0),
        ({"application": "!shop"}, 0),
        ({"session": str(SESSION)}, 2),
        ({"session": str(SESSION)[:8]}, 2),
        ({"session": "ffff"}, 0),
        ({"text": "OWNERSHIP"}, 1),
        ({"cluster": "web"}, 1),
        ({"cluster": ""}, 2),
    ],
)
async def test_only_what_matches(fields: dict[str, str], matched: int) -> None:
    history, asked = remembered()
    history.add(
        [row(1, "session_started"), row(2, "session_ended", user="web@admin", cluster="web")],
        [row(3, "refused", rule="ownership")],
    )
    assert (await ask(asked, **fields))["matched"] == matched


@pytest.mark.parametrize("sort", ["time", "-time"])
async def test_page_by_page(sort: str) -> None:
    history, asked = remembered()
    for first in range(0, 1000, 100):
        history.add([row(one / 10, "session_started") for one in range(first, first + 100)], [])
    seen: list[str] = []
    skip: int | None = 0
    while skip is not None:
        answer = await ask(asked, limit="300", skip=str(skip), sort=sort)
        assert answer["matched"] == 1000
        seen += [one["time"] for one in answer["events"]]
        skip = answer["next"]
    assert len(seen) == 1000
    assert seen == sorted(seen, reverse=sort == "-time")


@pytest.mark.parametrize(("sort", "first", "last"), [("time", 0, 1), ("-time", 19_999, 19_998)])
async def test_of_more_than_are_kept_those_that_are_asked_for(
    sort: str, first: int, last: int
) -> None:
    history, asked = remembered()
    for begin in range(0, 20_000, 100):
        history.add(
            [row(one / 1000, "slow", client=str(one)) for one in range(begin, begin + 100)], []
        )
    answer = await ask(asked, limit="2", sort=sort)
    assert answer["matched"] == 20_000
    assert [one["client"] for one in answer["events"]] == [str(first), str(last)]


async def test_a_transaction_that_was_open_all_the_while_is_named() -> None:
    history, asked = remembered()
    history.add(
        [
            row(1300, "transaction_ended", 3, "aborted", 1299.0, 1),
            row(1301, "transaction_ended", 4, "aborted", 5.0, 1),
            row(1302, "transaction_ended", 5, "committed", -1.0, 0),
        ],
        [],
    )
    answer = await ask(asked)
    assert answer["events"] == []
    assert [one["transaction"] for one in answer["open_meanwhile"]] == [3]


async def test_lines_have_so_many_points_and_no_peak_is_lost() -> None:
    history, asked = remembered()
    history.sample(
        [
            Sample((THREE + 10 * n) * 1000, "", n == 50, n == 51, 0, 9, 10, 1, n == 52, 1)
            for n in range(120)
        ]
    )
    answer = await ask(asked, points="12")
    lines = answer["samples"]
    assert (len(lines), answer["step_seconds"]) == (12, 100.0)
    assert [one["sessions"] for one in lines].count(1) == 1
    assert [one["transactions"] for one in lines].count(1) == 1
    assert {one["requests"] for one in lines} == {100}
    assert sum(one["refused"] for one in lines) == 1
    assert lines[0]["time"] == "2026-03-02T03:00:00.000Z"


async def test_lines_of_clusters_add_up() -> None:
    history, asked = remembered()
    for second in (0, 10):
        history.sample(
            [Sample((THREE + second) * 1000, one, 5, 0, 0, 0, 1, 0, 0, 0) for one in "ab"]
        )
    [line] = (await ask(asked, points="1"))["samples"]
    assert (line["sessions"], line["requests"]) == (10, 4)
    [line] = (await ask(asked, points="1", cluster="a"))["samples"]
    assert (line["sessions"], line["requests"]) == (5, 2)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"since": "soon"}, "since: should be a time"),
        ({"until": "2026-03-01"}, "until: is before since"),
        ({"session": "xyz"}, "session: has to be an id"),
        ({"session": "ab"}, "session: has to be an id"),
        ({"limit": "many"}, "limit: has to be a number"),
        ({"sort": "age"}, "sort: age is not one of time, -time"),
        ({"owner": "x"}, "owner: no such filter; there are event, cluster, user"),
    ],
)
async def test_what_is_wrong_is_said(fields: dict[str, str], problem: str) -> None:
    _, asked = remembered()
    with pytest.raises(QueryError) as error:
        await ask(asked, **fields)
    assert problem in str(error.value)


async def asked_for(overview: Process, target: str) -> tuple[int, str]:
    answer = await pages(overview)["/history"].make(Asked(dict(parse_qsl(target))))
    return answer.status, answer.body.decode()


async def test_the_page() -> None:
    history, asked = remembered()
    history.add([row(1, "session_started")], [])
    overview = Process(FakeState(), Telemetry("1"), executes=False)
    status, text = await asked_for(overview, "")
    assert (status, text) == (400, "history: is off, by the setting history.hours = 0\n")
    overview.remembered = asked
    status, text = await asked_for(overview, "since=03:00&until=03:20")
    assert (status, json.loads(text)["matched"]) == (200, 1)
    status, text = await asked_for(overview, "owner=x")
    assert (status, "no such filter" in text) == (400, True)


def test_the_events_are_those_that_are_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operation.md").read_text()
    table = text.split("| event | what it says |")[1].split("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()]
    said = [name for cell in cells for name in re.findall("`([a-z_]+)`", cell)]
    assert sorted(said) == sorted(EVENTS)


async def test_an_event_that_there_is_not_is_said() -> None:
    _, one = remembered()
    with pytest.raises(
        QueryError, match=r"event: 'transactoin' is none of session_started, .*did you mean tr"
    ):
        await ask(one, event="kill,transactoin")
