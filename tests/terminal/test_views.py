from __future__ import annotations

import pytest

from proxy.terminal.printable import width
from proxy.terminal.views import VIEWS, attention, incident, table
from tests.terminal.rows import HOSTILE, group, session, summary, who

SESSIONS = VIEWS["sessions"]


def test_a_session_is_shown_with_all_that_it_has() -> None:
    busy = session(
        operations=[{"conn": 1, "command": "find", "seconds": 3.21, "upstream": "db:1"}],
        cursors=2,
        transaction="in progress",
        transaction_seconds=75.0,
        transaction_idle_seconds=0.0,
        idle_seconds=0.0,
    )
    heading, first, second = table(SESSIONS, [busy, session(ended="killed")])
    assert heading.split() == [
        "OWNER",
        "APPLICATION",
        "DRIVER",
        "CLIENT",
        "AGE",
        "IDLE",
        "TRANSACTION",
        "CURSORS",
        "IN",
        "FLIGHT",
        "ENDED",
        "SESSION",
    ]
    for text in ("alice@admin", "PyMongo|c 4.20.0", "open 1 m 15 s", "find 3.2 s", " 2 "):
        assert text in first
    assert "500 ms" not in first
    assert "killed" in second


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ({"transaction": None}, ""),
        ({"transaction": "none"}, ""),
        ({"transaction": "committed"}, "committed"),
        (
            {
                "transaction": "in progress",
                "transaction_seconds": 40.0,
                "transaction_idle_seconds": 31.0,
            },
            "open 40.0 s, idle 31.0 s",
        ),
    ],
)
def test_transactions_in_words(row: dict[str, object], shown: str) -> None:
    column = next(one for one in SESSIONS.columns if one.title == "TRANSACTION")
    assert column.cell(session(**row)) == shown


def test_names_cannot_drive_a_terminal() -> None:
    for name, view in VIEWS.items():
        row = session(owner=HOSTILE, application=HOSTILE, driver=HOSTILE, client=HOSTILE)
        row |= group(owner=HOSTILE) | {"namespace": HOSTILE, "what": HOSTILE, "kind": "rule"}
        row |= {"command": HOSTILE, "seconds": 1.0, "user": HOSTILE, "operations": []}
        for line in table(view, [row]):
            assert line.isprintable(), name
    lines = attention(summary(), [group(owner=HOSTILE, budget_used=1.0)], [], [])
    assert lines
    assert all(line.isprintable() for line in lines)


def test_columns_without_anything_are_left_out_unless_there_are_no_rows() -> None:
    assert "CURSORS" not in table(SESSIONS, [session()])[0]
    assert table(SESSIONS, []) == [
        "OWNER  APPLICATION  DRIVER  CLIENT  AGE  IDLE  TRANSACTION  CURSORS  IN FLIGHT  ENDED"
        "  SESSION"
    ]


@pytest.mark.parametrize("cells", [60, 80, 100, 140])
def test_tables_give_way_where_the_terminal_is_narrow(cells: int) -> None:
    rows = [session(application="a-very-long-name-" * 5), session(owner="店" * 40)]
    lines = table(SESSIONS, rows, cells)
    assert max(map(width, lines)) <= cells
    assert "1 m 30 s" in lines[1]


def test_numbers_are_never_cut() -> None:
    lines = table(VIEWS["groups"], [group(sessions=1_234_567)], 20)
    assert "1,234,567" in lines[1]


@pytest.mark.parametrize(("sort", "mark"), [("idle", "IDLE ↑"), ("-idle", "IDLE ↓")])
def test_the_order_is_marked(sort: str, mark: str) -> None:
    assert mark in table(SESSIONS, [session()], sort=sort)[0]


def test_nothing_needs_attention_where_all_is_well() -> None:
    assert attention(summary(), [group(budget_used=0.79)], [], []) == []


def test_what_needs_attention_is_named_by_user_application_and_driver() -> None:
    idle = who(idle_seconds=31.0)
    stale = who(kind="shared", rule=None, age_seconds=901.0)
    theft = who(owner="mallory@admin", kind="foreign_uid", rule=None, age_seconds=5.0)
    lines = attention(
        summary(sessions=900_000),
        [group(sessions=500_000, owner="bob@admin"), group(budget_used=0.8)],
        [idle],
        [theft, stale],
    )
    assert lines == [
        "900,000 sessions: nearly as many as there may be",
        "alice@admin · shop · PyMongo|c 4.20.0: 80 % of the session budget used",
        "alice@admin · shop · PyMongo|c 4.20.0: a transaction has been idle for 31.0 s",
        "bob@admin · shop · PyMongo|c 4.20.0: has 500,000 sessions; are they ended?",
        "mallory@admin · shop · PyMongo|c 4.20.0: tried a session of somebody else (foreign uid), "
        "5.0 s ago",
    ]


def test_incidents_in_words() -> None:
    assert incident({"kind": "refused", "rule": "stmt_ids"}) == "refused by the rule stmt_ids"
    reported = {"kind": "reported", "rule": "stmt_ids"}
    assert incident(reported) == "would be refused by the rule stmt_ids"
    assert incident({"kind": "something new", "rule": None}) == "something new"


def test_ids_give_way_before_names_do() -> None:
    rows = [session(), session(session="99999999-2222-4333-8444-555555555555")]
    _, first, second = table(SESSIONS, rows, 81)
    assert "alice@admin  shop" in first
    assert first.endswith("  11111111…")
    assert second.endswith("  99999999…")
