from __future__ import annotations

import subprocess
import sys

import pytest

from proxy.demo import _table, main
from tests.patience import PATIENCE


@pytest.fixture(scope="module")
def demo() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", "demo", "--all"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_it_succeeds_and_logs_nothing(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.stderr == ""
    assert "FAILED" not in demo.stdout
    assert demo.returncode == 0


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ("alice logs in", "alice@admin"),
        ("insert 120 orders", "120 inserted"),
        ("find them, 50 at a time", "120 read"),
        ("a retryable write", "1 modified"),
        ("a transaction, committed", "payments: 1"),
        ("a transaction, aborted", "payments: still 1"),
        ("the same _id twice", "refused: 11000"),
        ("a command nobody knows", "refused: 59 CommandNotFound"),
        ("olivia kills a session of alice's", "her cursor: refused: 43 CursorNotFound"),
    ],
)
def test_each_step_has_its_outcome(
    demo: subprocess.CompletedProcess[str], step: str, outcome: str
) -> None:
    line = next(line for line in demo.stdout.splitlines() if line.strip().startswith(step))
    assert line.strip().removeprefix(step).strip().startswith(outcome)


def test_it_shows_who_was_there(demo: subprocess.CompletedProcess[str]) -> None:
    rows = [line.split() for line in demo.stdout.splitlines()]
    assert any({"alice@admin", "shop-frontend"} <= set(row) for row in rows)
    assert any({"olivia@admin", "operations"} <= set(row) for row in rows)


def test_it_shows_sessions_with_their_owner_and_state(
    demo: subprocess.CompletedProcess[str],
) -> None:
    heading, *rows = (
        demo.stdout.partition("Sessions as")[2].partition("Metrics")[0].splitlines()[2:]
    )
    assert heading.split()[:5] == ["session", "owner", "application", "driver", "driver_version"]
    assert all("alice@admin" in row for row in rows if row)
    assert any("in progress" in row for row in rows)
    assert any(row.endswith("killed") for row in rows)


@pytest.mark.parametrize(
    "line",
    [
        'mongo_session_proxy_requests_total{command="commitTransaction"} 1.0',
        'mongo_session_proxy_requests_total{command="abortTransaction"} 1.0',
        'mongo_session_proxy_requests_total{command="startSession"} 1.0',
        'mongo_session_proxy_requests_total{command="killAllSessions"} 1.0',
        'mongo_session_proxy_errors_total{code_name="CommandNotFound",source="upstream"} 1.0',
        'mongo_session_proxy_transactions_ended_total{outcome="committed"} 1.0',
    ],
)
def test_it_shows_what_was_counted(demo: subprocess.CompletedProcess[str], line: str) -> None:
    assert f"  {line}" in demo.stdout.splitlines()


@pytest.mark.parametrize("word", ["wonderland", "looking-glass", "payload"])
def test_it_shows_no_credentials(demo: subprocess.CompletedProcess[str], word: str) -> None:
    assert word not in demo.stdout


def test_its_best_part_stands_on_one_screen() -> None:
    said: list[str] = []
    assert main(said.append) == 0
    lines = "\n".join(said).split("\n")
    # The prompt stands below, what was typed above.
    assert len(lines) <= 22
    assert max(map(len, lines)) <= 80
    heading = next(line for line in lines if line.split()[:1] == ["session"])
    assert heading.split() == ["session", "owner", "application", "what"]
    rows = [line.split()[1:] for line in lines[lines.index(heading) + 1 :] if line]
    assert ["alice@admin", "shop-frontend", "txn,", "cursor"] in rows
    assert ["alice@admin", "shop-frontend", "killed"] in rows
    counted = " ".join(lines[-3:-1])
    assert counted.startswith("and has counted ")
    assert "3 transactions, 1 committed" in counted
    assert counted.endswith("2 sessions killed, 2 errors.")


def test_a_table_is_aligned_and_leaves_empty_columns_out() -> None:
    rows = [
        {"conn": 1, "user": "", "command": "find", "unknown": 1},
        {"conn": 20, "user": None, "command": ""},
    ]
    assert _table(rows) == ["conn  command", "1     find", "20"]


def test_a_table_of_nothing_is_nothing() -> None:
    assert _table([]) == []
    assert _table([{"conn": None}]) == []
