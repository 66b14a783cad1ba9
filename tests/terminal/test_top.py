"""``top`` as a process: on a terminal (a pty), into a pipe, as JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from proxy import cli
from tests.patience import PATIENCE
from tests.terminal import terminals
from tests.terminal.rows import HOSTILE, pages, session
from tests.terminal.stand_in import StandIn, standing_in
from tests.terminal.terminals import Terminal
from tests.terminal.test_commands import DONE, PREVIEW

#: What ends a screen.
END = "\x1b[?2026l"


@contextmanager
def on_terminal(
    there: StandIn, *arguments: str, columns: int = 100, lines: int = 30
) -> Iterator[Terminal]:
    with terminals.on_terminal(
        "top", "--admin", there.address, *arguments, columns=columns, lines=lines
    ) as terminal:
        yield terminal


def frame(terminal: Terminal, *texts: str) -> list[str]:
    """The next whole screen that has all of ``texts``, in lines."""
    while True:
        while END not in terminal.output:
            terminal.read_more()
        drawn, _, terminal.output = terminal.output.partition(END)
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn).replace("\r", "").split("\n")
        if all(any(text in line for line in lines) for text in texts):
            return lines


def test_keys_change_what_is_seen_and_the_terminal_is_given_back() -> None:
    with standing_in(pages()) as there, on_terminal(there, "--interval", "60") as terminal:
        terminal.read_until("\x1b[?1049h", "mongo-session-proxy 1.2.3", "alice@admin", "q quit")
        terminal.press("g")
        terminal.read_until("SESSIONS ↓", "q quit")
        terminal.press("\x1b[C>")
        terminal.press("s/bob\n")
        terminal.read_until("  bob ")
        while not any("text=bob" in one for one in there.targets()):
            frame(terminal)
        terminal.press("q")
        terminal.read_until("\x1b[?25h\x1b[?1049l")
        assert terminal.process.wait(PATIENCE) == 0
        assert terminal.as_it_was()


def test_a_proxy_that_goes_away_is_said_and_waited_for() -> None:
    with standing_in(pages()) as there, on_terminal(there, "--interval", "0.1") as terminal:
        terminal.read_until("alice@admin")
        there.answers["summary"] = (503, "busy")
        terminal.read_until("503 busy")
        there.answers["summary"] = pages()["summary"] | {"version": "9.9.9"}
        terminal.read_until("mongo-session-proxy 9.9.9")
        terminal.process.send_signal(signal.SIGINT)
        terminal.read_until("\x1b[?1049l")
        assert terminal.process.wait(PATIENCE) == 130


def test_hostile_names_stay_on_their_line() -> None:
    rows = {"sessions": [session(owner=HOSTILE)], "matched": 1, "total": 1, "next": None}
    with standing_in(pages(sessions=rows)) as there, on_terminal(there) as terminal:
        terminal.read_until("OWNER")
        before = terminal.output
        terminal.read_until("q quit")
        assert "\x1b[2J" not in before + terminal.output
        terminal.press("q")


KILLED = DONE | {"matched": 1, "killed": 1}
ID = "11111111-2222-4333-8444-555555555555"


def killing(row: dict[str, Any]) -> dict[str, Any]:
    return PREVIEW | {"matched": 1, "reachable": 1, "sessions": [row]}


def many(count: int) -> dict[str, Any]:
    rows = [session(owner=f"user{at}@admin", session=f"{at:08}{ID[8:]}") for at in range(count)]
    return {"sessions": rows, "matched": count, "total": count, "next": None}


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (132, 50)])
def test_a_session_is_chosen_shown_and_killed(columns: int, lines: int) -> None:
    row = many(60)["sessions"][2]
    answers = pages(sessions=many(60)) | {"kill": [killing(row), KILLED]}
    with (
        standing_in(answers) as there,
        on_terminal(there, "--interval", "60", columns=columns, lines=lines) as terminal,
    ):
        shown = frame(terminal, "? help")
        assert (len(shown), max(map(len, shown)) <= columns) == (lines, True)
        terminal.press("\x1b[B\x1b[B")
        frame(terminal, "> user2@admin")
        terminal.press("Ky")
        shown = frame(terminal, "Kill this session?")
        assert (len(shown), max(map(len, shown)) <= columns) == (lines, True)
        assert any(row["session"] in line for line in shown)
        terminal.press("y")
        frame(terminal, "1 killed, 0 unreachable, 0 failed")
        terminal.press("\x1b")
        frame(terminal, "> user2@admin")
        terminal.press("\x1b[F")
        frame(terminal, "> user59@admin")
        terminal.press("q")
        assert terminal.process.wait(PATIENCE) == 0
        asked = [body for _, path, _, body in there.asked if path == "/kill"]
    named = {"session": row["session"], "uid": row["uid"]}
    assert asked == [{"sessions": [named], "dry_run": one} for one in (True, False)]


def test_a_smaller_terminal_is_drawn_anew_at_once() -> None:
    with (
        standing_in(pages(sessions=many(60))) as there,
        on_terminal(there, "--interval", "60", columns=132, lines=50) as terminal,
    ):
        assert len(frame(terminal, "? help")) == 50
        assert there.targets()[-1].endswith("limit=50")
        for columns, lines in ((80, 24), (20, 3)):
            terminal.resize(columns, lines)
            while len(shown := frame(terminal)) != lines:
                pass
            assert max(map(len, shown)) <= columns


def test_it_stops_as_others_do_and_goes_on() -> None:
    with standing_in(pages()) as there, on_terminal(there, "--interval", "60") as terminal:
        frame(terminal, "alice@admin")
        terminal.process.send_signal(signal.SIGTSTP)
        terminal.read_until("\x1b[?1049l")
        _, status = os.waitpid(terminal.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert terminal.as_it_was()
        terminal.process.send_signal(signal.SIGCONT)
        terminal.read_until("\x1b[?1049h")
        frame(terminal, "alice@admin")
        terminal.press("q")
        assert terminal.process.wait(PATIENCE) == 0
        assert terminal.as_it_was()


def test_it_gives_the_terminal_back_when_it_is_told_to_end() -> None:
    with standing_in(pages()) as there, on_terminal(there, "--interval", "60") as terminal:
        frame(terminal, "alice@admin")
        terminal.process.send_signal(signal.SIGTERM)
        terminal.read_until("\x1b[?1049l")
        assert terminal.process.wait(PATIENCE) == 143
        assert terminal.as_it_was()


def test_a_filter_that_the_proxy_does_not_know_is_said_and_taken_back() -> None:
    with standing_in(pages()) as there, on_terminal(there, "--interval", "0.1") as terminal:
        frame(terminal, "alice@admin")
        there.answers["sessions"] = (400, "state: 'x' is none of idle, killed")
        terminal.press("/state=x\r")
        frame(terminal, "state: 'x' is none of idle, killed")
        there.answers["sessions"] = pages()["sessions"]
        terminal.press("r")
        while "sort=-activity" not in there.targets()[-1]:
            frame(terminal, "Sessions 1/2   ")
        assert "state" not in there.targets()[-1]


def test_a_token_is_asked_for_where_one_is_needed() -> None:
    row = many(1)["sessions"][0]
    answers = pages(sessions=many(1)) | {"kill": [killing(row), (401, "no"), (401, "no"), KILLED]}
    with (
        standing_in(answers) as there,
        on_terminal(there, "--interval", "60") as terminal,
    ):
        frame(terminal, "user0@admin")
        terminal.press("K")
        frame(terminal, "Kill this session?")
        terminal.press("y")
        frame(terminal, "a token is needed  token: _")
        terminal.press("abc\r")
        frame(terminal, "wrong token, the proxy has others  token: _")
        terminal.press("abcd\r")
        frame(terminal, "1 killed")
        shown = [headers.get("authorization") for _, path, headers, _ in there.asked
                 if path == "/kill"]  # fmt: skip
    assert shown == [None, None, "Bearer abc", "Bearer abcd"]


def test_it_ends_after_so_many() -> None:
    with (
        standing_in(pages()) as there,
        on_terminal(there, "--interval", "0.1", "--count", "2") as terminal,
    ):
        terminal.read_until("alice@admin", "alice@admin", "\x1b[?1049l")
        assert terminal.process.wait(PATIENCE) == 0
        assert len([one for one in there.targets() if one == "/summary"]) == 2


def test_a_proxy_that_is_not_there_does_not_take_the_screen() -> None:
    with standing_in({}) as there, on_terminal(there) as terminal:
        terminal.read_until("answers, but not as mongo-session-proxy does")
        assert "\x1b[?1049h" not in terminal.output
        assert terminal.process.wait(PATIENCE) == 1


def piped(there: StandIn, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "top", "--admin", there.address, *arguments]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )


def test_into_a_pipe_there_is_one_plain_table() -> None:
    with standing_in(pages()) as there:
        done = piped(there, "--view", "groups")
    counts, empty, heading, row = done.stdout.splitlines()
    assert counts.startswith("sessions 2/1,000,000")
    assert (empty, heading[:5], row[:5]) == ("", "OWNER", "alice")
    assert "\x1b" not in done.stdout


def test_json_is_one_line_each_time() -> None:
    with standing_in(pages()) as there:
        done = piped(there, "--json", "--count", "2", "--interval", "0.1")
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == second
    assert first["version"] == "1.2.3"
    assert [row["owner"] for row in first["sessions"]] == ["alice@admin", "bob@admin"]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    with standing_in(pages()) as there:
        command = f"{sys.executable} -m proxy top --json --interval 0.1 --admin {there.address}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {command} | head -1"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


def test_an_order_that_does_not_exist_is_said(capsys: object) -> None:
    with standing_in(pages(sessions=(400, "sort: no such order"))) as there:
        assert cli.main(["top", "--admin", there.address, "--sort", "x"]) == 2


def test_who_wants_to_leave_does_not_wait_for_a_proxy_that_hangs() -> None:
    with (
        standing_in(pages()) as there,
        standing_in(pages()) as other,
        terminals.on_terminal(
            "top", "--admin", f"{there.address},{other.address}", "--interval", "0.1"
        ) as terminal,
    ):
        frame(terminal, "2 proxies", "alice@admin")
        with other.silent() as asked:
            assert asked.wait(PATIENCE)
            terminal.press("q")
            terminal.read_until("\x1b[?1049l")
            assert terminal.process.wait(PATIENCE) == 0
            assert terminal.as_it_was()
