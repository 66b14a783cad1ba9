from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.terminal.doing import Preview
from proxy.terminal.drawing import drawn as lines_of
from proxy.terminal.drawing import summary as summed_up
from proxy.terminal.printable import width
from proxy.terminal.screen import Screen, Seen, Todo, look
from proxy.terminal.views import VIEWS
from tests.terminal.rows import HOSTILE, group, pages, rule, session, summary, upstream, who

NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)
ESCAPE = "\x1b["
ID = "11111111-2222-4333-8444-555555555555"


def screen(name: str = "sessions", **more: Any) -> Screen:
    view = VIEWS[name]
    made = Screen("127.0.0.1:27080", view, view.sort)
    given = pages(**more)
    made.see(
        look(
            given["summary"],
            given["groups"],
            given["transactions"],
            given["incidents"],
            given[name],
            view,
        )
    )
    return made


def plain(line: str) -> str:
    while ESCAPE in line:
        before, _, after = line.partition(ESCAPE)
        line = before + after.partition("m")[2]
    return line


def drawn(one: Screen, cells: int = 120, height: int = 30) -> list[str]:
    return [plain(line) for line in lines_of(one, cells, height, NOON)]


def press(one: Screen, keys: str) -> None:
    for key in keys:
        one.key(key)


def test_the_screen_says_who_holds_what() -> None:
    head, counts, _, heading, first, *_ = drawn(screen())
    assert head == "mongo-session-proxy 1.2.3  127.0.0.1:27080  up 1 m 30 s  ready  12:00:00"
    assert counts == (
        "sessions 2/1,000,000   transactions 0   cursors 0   in flight 0   connections 4/10,000"
    )
    assert heading.startswith("  OWNER")
    assert first.startswith("> alice@admin")


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
        ("d", "namespaces"),
        ("s", "sessions"),
    ],
)
def test_keys_choose_the_listing(key: str, name: str) -> None:
    one = screen()
    one.filters = {"owner": "a", "text": "b", "min_age": "5"}
    one.key(key)
    assert one.view.name == name
    if name == "namespaces":
        assert one.filters == {"text": "b"}
        return
    who = "user" if name in ("connections", "incidents") else "owner"
    kept = {who: "a", "text": "b"}
    if name in ("sessions", "transactions", "cursors"):
        kept["min_age"] = "5"
    assert one.filters == kept
    expected = {} if name == "incidents" else {**kept, "sort": one.view.sort, "limit": 7}
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
    assert drawn(one)[-1] == "filter: qsr_"
    press(one, "\x7fx\n")
    assert (one.typing, one.filters) == (None, {"text": "qsx"})
    assert drawn(one)[-1].startswith("Sessions 1/2  qsx ")
    press(one, "/y\x1b")
    assert one.filters == {"text": "qsx"}
    press(one, "/" + "\b" * 9 + "\r")
    assert one.filters == {}


def test_what_is_typed_is_bounded_and_printable() -> None:
    one = screen()
    press(one, "/" + "\x01\u202e" + "a" * 500)
    assert one.typing == "a" * 200


def test_filters_are_words_and_a_wrong_one_is_said_before_it_is_asked() -> None:
    one = screen()
    press(one, '/state=idle,cursor application="my shop" owner=a* x y\n')
    assert one.filters == {
        "state": "idle,cursor", "application": "my shop", "owner": "a*", "text": "x y",
    }  # fmt: skip
    press(one, "/")
    assert one.typing == 'state=idle,cursor application="my shop" owner=a* x y '
    press(one, "\x15sate=idle\n")
    assert drawn(one)[-1].startswith("sate: no such filter; did you mean state?")
    assert (one.typing, len(one.filters)) == ("sate=idle", 4)
    press(one, "\x1b\x1b")
    assert one.filters == {}


def test_what_the_proxy_does_not_know_is_taken_back() -> None:
    one = screen()
    before = one.place
    press(one, "/state=x\n")
    one.go_back(before, "state: 'x' is none of idle")
    assert one.filters == {}
    assert drawn(one)[-1] == "state: 'x' is none of idle"


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
        lines = lines_of(screen(name, **{name: page}), 150, 30, NOON)
        # Where it is chosen, too.
        found = next(line for line in reversed(lines) if "alice@admin" in line)
        assert "\x1b[7m> " in found
        return found.partition("\x1b[7m")[0]

    red, yellow, green = "\x1b[31m", "\x1b[33m", "\x1b[32m"
    idle = {"transaction": "in progress", "transaction_seconds": 50.0}
    operation = {"conn": 1, "command": "find", "seconds": 1.0, "upstream": "db:1"}
    open_one = {"statements": 1, "conn": 3, "upstream": "db:1", "txn_number": 1}
    assert style("sessions", session(**idle, transaction_idle_seconds=30.0)) == red
    assert style("sessions", session(**idle, transaction_idle_seconds=1.0)) == yellow
    assert style("sessions", session(operations=[operation])) == green
    assert style("sessions", session()) == ""
    assert style("groups", group(budget_used=1.0)) == red
    assert style("groups", group(budget_used=0.8)) == yellow
    assert style("groups", group(budget_used=0.1)) == ""
    assert style("transactions", session(**open_one, idle_seconds=40.0)) == red
    assert style("transactions", session(**open_one)) == yellow
    refused = who(user="alice@admin", kind="refused", rule="x", age_seconds=1.0)
    assert style("incidents", refused) == ""


