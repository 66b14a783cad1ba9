from __future__ import annotations

from typing import Any

import pytest

from proxy.terminal.printable import width
from proxy.terminal.tables import left_out, listing, table
from proxy.terminal.views import VIEWS
from tests.terminal.rows import group, rule, session, upstream, who

SESSIONS = VIEWS["sessions"]
ID = "11111111-2222-4333-8444-555555555555"


def test_columns_without_anything_are_left_out_unless_there_are_no_rows() -> None:
    assert "CURSORS" not in table(SESSIONS, [session()])[0]
    assert table(SESSIONS, []) == [
        "OWNER  APPLICATION  DRIVER  CLIENT  AGE  IDLE  TRANSACTION  CURSORS  IN FLIGHT  ENDED"
        "  SESSION"
    ]


@pytest.mark.parametrize("cells", [60, 80, 100, 140])
def test_tables_give_way_where_the_terminal_is_narrow(cells: int) -> None:
    rows = [session(application="a-very-long-name-" * 5), session(owner="店" * 40)]
    for short_ids in (True, False):
        lines = table(SESSIONS, rows, cells, short_ids=short_ids)
        assert max(map(width, lines)) <= cells
        assert ("1 m 30 s" in lines[1]) is (cells >= 100 or short_ids)


def test_numbers_are_never_cut() -> None:
    lines = table(VIEWS["groups"], [group(sessions=1_234_567)], 20)
    assert "1,234,567" in lines[1]


@pytest.mark.parametrize(("sort", "mark"), [("idle", "IDLE ↑"), ("-idle", "IDLE ↓")])
def test_the_order_is_marked(sort: str, mark: str) -> None:
    assert mark in table(SESSIONS, [session()], sort=sort)[0]


def test_where_their_beginning_will_do_ids_give_way_before_names_do() -> None:
    rows = [session(), session(session="99999999-2222-4333-8444-555555555555")]
    _, first, second = table(SESSIONS, rows, 81, short_ids=True)
    assert "alice@admin  shop" in first
    assert first.endswith("  11111111…")
    assert second.endswith("  99999999…")


BUSY: dict[str, Any] = {
    "sessions": session(
        operations=[{"conn": 1, "command": "find", "seconds": 3.21, "upstream": "db:1"}],
        cursors=2,
        transaction="in progress",
        transaction_seconds=75.0,
        transaction_idle_seconds=31.0,
    ),
    "transactions": who(session=ID, txn_number=7, age_seconds=61.0, idle_seconds=60.0, conn=12,
                        operations=[], cursors=1, statements=2, upstream="db.example:27017"),
    "cursors": who(session=ID, namespace="shop.orders", age_seconds=61.0, idle_seconds=60.0,
                   cursor=7_345_678_901_234_567_890, upstream="db.example:27017", operations=[]),
}  # fmt: skip


@pytest.mark.parametrize("name", BUSY)
@pytest.mark.parametrize("cells", [80, 132])
def test_ids_are_whole_and_the_columns_that_matter_most_are_there(name: str, cells: int) -> None:
    heading, line = table(VIEWS[name], [BUSY[name]], cells)
    assert max(width(heading), width(line)) <= cells
    assert ID in line
    for text in ("alice@admin", "shop"):
        assert text in line
    missing = left_out(VIEWS[name], [BUSY[name]], cells)
    assert missing or cells > 80
    assert not any(title in heading for title in missing)
    assert left_out(VIEWS[name], [BUSY[name]], None) == []


def test_what_is_said_to_be_left_out_is_not_there_by_whatever_is_sorted() -> None:
    view, rows = VIEWS["transactions"], [BUSY["transactions"]]
    for cells in range(90, 140):
        for sort in ("", "-age"):
            titles = {title.strip() for title in table(view, rows, cells, sort)[0].split("  ")}
            missing = left_out(view, rows, cells, sort)
            assert not titles & set(missing)
            assert len(titles - {""}) + len(missing) == len(table(view, rows)[0].split()) - 1


def test_nothing_is_cut_where_nobody_looks() -> None:
    row = session(application="a" * 128)
    assert "a" * 128 in table(SESSIONS, [row])[1]
    assert "a" * 128 not in table(SESSIONS, [row], 140)[1]


