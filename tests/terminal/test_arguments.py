from __future__ import annotations

import pytest

from proxy import cli
from proxy.terminal import usage
from proxy.terminal.arguments import COMMANDS, FILTERS, STATES, filters, order


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for word in ("--admin", "--token-file", "--json"):
        assert word in out


def test_only_what_was_given_is_a_filter() -> None:
    options = cli._parser().parse_args(["sessions", "--owner", "a", "--min-age", "5", "--text", ""])
    assert filters(options) == {"owner": "a", "min_age": "5", "text": ""}


@pytest.mark.parametrize(
    ("arguments", "sort"),
    [
        ([], "-age"),
        (["--reverse"], "age"),
        (["--sort", "idle"], "idle"),
        (["--sort", "idle", "--reverse"], "-idle"),
        (["--sort=-idle"], "-idle"),
        (["--sort=-idle", "--reverse"], "idle"),
    ],
)
def test_orders(arguments: list[str], sort: str) -> None:
    options = cli._parser().parse_args(["cursors", *arguments])
    assert order(options, "-age") == sort


@pytest.mark.parametrize(
    "arguments",
    [
        ["sessions", "--limit", "0"],
        ["history", "--limit", "0"],
        ["sessions", "--limit", "x"],
        ["sessions", "--limit", "9" * 5_000],
        ["top", "--interval", "0"],
        ["top", "--interval", "nan"],
        ["top", "--view", "policies"],
        ["kill", "--dry-run", "--yes", "x"],
    ],
)
def test_wrong_values_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err or arguments[0] == "kill"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ownr", "x"], ["--ownr: no such argument; did you mean --owner?"]),
        (
            ["--ownr=x", "y", "z"],
            ["--ownr=x: no such argument; did you mean --owner?", "y: no such argument",
             "z: no such argument"],
        ),
        (["--a", "x", "y"], ["--a: no such argument", "y: no such argument"]),
    ],
)  # fmt: skip
def test_the_value_of_a_flag_that_there_is_not_is_no_further_mistake(
    arguments: list[str], said: list[str]
) -> None:
    assert usage.no_such(arguments, ["--owner", "--admin", "--sort"]) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("min_age: should be a number", "--min-age: should be a number"),
        ("sort: 'ownr' is none of owner", "--sort: 'ownr' is none of owner"),
        ("conn: there is no connection 7", "CONN: there is no connection 7"),
        (
            "drver: no such filter; there are driver, uid, min_age; did you mean driver?",
            "drver: no such filter; there are --driver, --min-age; did you mean driver?",
        ),
        ("killing is off: configure admin.token", "killing is off: configure admin.token"),
    ],
)
def test_fields_are_called_by_their_flags(text: str, said: str) -> None:
    assert usage.by_flag(text, FILTERS) == said


def test_a_wrong_choice_gets_a_hint() -> None:
    text = "argument --view: invalid choice: 'sesions' (choose from 'sessions', 'groups')"
    assert usage.said(text) == (
        "--view: should be sessions or groups, not 'sesions'; did you mean sessions?"
    )


@pytest.mark.parametrize("command", ["sessions", "groups", "connections", "cursors", "kill"])
def test_the_states_that_are_named_are_the_listings(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    states = STATES["sessions" if command == "kill" else command]
    assert f"--state STATES {', '.join(states)}; several" in said