def test_without_a_terminal_there_is_a_summary() -> None:
    one = screen(groups={"groups": [group(budget_used=0.9)]})
    counts, warning = summed_up(one)
    assert counts.startswith("sessions 2/1,000,000")
    assert warning.startswith("! alice@admin · shop")
    one.seen = None
    assert summed_up(one) == []


# ---------------------------------------------------------------------- rows and what is done


def listed(*owners: str, matched: int | None = None) -> dict[str, Any]:
    rows = [session(owner=owner, session=f"{at:08}{ID[8:]}") for at, owner in enumerate(owners)]
    return {"sessions": rows, "matched": matched or len(rows), "total": len(rows), "next": None}


def keys(one: Screen, *names: str) -> None:
    for name in names:
        one.key(name)


def chosen(one: Screen) -> str:
    return next(line for line in drawn(one, 100, 24) if line.startswith(">"))


def test_rows_scroll_and_the_heading_stays() -> None:
    one = screen(sessions=listed(*(f"user{at:02}" for at in range(60))))
    assert "user00" in chosen(one)
    keys(one, "down", "down")
    assert "user02" in chosen(one)
    keys(one, "pagedown", "pagedown")
    lines = drawn(one, 100, 24)
    assert lines[3].startswith("  OWNER")
    assert "user00" not in "".join(lines)
    keys(one, "end")
    assert "user59" in chosen(one)
    assert "Sessions 60/60" in drawn(one, 100, 24)[-1]
    keys(one, "home", "up")
    assert "user00" in chosen(one)


def test_the_table_is_of_what_was_seen_last() -> None:
    one = screen(sessions=listed(*(f"user{at:02}" for at in range(60))))
    assert drawn(one, 100, 24)[4:] != drawn(one, 80, 24)[4:]
    keys(one, "down")
    assert "user01" in chosen(one)
    assert one.seen is not None
    one.see(Seen(one.seen.summary, listed("zoe")["sessions"], 1, []))
    assert "zoe" in chosen(one)


def test_more_rows_are_asked_for_where_there_are_more() -> None:
    one = screen(sessions=listed(*"abcdef", matched=9_000))
    assert one.fields(24)["limit"] == 24
    keys(one, "down")
    assert one.fields(24)["limit"] == 506
    keys(one, "end")
    assert one.fields(24)["limit"] == 5_000
    assert one.seen is not None
    one.see(Seen(one.seen.summary, listed(*"abcdefgh")["sessions"], 8, []))
    assert one.selection.at == 7


def test_all_of_a_row_is_there_where_columns_have_no_room() -> None:
    one = screen()
    keys(one, "\r")
    lines = drawn(one, 80, 24)
    assert any(line.split() == ["SESSION", session()["session"]] for line in lines)
    assert any(line.split() == ["DRIVER", "PyMongo|c", "4.20.0"] for line in lines)
    assert lines[-1].startswith("Esc back  K kill  A abort")
    assert one.seen is not None
    one.see(Seen(one.seen.summary, [], 0, []))
    assert any(line.startswith("Session (it is gone") for line in drawn(one, 80, 24))
    keys(one, "\x1b")
    assert one.pane is None


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("cells", "height"), [(80, 24), (132, 50)])
def test_help_fits_and_says_all_keys(name: str, cells: int, height: int) -> None:
    one = screen(name)
    keys(one, "?")
    lines = drawn(one, cells, height)
    assert not any("…" in line for line in lines)
    text = " ".join(lines)
    for word in ("K kill", "A abort", "I interrupt", "C close", "u upstream", "q quit", "cluster="):
        assert word in text
    keys(one, "q")
    assert (one.pane, one.ended) == (None, False)


@pytest.mark.parametrize(
    ("name", "row", "to", "filters"),
    [
        ("groups", group(), "sessions",
         {"owner": "alice@admin", "application": "shop", "driver": "PyMongo|c"}),
        ("upstream", upstream(), "connections", {"upstream": "db1:27017"}),
        ("rules", rule(), "incidents", {"rule": "session_budget"}),
        ("sessions", session(cluster="east"), "transactions",
         {"cluster": "east", "session": session()["session"]}),
        ("cursors", who(session=ID, age_seconds=1.0, idle_seconds=1.0), "sessions",
         {"session": ID}),
        ("incidents", who(user="bob@app", kind="shared", age_seconds=1, session=f"{ID} - 4="),
         "sessions", {"session": ID}),
        ("incidents", who(user="bob@app", kind="refused", age_seconds=1, session=f"{ID} - 4="),
         "sessions", {"owner": "bob@app", "application": who()["application"],
                      "driver": who()["driver"]}),
        ("connections", who(conn=3, client="[::1]:4711", age_seconds=1.0), "sessions",
         {"client": "[::1]"}),
    ],
)  # fmt: skip
def test_one_goes_to_what_a_row_leads_to_and_back(
    name: str, row: dict[str, Any], to: str, filters: dict[str, str]
) -> None:
    one = screen(name, **{name: {name: [row], "matched": 1}})
    keys(one, "f")
    assert (one.view.name, one.filters) == (to, filters)
    keys(one, "\x7f")
    assert (one.view.name, one.filters) == (name, {})


