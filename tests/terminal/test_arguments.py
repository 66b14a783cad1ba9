from __future__ import annotations

import pytest

from proxy import cli
from proxy.terminal.arguments import COMMANDS, filters, order


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
        ["sessions", "--limit", "x"],
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
