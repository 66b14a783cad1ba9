"""Ending one transaction, interrupting one command, closing one connection, by the command line."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from proxy import cli
from tests.terminal.rows import HOSTILE, session, who
from tests.terminal.stand_in import StandIn, standing_in

ID = "11111111-2222-4333-8444-555555555555"
TRANSACTION = who(session=ID, child=None, txn_number=7, age_seconds=61.0, idle_seconds=60.0,
                  operations=[], cursors=0, statements=2, upstream="db:1", conn=12)  # fmt: skip
CONNECTION = who(conn=12, user="alice@admin", client="10.0.0.1:5", upstream="db:1",
                 age_seconds=90.0, requests=3, in_flight=1, command="find", operation=55,
                 operation_seconds=3.0, session=ID, received_bytes=5, sent_bytes=5)  # fmt: skip
SEEN: dict[str, dict[str, Any]] = {
    "abort": {"dry_run": True, "transaction": TRANSACTION, "reachable": True},
    "interrupt": {"dry_run": True, "connection": CONNECTION},
    "close": {"dry_run": True, "connection": CONNECTION},
}
DONE: dict[str, dict[str, Any]] = {
    "abort": {"outcome": "aborted", "problem": "", "interrupted": 0, "transaction": TRANSACTION},
    "interrupt": {"outcome": "killOp", "connection": CONNECTION},
    "close": {"outcome": "closed", "connection": CONNECTION},
}
NAMED = {"abort": ID[:8], "interrupt": "12", "close": "12"}


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGO_SESSION_PROXY_TOKEN", raising=False)


class Typing(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(there: StandIn, *arguments: str) -> int:
    return cli.main([*arguments, "--admin", there.address])


@pytest.mark.parametrize("action", NAMED)
def test_a_dry_run_shows_and_changes_nothing(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing_in({action: SEEN[action]}) as there:
        assert run(there, action, NAMED[action], "--dry-run") == 0
        assert [body["dry_run"] for _, _, _, body in there.asked] == [True]
    out = capsys.readouterr().out
    assert "alice@admin" in out
    assert "12" in out


@pytest.mark.parametrize(
    ("action", "asked"),
    [
        ("abort", {"session": ID[:8], "txn_number": 7, "child": None}),
        ("interrupt", {"conn": 12, "operation": 55}),
        ("close", {"conn": 12}),
    ],
)
def test_whoever_says_yes_means_what_was_shown(
    action: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Typing("y\n"))
    with standing_in({action: [SEEN[action], DONE[action]]}) as there:
        assert run(there, action, NAMED[action]) == 0
        assert there.asked[1][3] == asked | {"dry_run": False}
    monkeypatch.setattr(sys, "stdin", Typing("n\n"))
    with standing_in({action: SEEN[action]}) as there:
        assert run(there, action, NAMED[action]) == 0
        assert len(there.asked) == 1


@pytest.mark.parametrize(
    ("action", "changed", "status", "said"),
    [
        ("abort", {}, 0, f"transaction 7 of session {ID} is aborted"),
        ("abort", {"outcome": "over"}, 0, f"transaction 7 of session {ID} was over already"),
        ("abort", {"outcome": "committed"}, 1, "has been committed in the meantime"),
        ("abort", {"outcome": "failed", "problem": HOSTILE}, 1, "is not ended: <b>"),
        ("interrupt", {}, 0, "find on connection 12 is interrupted: upstream has ended it"),
        ("interrupt", {"outcome": "closed"}, 0, "the client was told so, and its connection"),
        ("interrupt", {"outcome": "over"}, 0, "it was over already"),
        ("close", {}, 0, "connection 12 is closed"),
        ("close", {"outcome": "over"}, 0, "connection 12 was gone"),
    ],
)
def test_what_became_of_it_is_said(
    action: str,
    changed: dict[str, Any],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with standing_in({action: DONE[action] | changed}) as there:
        assert run(there, action, NAMED[action], "--yes") == status
        assert run(there, action, NAMED[action], "--yes", "--json") == status
    text, document = capsys.readouterr().out.splitlines()
    assert said in text
    assert text.isprintable()
    assert json.loads(document) == DONE[action] | changed


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["abort", "--yes"], "ID: is needed"),
        (["abort", ID], "say --dry-run to look or --yes to abort"),
        (["close", "--yes", "x"], "CONN: has to be a connection's number"),
        (["interrupt", "--yes"], "say which: CONN or --session ID"),
        (["interrupt", "--yes", "12", "--session", ID], "say which: CONN or --session ID"),
    ],
)
def test_what_is_not_clear_is_refused(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing_in({}) as there:
        try:
            status = run(there, *arguments)
        except SystemExit as ended:
            status = int(ended.code or 0)
        assert (status, there.asked) == (2, [])
    assert capsys.readouterr().err == f"mongo-session-proxy: {problem}\n"


def test_of_several_clusters_one_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with standing_in({"interrupt": DONE["interrupt"]}) as there:
        arguments = ("interrupt", "--session", ID[:8], "--cluster", "web", "--yes")
        assert run(there, *arguments) == 0
        assert there.asked[0][3] == {"cluster": "web", "session": ID[:8], "dry_run": False}


def test_a_beginning_that_several_ids_have_is_told_with_all_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    each = ", ".join(f"{ID[:-1]}{digit} of alice@admin" for digit in range(10))
    text = f"{ID[:8]}: several ids begin so: {each}; give more of it\n"
    with standing_in({"kill": (400, text)}) as there:
        assert run(there, "kill", ID[:8], "--dry-run") == 2
    assert capsys.readouterr().err == f"mongo-session-proxy: {text}"


def test_sessions_that_were_shown_are_killed_whoever_else_s_id_begins_so_by_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", Typing("y\n"))
    seen = {"matched": 1, "unknown": [], "operations": 0, "cursors": 0, "transactions": 0}
    shown = seen | {"reachable": 1, "sessions": [session()]}
    done = {"matched": 1, "killed": 1, "unreachable": 0, "failed": 0, "unknown": [], "errors": {}}
    done |= {"unreachable_sessions": [], "failed_sessions": []}
    with standing_in({"kill": [shown, done]}) as there:
        assert run(there, "kill", ID[:8]) == 0
        assert there.asked[1][3]["sessions"] == [{"session": ID, "uid": "ab" * 32}]
    monkeypatch.setattr(sys, "stdin", Typing("y\n"))
    with standing_in({"kill": [shown, done]}) as there:
        assert run(there, "kill", "--session", ID[:8]) == 0
        assert there.asked[0][3]["patterns"] == [{"session": ID[:8]}]
        assert there.asked[1][3]["sessions"] == [{"session": ID, "uid": "ab" * 32}]
        assert "patterns" not in there.asked[1][3]
