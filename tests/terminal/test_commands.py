from __future__ import annotations

import io
import json
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from proxy import cli
from tests.terminal.rows import HOSTILE, pages, session
from tests.terminal.stand_in import StandIn, standing_in

ID = "11111111-2222-4333-8444-555555555555"
PREVIEW = {
    "dry_run": True,
    "matched": 3,
    "unknown": [],
    "operations": 1,
    "cursors": 2,
    "transactions": 1,
    "reachable": 2,
    "sessions": [session(), session(owner=HOSTILE)],
}
DONE = {
    "dry_run": False,
    "matched": 3,
    "unknown": [],
    "killed": 3,
    "unreachable": 0,
    "failed": 0,
    "errors": {},
    "unreachable_sessions": [],
    "failed_sessions": [],
}


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MONGO_SESSION_PROXY_TOKEN", raising=False)


def run(there: StandIn, *arguments: str) -> int:
    return cli.main([*arguments, "--admin", there.address])


def asked(target: str) -> dict[str, str]:
    parsed = parse_qs(urlsplit(target).query, keep_blank_values=True)
    return {name: value for name, (value,) in parsed.items()}


@pytest.mark.parametrize(
    ("command", "sort"),
    [
        ("sessions", "activity"),
        ("groups", "-sessions"),
        ("transactions", "-age"),
        ("cursors", "-age"),
        ("connections", "-conn"),
    ],
)
def test_listings_pass_on_what_is_asked(
    command: str, sort: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing_in(pages()) as there:
        assert run(there, command) == 0
        assert asked(there.targets()[0]) == {"sort": sort, "limit": "100"}
        captured = capsys.readouterr()
        assert captured.out.splitlines() or captured.err == f"no {command}\n"
        whose = "user" if command == "connections" else "owner"
        filters = [f"--{whose}", "a*", "--application", "", "--driver", "d", "--state", "idle"]
        assert (
            run(there, command, *filters, "--text", "t", "--sort=x", "--reverse", "--limit", "7")
            == 0
        )
        fields = asked(there.targets()[1])
    assert fields == {
        **{whose: "a*", "application": "", "driver": "d", "state": "idle", "text": "t"},
        **{"sort": "-x", "limit": "7"},
    }


def test_a_listing_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    with standing_in(pages()) as there:
        assert run(there, "sessions") == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.startswith("OWNER")
    assert first.split()[:2] == ["alice@admin", "shop"]
    assert second.endswith(ID)


def test_nothing_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    none = {"sessions": [], "matched": 0, "total": 1_200, "next": None}
    with standing_in(pages(sessions=none)) as there:
        assert run(there, "transactions") == run(there, "incidents") == 0
        assert run(there, "sessions", "--owner", "carol*") == 0
        assert run(there, "sessions", "--json") == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "no transactions",
        "no incidents",
        "no sessions match: there are 1,200 in all",
    ]
    assert json.loads(captured.out) == none


def test_incidents_are_narrowed_here(capsys: pytest.CaptureFixture[str]) -> None:
    one = {"age_seconds": 2.0, "kind": "foreign_uid", "rule": None, "user": "a", **session()}
    with standing_in(pages(incidents={"incidents": [one]})) as there:
        for flags in (
            [],
            ["--application", "sh*", "--user", "a"],
            ["--text", "foreign"],
            ["--session", one["session"][:4], "--rule", ""],
        ):
            assert run(there, "incidents", *flags) == 0
            assert "foreign uid" in capsys.readouterr().out
        assert set(there.targets()) == {"/incidents"}
        assert run(there, "incidents", "--owner", "a") == 2
        capsys.readouterr()
        assert run(there, "incidents", "--application", "nobody's") == 0
        assert capsys.readouterr().err == "no incidents match: there are 1 in all\n"


def page(numbers: range, after: str | None) -> dict[str, Any]:
    rows = [session(owner=f"u{number}") for number in numbers]
    return {"sessions": rows, "matched": 2_500, "total": 2_500, "next": after}


def test_long_listings_are_put_together_of_pages(capsys: pytest.CaptureFixture[str]) -> None:
    answers = {"sessions": [page(range(1_000), "one"), page(range(1_000, 1_500), "two")]}
    with standing_in(answers) as there:
        assert run(there, "sessions", "--limit", "1500") == 0
        first, second = map(asked, there.targets())
    assert (first["limit"], second["limit"], second["after"]) == ("1000", "500", "one")
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1_501
    assert captured.err == "… and 1,000 more: --limit 2500\n"


def test_json_is_what_the_endpoint_says(capsys: pytest.CaptureFixture[str]) -> None:
    rows = pages(sessions={"sessions": [session(owner=HOSTILE)], "matched": 1, "next": None})
    with standing_in(rows) as there:
        for command in ("sessions", "groups", "transactions", "cursors", "connections"):
            assert run(there, command, "--json") == 0
            line = capsys.readouterr().out
            assert json.loads(line) == rows[command]
            assert line.rstrip("\n").isascii()
            assert line.rstrip("\n").isprintable()