def kill(one: Screen) -> Todo:
    keys(one, "K")
    todo = one.todo
    assert todo is not None
    one.todo = None
    return todo


def previewed(one: Screen, todo: Todo) -> None:
    one.previewed(todo, Preview(lambda _: ["1 sessions"], todo.act, "Kill this session?"))


def test_nothing_is_done_before_it_was_shown_and_confirmed() -> None:
    one = screen()
    todo = kill(one)
    assert todo.stage == "preview"
    # A hasty yes, before anything was shown.
    keys(one, "y")
    assert one.todo is None
    previewed(one, todo)
    assert drawn(one)[-1] == "Kill this session?  y yes, any other key no"
    keys(one, "\r")
    assert (one.todo, one.pane, one.notice) == (None, None, "nothing was done")
    todo = kill(one)
    previewed(one, todo)
    keys(one, "y")
    assert one.todo is not None
    assert one.todo.stage == "do"
    one.done(one.todo, lambda _: ["1 killed"])
    assert "1 killed" in drawn(one)


def test_a_long_preview_says_that_there_is_more() -> None:
    one = screen()
    todo = kill(one)
    lines = [f"line {at}" for at in range(50)]
    one.previewed(todo, Preview(lambda _: lines, todo.act, "Kill these 50 sessions?"))
    shown = drawn(one, 80, 24)
    lines_shown = sum(line.startswith("line ") for line in shown)
    assert shown[-1] == (
        f"Kill these 50 sessions?  y yes, any other key no  PgDn {50 - lines_shown} more lines"
    )
    keys(one, "pagedown", "end")
    assert drawn(one, 80, 24)[-3] == "line 49"
    assert one.pane is not None
    assert one.pane.question


def test_a_preview_that_nobody_waits_for_is_passed_over() -> None:
    one = screen()
    todo = kill(one)
    keys(one, "\x1b", "?")
    previewed(one, todo)
    one.failed(todo, "503 busy", token=False)
    assert one.pane is not None
    assert one.pane.title == "Help"


def test_marked_rows_are_killed_together() -> None:
    one = screen(sessions=listed("a", "b", "c"))
    keys(one, "m", "down", "m")
    assert [line[:2] for line in drawn(one)[4:7]] == [" *", "  ", ">*"]
    assert "2 marked" in drawn(one)[-1]
    assert len(kill(one).act.body["sessions"]) == 2
    keys(one, "\x1b", "\x1b")
    assert one.selection.marked == {}


def test_where_it_is_off_that_is_said() -> None:
    one = screen(summary=summary(kill="off"))
    previewed(one, kill(one))
    assert "It is off: the proxy has no admin.token." in drawn(one)[-1]
    keys(one, "y")
    assert one.todo is None


def test_a_token_can_be_typed_and_is_not_shown() -> None:
    one = screen()
    todo = kill(one)
    one.failed(todo, "wrong token, the proxy has others: --token-file", token=True)
    press(one, "abc")
    assert drawn(one)[-1] == "token: ***_"
    press(one, "\n")
    assert (one.token, one.todo) == ("abc", todo)
    one.todo = None
    one.failed(todo, "wrong token, the proxy has others: --token-file", token=True)
    assert drawn(one)[-1] == "wrong token, the proxy has others  token: _"
    press(one, "\x1b")
    assert (one.pane, one.typing, one.todo) == (None, None, None)


def test_a_token_that_is_wrong_is_said_where_it_is_not_needed() -> None:
    assert any("wrong token" in line for line in drawn(screen(summary=summary(token="wrong"))))


def test_what_is_no_action_of_a_listing_is_said() -> None:
    one = screen()
    keys(one, "C")
    assert drawn(one)[-1] == "close: not for sessions"
    keys(one, "A")
    assert drawn(one)[-1].startswith("no transaction is open in session 11111111")


@pytest.mark.parametrize(("number", "shown"), [(4, 4), (7, 3)])
def test_what_there_is_no_room_for_above_the_table_is_counted(number: int, shown: int) -> None:
    full = [group(owner=f"u{one}@admin", budget_used=0.9) for one in range(number)]
    one = screen(groups={"groups": full, "matched": number, "total": number, "next": None})
    said = [line for line in drawn(one, 80, 24) if "! " in line]
    assert sum("budget used" in line for line in said) == shown
    more = f"{number - shown} more: g groups, t transactions, i incidents"
    assert any(more in line for line in said) is (number > shown)