REFUSED = who(kind="refused", rule="session_budget", user="carol@admin", count=5_022, conn=103,
              age_seconds=0.1, first="2026-11-28T22:58:29Z", bound="per_user", limit="20",
              reason="user carol@admin has 20 of 20 sessions and asks for another one",
              command="update", session=ID, application="guarded-import-of-orders")  # fmt: skip


@pytest.mark.parametrize("cells", [60, 80, 100, 132])
def test_of_an_incident_all_is_said_however_narrow_it_is(cells: int) -> None:
    lines, missing = listing(VIEWS["incidents"], [REFUSED], cells)
    assert max(map(width, lines)) <= cells
    assert missing == []
    text = " ".join(" ".join(lines[1:]).split())
    for one in (REFUSED["reason"], "per_user = 20", "2026-11-28", "103", "update", ID, "5,022",
                REFUSED["application"], "refused by session_budget"):  # fmt: skip
        assert one in text, one


def test_below_a_row_stands_only_what_it_has_and_is_not_seen_in_it() -> None:
    plain = REFUSED | {"bound": None, "application": "shop", "session": None}
    lines, _ = listing(VIEWS["incidents"], [plain], 80)
    assert not any("bound" in line or "application" in line for line in lines[2:])
    assert lines[2].startswith("    why user carol@admin has 20 of 20")
    whole, _ = listing(VIEWS["incidents"], [plain], None)
    assert len(whole) == 2


def test_what_a_rule_is_set_to_is_said_in_plain_words() -> None:
    bounds = [{"users": [], "applications": ["etl-*", "sync"], "per_user": 40, "exempt": False}]
    row = rule(settings={"per_user": 20, "reserved": 0, "refuse_early": True, "bounds": bounds})
    assert (
        "per_user 20, refuse_early yes, bounds [applications etl-*, sync, per_user 40]"
        in (table(VIEWS["rules"], [row])[1])
    )
    assert "4,050" in table(VIEWS["rules"], [row], 80)[1]


def test_who_is_down_upstream_and_why() -> None:
    down = upstream(up=False, role="", problem="Connection refused", listener=None)
    lines, _ = listing(VIEWS["upstream"], [upstream(), down, upstream(up=None)], 80)
    assert lines[1].split()[:6] == ["db1:27017", "primary", "up", "1", "m", "15"]
    said = "\n".join(lines)
    for text in (" down ", " none", "Connection refused", "not asked yet"):
        assert text in said


def test_the_column_that_is_sorted_by_is_there() -> None:
    row = group(cursors=7, owner="alice-of-accounting@admin", application="shop-frontend-eu-west")
    row |= {"budget_used": 0.5, "bound": "per_user", "limit": 20, "used": 10, "transactions": 3}
    assert "CURSORS" not in table(VIEWS["groups"], [row], 80, "-sessions")[0]
    assert "CURSORS ↓" in table(VIEWS["groups"], [row], 80, "-cursors")[0]


def test_of_several_proxies_what_tells_them_apart_is_enough() -> None:
    rows = [session(proxy=f"proxy{number}.example.net:27080") for number in (1, 2)]
    lines = table(SESSIONS, rows, 80)
    assert [line.split()[0] for line in lines] == ["PROXY", "proxy1", "proxy2"]
    assert "proxy1.example.net:27080" in table(SESSIONS, rows)[1]


def test_where_all_rows_are_of_one_proxy_it_is_told_from_those_that_have_none() -> None:
    proxies = [f"proxy{number}.example.net:27080" for number in (1, 2)]
    rows = [session(proxy=proxies[0])]
    assert table(SESSIONS, rows, 80, proxies=proxies)[1].split()[0] == "proxy1"
    assert listing(SESSIONS, rows, 80, "", proxies)[0][1].split()[0] == "proxy1"


def test_where_a_reason_has_room_it_can_be_read() -> None:
    for cells in (100, 132, 200):
        heading, line = table(VIEWS["incidents"], [REFUSED], cells, short_ids=True)
        assert width(line) <= cells
        assert ("WHY" in heading) is ("carol@admin has 20 of 20" in line)
    assert "WHY" in heading