def test_names_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"sessions": [session(owner=HOSTILE, application=HOSTILE)], "matched": 1, "next": None}
    with standing_in(pages(sessions=rows)) as there:
        assert run(there, "sessions") == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "\\x1b[2J" in out


# ---------------------------------------------------------------------- kills


def test_what_a_kill_has_freed_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"owner": "alice@app", "application": "web", "freed": 3, "owner_live": 1}
    row |= {"owner_limit": 1_000, "application_live": 2, "application_limit": None}
    done = DONE | {"freed": 3, "kept": 2, "freed_by": [row]}
    with standing_in({"kill": done}) as there:
        assert run(there, "kill", "--application", "web", "--yes") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "places freed in the session budget: 3",
        "  alice@app · web: 3; the owner has 1 of 1,000 still in use",
        "places kept, since something is open still: 2",
    ]


def test_a_dry_run_shows_and_kills_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with standing_in({"kill": PREVIEW}) as there:
        assert run(there, "kill", "--dry-run", "--application", "shop*", "--min-idle", "600") == 0
        (_, _, _, body), *rest = there.asked
    assert not rest
    assert body == {"patterns": [{"application": "shop*", "min_idle": "600"}], "dry_run": True}
    lines = capsys.readouterr().out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert lines[-3:] == [
        "… and 1 more",
        "3 sessions with 1 command in flight, 1 open transaction and 2 open cursors",
        "1 of them cannot be killed: their owners have no idle connection for it",
    ]


def test_yes_kills_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with standing_in({"kill": DONE}) as there:
        assert run(there, "kill", "--yes", ID) == 0
        (_, _, _, body), *rest = there.asked
    assert not rest
    assert body == {"sessions": [ID], "dry_run": False}
    assert capsys.readouterr().out == "3 killed, 0 unreachable, 0 failed\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"unreachable": 1, "unreachable_sessions": [session()]}, ID),
        ({"unreachable": 1, "unreachable_sessions": [session()]}, "have no idle connection"),
        ({"failed": 1, "errors": {f"db:1: {HOSTILE}": 1}}, "1 session\n"),
        ({"unknown": [ID]}, f"{ID}: no such session"),
    ],
)
def test_what_could_not_be_killed_is_said_and_is_a_failure(
    changed: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing_in({"kill": DONE | changed}) as there:
        assert run(there, "kill", "--yes", "--owner", "*") == 1
    out = capsys.readouterr().out
    assert said in out
    assert all(line.isprintable() for line in out.splitlines())


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_json_of_kills(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = PREVIEW if option == "--dry-run" else DONE
    with standing_in({"kill": answer}) as there:
        assert run(there, "kill", option, "--json", "--owner", "*") == 0
    assert json.loads(capsys.readouterr().out) == answer


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--dry-run"], "say which: sessions by id, or filters"),
        (["--yes", ID, "--owner", "a"], "say which: sessions by id, or filters"),
        (["--owner", "a"], "say --dry-run to look or --yes to kill"),
    ],
)
def test_kills_that_are_not_clear_are_refused(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with standing_in({}) as there:
        assert run(there, "kill", *arguments) == 2
        assert there.asked == []
    assert capsys.readouterr().err.startswith(f"mongo-session-proxy: {problem}")


class Typing(io.StringIO):
    """Somebody at a keyboard."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "asked_for"),
    [(yes, [True, False]) for yes in ("y\n", "YES\n")] + [(no, [True]) for no in ("\n", "n\n", "")],
)
def test_at_a_keyboard_one_is_asked(
    typed: str,
    asked_for: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Typing(typed))
    with standing_in({"kill": [PREVIEW, DONE]}) as there:
        assert run(there, "kill", "--owner", "*") == 0
        assert [body["dry_run"] for _, _, _, body in there.asked] == asked_for
    assert "Kill these 3 sessions? [y/N] " in capsys.readouterr().out


# ---------------------------------------------------------------------- trouble


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["sessions", "--admin", "127.0.0.1:1"], 1, "127.0.0.1:1: Connection refused"),
        (["top", "--admin", "127.0.0.1:1"], 1, "127.0.0.1:1: Connection refused"),
        (["sessions", "--admin", "x y"], 2, "--admin: "),
        (["sessions", "--token-file", "nowhere"], 2, "nowhere: No such file"),
        (["sessions", "--colour"], 2, "--colour: no such argument"),
    ],
)
def test_trouble_is_one_line_and_a_status(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"mongo-session-proxy: {said}")
    assert captured.err.count("\n") == 1


def test_the_token_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_SESSION_PROXY_TOKEN", "0123456789abcdef")
    with standing_in(pages()) as there:
        assert run(there, "sessions") == 0
        assert there.asked[0][2]["authorization"] == "Bearer 0123456789abcdef"
