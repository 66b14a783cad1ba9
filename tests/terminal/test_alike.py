from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from proxy.terminal.alike import alike, told
from proxy.terminal.printable import width
from tests.terminal.rows import HOSTILE, event
from tests.terminal.test_history import document, run

REASON = "user carol@admin has 20 of 20 sessions and asks for another one"


def at(second: int, name: str, **more: object) -> dict[str, object]:
    return event(name, time=f"2026-03-02T03:12:{second:02d}.000Z", **more)


def refused(second: int, **more: object) -> dict[str, object]:
    said = {"rule": "session_budget", "reason": REASON, "command": "find", "bound": "per_user"}
    return at(second, "refused", **(said | more))


EVENTS = [
    refused(1, count=9),
    at(2, "upstream_down", upstream="db1:27017", problem="Connection refused", user="",
       application=""),
    refused(3, command="insert"),
    refused(4, user="bob@admin", rule=None),
    at(5, "transaction_ended", transaction=3, outcome="committed", seconds=1.5, statements=2),
    at(6, "transaction_ended", transaction=4, outcome="aborted", seconds=9.0, statements=1),
    at(7, "transaction_ended", transaction=5, outcome="committed", seconds=0.5, statements=2),
]  # fmt: skip


def when(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_events_that_are_alike_are_one_row() -> None:
    rows = alike(EVENTS)
    assert [(row["event"], row["user"], row["count"], row["first"][17:19], row["last"][17:19])
            for row in rows] == [
        ("refused", "shop@admin", 10, "01", "03"),
        ("upstream_down", "", 1, "02", "02"),
        ("refused", "bob@admin", 1, "04", "04"),
        ("transaction_ended", "shop@admin", 2, "05", "07"),
        ("transaction_ended", "shop@admin", 1, "06", "06"),
    ]  # fmt: skip
    assert rows[0]["latest"]["command"] == "insert"


@pytest.mark.parametrize("cells", [60, 80, 132, None])
def test_who_what_how_often_and_why_is_said_at_any_width(cells: int | None) -> None:
    lines = told(alike(EVENTS), when, cells)
    assert cells is None or max(map(width, lines)) <= cells
    text = " ".join(" ".join(lines).split())
    for one in ("03:12:01", "03:12:03", " 10 ", "refused by session_budget", "refused by the proxy",
                "upstream down", "transaction committed", "shop@admin", REASON, "bob@admin",
                "Connection refused", "insert refused by session_budget"):  # fmt: skip
        assert one in text, one
    assert "find refused by session_budget" not in text


def test_of_several_proxies_it_says_at_which() -> None:
    both = [refused(1, proxy="127.0.0.1:1"), refused(2, proxy="127.0.0.1:2")]
    one = refused(3, proxy="127.0.0.1:2", user="bob@admin")
    two = refused(4, proxy="127.0.0.1:1", user="eve@admin")
    rows = alike([*both, one, two])
    assert [row["proxies"] for row in rows] == [
        ["127.0.0.1:1", "127.0.0.1:2"], ["127.0.0.1:2"], ["127.0.0.1:1"],
    ]  # fmt: skip
    _, first, second, third = (line for line in told(rows, when, 400) if line)
    assert (" 2 proxies " in first, " :2 " in second, " :1 " in third) == (True, True, True)


def test_the_command_gathers_all_of_the_stretch(capsys: pytest.CaptureFixture[str]) -> None:
    status, asked = run(document(*EVENTS), "--since", "03:00", "--alike", "--utc")
    assert status == 0
    assert asked[0]["limit"] == "10000"
    out = capsys.readouterr().out.splitlines()
    assert out[0].split()[:4] == ["FIRST", "LAST", "TIMES", "WHAT"]
    assert len(out) == 6


def test_json_has_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    run(document(*EVENTS), "--alike", "--json")
    found = json.loads(capsys.readouterr().out)
    assert [row["count"] for row in found["alike"]] == [10, 1, 1, 2, 1]


def test_names_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bad = event("refused", user=HOSTILE, rule=HOSTILE, reason=HOSTILE, command=HOSTILE)
    run(document(bad), "--alike")
    assert capsys.readouterr().out.replace("\n", "").isprintable()
