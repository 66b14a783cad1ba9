from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.terminal.printable import width
from proxy.terminal.screen import Screen, look
from proxy.terminal.views import VIEWS
from tests.terminal.rows import HOSTILE, group, pages, session, summary, who

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
ESCAPE = "\x1b["


def screen(name: str = "sessions", **more: Any) -> Screen:
    view = VIEWS[name]
    made = Screen("127.0.0.1:27080", view, view.sort)
    given = pages(**more)
    made.seen = look(
        given["summary"],
        given["groups"],
        given["transactions"],
        given["incidents"],
        given[name],
        view,
    )
    return made


def plain(line: str) -> str:
    while ESCAPE in line:
        before, _, after = line.partition(ESCAPE)
        line = before + after.partition("m")[2]
    return line


def drawn(one: Screen, cells: int = 120, height: int = 30) -> list[str]:
    return [plain(line) for line in one.lines(cells, height, NOON)]


def press(one: Screen, keys: str) -> None:
    for key in keys:
        one.key(key)


def test_the_screen_says_who_holds_what() -> None:
    head, counts, _, heading, first, *_ = drawn(screen())
    assert head == "mongo-session-proxy 1.2.3  127.0.0.1:27080  up 1 m 30 s  ready  12:00:00"
    assert counts == (
        "sessions 2/1,000,000   transactions 0   cursors 0   in flight 0   connections 4/10,000"
    )
    assert heading.startswith("OWNER")
    assert first.startswith("alice@admin")


def test_ages_stand_beside_what_is_open() -> None:
    busy = summary(
        transactions=1, transactions_oldest_seconds=40.0, transactions_idlest_seconds=35.0,
        cursors=2, cursors_oldest_seconds=9.0, operations=1, operations_oldest_seconds=3.0,
    )  # fmt: skip
    text = "\n".join(drawn(screen(summary=busy)))
    assert "transactions 1 (oldest 40.0 s, idle 35.0 s)" in text
    assert "cursors 2 (oldest 9.0 s)" in text
    assert "in flight 1 (longest 3.0 s)" in text


@pytest.mark.parametrize(("cells", "height"), [(40, 8), (80, 24), (200, 60), (10, 4), (1, 1)])
def test_nothing_is_wider_or_longer_than_the_terminal(cells: int, height: int) -> None:
    many = {"sessions": [session(owner=HOSTILE)] * 100, "matched": 100, "total": 100, "next": None}
    one = screen(sessions=many, groups={"groups": [group(budget_used=0.9)]})
    one.problem = "x" * 300
    one.filters["text"] = HOSTILE
    lines = drawn(one, cells, height)
    assert len(lines) == height
    assert all(line.isprintable() for line in lines)
    if cells >= 80:
        assert max(map(width, lines)) <= cells


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("g", "groups"),
        ("t", "transactions"),
        ("c", "cursors"),
        ("n", "connections"),
        ("i", "incidents"),
        ("s", "sessions"),
    ],
)
def test_keys_choose_the_listing(key: str, name: str) -> None:
    one = screen()
    one.filters = {"owner": "a", "text": "b"}
    one.key(key)
    assert one.view.name == name
    assert one.filters == {"text": "b"}
    expected = {} if name == "incidents" else {"text": "b", "sort": one.view.sort, "limit": 7}
    assert one.fields(7) == expected


@pytest.mark.parametrize(
    ("keys", "sort"),
    [
        ("", "activity"),
        ("r", "-activity"),
        ("rr", "activity"),
        (">", "owner"),
        (">>", "application"),
        (">>>>>", "-age"),
        (">>>>>r", "age"),
        (">>>>>rr<", "client"),
        ("<", "session"),
        ("<>", "owner"),
    ],
)
def test_keys_sort(keys: str, sort: str) -> None:
    one = screen()
    press(one, keys)
    assert one.sort == sort


def test_where_nothing_can_be_sorted_keys_do_nothing() -> None:
    one = screen("incidents")
    press(one, "<>r")
    assert one.sort == ""


def test_a_filter_is_typed_and_taken_back() -> None:
    one = screen()
    press(one, "/qsr")
    assert (one.typing, one.ended, one.filters) == ("qsr", False, {})
    assert drawn(one)[-1] == "show what contains: qsr_"
    press(one, "\x7fx\n")
    assert (one.typing, one.filters) == (None, {"text": "qsx"})
    assert "text=qsx" in drawn(one)[-1]
    press(one, "/y\x1b")
    assert one.filters == {"text": "qsx"}
    press(one, "/" + "\b" * 9 + "\r")
    assert one.filters == {}


def test_what_is_typed_is_bounded_and_printable() -> None:
    one = screen()
    press(one, "/" + "\x01\u202e" + "a" * 500)
    assert one.typing == "a" * 200


@pytest.mark.parametrize("key", ["q", "\x03", "\x04"])
def test_keys_end_it(key: str) -> None:
    one = screen()
    one.key(key)
    assert one.ended


def test_a_pause_is_shown() -> None:
    one = screen()
    one.key(" ")
    assert (one.paused, "paused" in drawn(one)[0]) == (True, True)
    one.key(" ")
    assert not one.paused


def test_trouble_is_shown_beside_what_was_seen_last() -> None:
    one = screen()
    one.problem = "127.0.0.1:27080: Connection refused"
    lines = drawn(one)
    assert one.problem in lines
    assert any("alice@admin" in line for line in lines)
    one.seen = None
    assert one.problem in drawn(one)


def test_an_empty_listing_says_so() -> None:
    assert "No transactions." in drawn(screen("transactions"))


def test_colours_tell_what_stands_out() -> None:
    def style(name: str, row: dict[str, Any]) -> str:
        page = {name: [row], "matched": 1, "total": 1, "next": None}
        lines = screen(name, **{name: page}).lines(150, 30, NOON)
        return next(line for line in reversed(lines) if "alice@admin" in line)[:5]

    red, yellow, green = "\x1b[31m", "\x1b[33m", "\x1b[32m"
    idle = {"transaction": "in progress", "transaction_seconds": 50.0}
    operation = {"conn": 1, "command": "find", "seconds": 1.0, "upstream": "db:1"}
    open_one = {"statements": 1, "conn": 3, "upstream": "db:1", "txn_number": 1}
    assert style("sessions", session(**idle, transaction_idle_seconds=30.0)) == red
    assert style("sessions", session(**idle, transaction_idle_seconds=1.0)) == yellow
    assert style("sessions", session(operations=[operation])) == green
    assert style("sessions", session()) == "alice"
    assert style("groups", group(budget_used=1.0)) == red
    assert style("groups", group(budget_used=0.8)) == yellow
    assert style("groups", group(budget_used=0.1)) == "alice"
    assert style("transactions", session(**open_one, idle_seconds=40.0)) == red
    assert style("transactions", session(**open_one)) == yellow
    refused = who(user="alice@admin", kind="refused", rule="x", age_seconds=1.0)
    assert style("incidents", refused).startswith("1.0 s")


def test_without_a_terminal_there_is_a_summary() -> None:
    one = screen(groups={"groups": [group(budget_used=0.9)]})
    counts, warning = one.summary()
    assert counts.startswith("sessions 2/1,000,000")
    assert warning.startswith("! alice@admin · shop")
    one.seen = None
    assert one.summary() == []
