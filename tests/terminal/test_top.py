"""``top`` as a process: on a terminal (a pty), into a pipe, as JSON."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from proxy import cli
from tests.patience import PATIENCE
from tests.terminal import terminals
from tests.terminal.rows import HOSTILE, pages, session
from tests.terminal.stand_in import StandIn, standing_in
from tests.terminal.terminals import Terminal


@contextmanager
def on_terminal(there: StandIn, *arguments: str) -> Iterator[Terminal]:
    with terminals.on_terminal("top", "--admin", there.address, *arguments) as terminal:
        yield terminal


def test_keys_change_what_is_seen_and_the_terminal_is_given_back() -> None:
    with standing_in(pages()) as there, on_terminal(there, "--interval", "60") as terminal:
        terminal.read_until("\x1b[?1049h", "mongo-session-proxy 1.2.3", "alice@admin", "q quit")
        terminal.press("g")
        terminal.read_until("SESSIONS ↓", "q quit")
        terminal.press("\x1b[A>")
        terminal.press("s/bob\n")
        terminal.read_until("text=bob")
        terminal.press("q")
        terminal.read_until("\x1b[?25h\x1b[?1049l")
        assert terminal.process.wait(PATIENCE) == 0
        targets = [one for one in there.targets() if one.startswith("/sessions")]
    assert "text=bob" in targets[-1]


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
