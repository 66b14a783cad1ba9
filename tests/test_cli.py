from __future__ import annotations

import datetime
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy import cli, configuring
from proxy.build import VERSION
from proxy.errors import ConfigError
from tests.patience import PATIENCE

ANY_PORT = "127.0.0.1:0"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running proxy with the log line in which it says that it listens."""
    command = [sys.executable, "-m", "proxy", "serve", "--log-format", "json", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            said = next(json.loads(line) for line in process.stderr if '"listening"' in line)
            yield process, said
        finally:
            process.kill()


def errors(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> list[str]:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert all(line.startswith("mongo-session-proxy: ") for line in lines)
    return [line.removeprefix("mongo-session-proxy: ") for line in lines]


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"mongo-session-proxy {VERSION}\n")


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["check-config", "-h"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("usage: mongo-session-proxy")


def test_help_names_every_command_and_flag(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, names in (
        (["--help"], ["serve", "check-config", "files", "demo", "--version"]),
        (["serve", "--help"], ["--config", "--embedded", *configuring.SETTINGS]),
    ):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        out = capsys.readouterr().out
        assert [name for name in names if name not in out] == []


def test_no_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors(capsys, []) == ["say what to do; mongo-session-proxy --help lists the commands"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["bogus"], "bogus: no such command; mongo-session-proxy --help lists the commands"),
        (["serv"], "serv: no such command; did you mean serve?"),
        (["serve", "--listen"], "--listen: needs a value"),
        (["serve", "--embedded=1"], "--embedded: takes no value"),
        (["files"], "DIR: is needed"),
        (["kill", "--yes", "--dry-run"], "--dry-run: excludes --yes"),
        (["top", "--interval", "1 year"], "--interval: should be a number of seconds or a time"),
        (["sessions", "--limit", "x"], "--limit: has to be a number from 1 to 1000000"),
    ],
)
def test_a_wrong_shape_is_one_clear_line(
    arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mongo-session-proxy: {problem}")


def test_every_wrong_argument_and_setting_is_reported_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("[limits]\nconnections = 0\n")
    arguments = ["serve", "--config", str(path), "--listen", "nowhere", "--bogus"]
    assert errors(capsys, [*arguments, "--log-level", "loud", "--log-format=xml"]) == [
        "--bogus: no such argument",
        "--listen: 'nowhere' has no port",
        "--log-format: should be 'text' or 'json', not 'xml'",
        "--log-level: should be 'debug', 'info', 'warning' or 'error', not 'loud'",
        f"{path}:2: limits.connections: should be greater than or equal to 1, not 0",
    ]


def test_flags_are_not_guessed_from_their_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    assert errors(capsys, ["serve", "--list", "--adm"]) == [
        "--list: no such argument; did you mean --listen?",
        "--adm: no such argument; did you mean --admin?",
    ]


@pytest.mark.parametrize("command", [["demo", "now"], ["check-config", "x.toml", "now"]])
def test_what_is_too_much_is_an_error(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "now: no such argument" in errors(capsys, command)


def test_check_config_accepts_a_good_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[upstream]\naddress = "db:27017"\n')
    assert cli.main(["check-config", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: fine\n"


@pytest.mark.parametrize(
    "command", [["check-config"], ["check-config", "--config"], ["serve", "--config"]]
)
def test_a_bad_file_is_reported_without_a_traceback(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[listen]\naddress = "x"\n[log]\nlevel = 1\nbogus = 2\n')
    done = run(*command, str(path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"mongo-session-proxy: {path}:2: listen.address: 'x' has no port",
        f"mongo-session-proxy: {path}:4: log.level: should be 'debug', 'info', 'warning' or "
        "'error', not 1",
        f"mongo-session-proxy: {path}:5: log.bogus: unknown setting",
    ]


def test_flags_reach_the_settings_they_name(tmp_path: Path) -> None:
    parser = cli._parser()
    token = tmp_path / "admin.token"
    token.write_text("0123456789abcdef")
    values = {
        "--listen": "127.0.0.1:1",
        "--advertise": "proxy.example",
        "--upstream": "db:2",
        "--hello": "pass",
        "--compression": "strip",
        "--admin": "",
        "--admin-token-file": str(token),
        "--workers": "3",
        "--log-format": "json",
        "--log-level": "debug",
    }
    assert values.keys() == configuring.SETTINGS.keys() - {
        "--embedded-version"
    }  # excludes --upstream
    given = [word for item in values.items() for word in item]
    config = configuring.settings(parser.parse_args(["serve", *given]), [])
    assert (config.listen.address, config.listen.advertise) == ("127.0.0.1:1", "proxy.example")
    assert (config.upstream.address, config.upstream.hello) == ("db:2", "pass")
    assert (config.upstream.compression, config.admin.address) == ("strip", None)
    assert (config.log.format, config.log.level) == ("json", "debug")
    assert config.admin.secret() == "0123456789abcdef"
    assert config.embedded is None
    assert config.process.workers == 3


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[listen]\naddress = "127.0.0.1:1"\nbacklog = 5\n')
    options = cli._parser().parse_args(
        ["serve", "--config", str(path), "--listen", "[::1]:2", "--embedded"]
    )
    config = configuring.settings(options, [])
    assert (config.listen.address, config.listen.backlog) == ("[::1]:2", 5)
    assert config.embedded is not None


def test_a_version_asks_for_the_embedded_upstream() -> None:
    options = cli._parser().parse_args(["serve", "--embedded-version", "8.0"])
    config = configuring.settings(options, [])
    assert config.embedded is not None
    assert config.embedded.version == "8.0"


def test_problems_found_before_are_kept() -> None:
    options = cli._parser().parse_args(["serve"])
    with pytest.raises(ConfigError, match=r"^first$"):
        configuring.settings(options, ["first"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_accepts_and_ends_cleanly(number: signal.Signals) -> None:
    with serving("--listen", ANY_PORT, "--admin", ANY_PORT) as (process, said):
        address = said["connect"].removeprefix("mongodb://").partition("/")[0]
        host, _, port = address.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE):
            os.kill(process.pid, number)
            _, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in rest


@pytest.mark.parametrize("flag", ["--listen", "--admin"])
def test_a_port_in_use_is_one_clear_line(flag: str) -> None:
    other = {"--listen": "--admin", "--admin": "--listen"}[flag]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", flag, address, other, ANY_PORT, "--log-level", "error")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"mongo-session-proxy: {address}: Address already in use"]
    assert done.stdout == ""


def test_a_certificate_that_is_none_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "proxy.pem").write_text("no certificate")
    path = tmp_path / "proxy.toml"
    path.write_text(f'listen = {{ address = "{ANY_PORT}", tls.certificate = "proxy.pem" }}')
    done = run("serve", "--config", str(path), "--admin", "")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "proxy.pem" in done.stderr


def test_check_config_loads_rules_of_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[[policies.custom]]\nrule = "no_such_module:Rule"\n')
    (problem,) = errors(capsys, ["check-config", str(path)])
    assert problem.startswith(f"{path}:1: policies.custom[0]: rule no_such_module:Rule: ")


def test_check_config_reads_the_certificates_of_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none.pem").write_text("no certificate")
    path = tmp_path / "proxy.toml"
    path.write_text('listen.tls.certificate = "none.pem"\nupstream.tls.ca = "none.pem"\n')
    found = errors(capsys, ["check-config", str(path)])
    assert [problem.split(": ")[:2] for problem in found] == [
        [f"{path}:1", "listen.tls.certificate"],
        [f"{path}:2", "upstream.tls.ca"],
    ]


def test_check_config_warns_of_certificates_that_drivers_will_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaf = trustme.CA().issue_cert("localhost", not_after=datetime.datetime(2020, 1, 2))
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    path = tmp_path / "proxy.toml"
    path.write_text('listen = { advertise = "db.example.net", tls.certificate = "own.pem" }\n')
    assert cli.main(["check-config", str(path)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{path}: 2 warnings\n"
    name, time = told.err.splitlines()
    start = f"mongo-session-proxy: warning: {path}:1: listen.tls.certificate: {tmp_path}/own.pem: "
    assert name.startswith(f"{start}does not name db.example.net, which listen.advertise")
    assert time.startswith(f"{start}expired on 2020-01-02 00:00 UTC, ")


def test_without_its_engine_the_built_in_upstream_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['mongomock'] = None; from proxy.cli import main; "
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "mongo-session-proxy: the embedded upstream is not installed: "
        "pip install 'mongomock>=4.3,<5', or in the sources pip install '.[embedded]'"
    ]


def test_embedded_says_what_to_connect_with() -> None:
    with serving("--embedded", "--listen", ANY_PORT, "--admin", ANY_PORT) as (process, said):
        assert process.stdout is not None
        out = [process.stdout.readline() for _ in range(5)]
        assert f"  connect with   {said['connect']}\n" in out
        assert f"  metrics        http://{said['admin']}/metrics\n" in out
        [top] = [line.split()[1:] for line in out if line.startswith("  terminal ")]
        shown = subprocess.run(
            top,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert (shown.returncode, shown.stderr) == (0, "")
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_command_to_type_works_in_another_terminal_in_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binaries = tmp_path / "an environment" / "bin"
    binaries.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(binaries / "python"))
    monkeypatch.chdir(tmp_path)
    # Nothing but the sources: there is no such command, and elsewhere no such module.
    go, where, then, *command = shlex.split(cli._called())
    assert (go, Path(where), then) == ("cd", Path(cli.__file__).parents[1], "&&")
    assert command == [sys.executable, "-m", "mongo_session_proxy"]
    script = binaries / "mongo-session-proxy"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    assert shlex.split(cli._called()) == [str(script)]
    # An environment that is active is so in this terminal only.
    monkeypatch.setenv("PATH", str(binaries))
    monkeypatch.setattr(sys, "prefix", str(binaries.parent))
    assert shlex.split(cli._called()) == [str(script)]
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert cli._called() == "mongo-session-proxy"
    # Another one of that name is found first.
    other = tmp_path / "mongo-session-proxy"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{binaries}")
    assert shlex.split(cli._called()) == [str(script)]


def test_demo_ends_quietly_when_nobody_reads_on() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "proxy", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("A conversation")
        process.stdout.close()
        process.stdout = None
        _, complaints = process.communicate(timeout=PATIENCE)
    assert (process.returncode, complaints) == (0, "")


@pytest.mark.parametrize("command", ["schema", "show-config", "check-config"])
def test_a_full_disk_behind_stdout_is_one_clear_line(command: str) -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "proxy", command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    said = "mongo-session-proxy: stdout: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, said)


def test_what_is_wrong_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    (problem,) = errors(capsys, ["check-config", "\x1b[2J"])
    assert problem == "\\x1b[2J: No such file or directory"
