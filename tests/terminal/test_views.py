from __future__ import annotations

import time

import pytest

from proxy.terminal.tables import table
from proxy.terminal.views import VIEWS, incident
from tests.terminal.rows import HOSTILE, group, session

SESSIONS = VIEWS["sessions"]

UUID = "11111111-2222-3333-4444-555555555555"


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


def test_incidents_in_words() -> None:
    assert incident({"kind": "refused", "rule": "stmt_ids"}) == "refused by the rule stmt_ids"
    reported = {"kind": "reported", "rule": "stmt_ids"}
    assert incident(reported) == "would be refused by the rule stmt_ids"
    assert incident({"kind": "something new", "rule": None}) == "something new"


def test_incidents_are_said_in_local_time_and_without_the_owners_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        row = {"kind": "refused", "rule": "stmt_ids", "age_seconds": 1.0, "count": 2,
               "first": "2026-11-21T10:18:05Z", "session": f"{UUID} - digest="}  # fmt: skip
        heading, line = table(VIEWS["incidents"], [row])
    finally:
        monkeypatch.undo()
        time.tzset()
    assert heading.split()[-2:] == ["SESSION", "FIRST"]
    assert line.split()[-4:] == [UUID, "2026-11-21", "11:18:05", "CET"]


def test_a_monitor_that_waits_is_marked() -> None:
    row = {"conn": 1, "command": "hello", "in_flight": 1, "operation_seconds": None}
    heading, monitor, other = table(VIEWS["connections"], [row | {"use": "monitor"}, row])
    assert "IN FLIGHT" in heading
    assert "hello (monitor)" in monitor
    assert "(monitor)" not in other


def test_a_narrow_terminal_names_the_rule_of_an_incident() -> None:
    rows = [
        {"kind": "reported", "rule": "user_name_length", "age_seconds": 1.0, "count": 2,
         "user": "a-very-long-name-of-a-user@admin", "application": "shop", "cluster": "web",
         "reason": "why " * 20, "session": UUID},
    ]  # fmt: skip
    _, line = table(VIEWS["incidents"], rows, 80)
    assert "would be refused by user_name_length  " in line
    assert "  web  " in line
