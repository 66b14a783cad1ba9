"""What is in force, and where it is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy import cli
from proxy.settings.config import Config
from proxy.settings.fields import all_paths, written

TOKEN = "0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "proxy.toml"
    path.write_text(f'''
[limits]
drain_seconds = "1m"
connections = 5
[admin]
token = "{TOKEN}"
[[upstream.members]]
upstream = "a:1"
listen = "b:1"
advertise = "c:1"
[[policies.custom]]
rule = "my_rules:Hours"
settings = {{ from_hour = 8, api_key = "{TOKEN}" }}
''')
    return path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, tuple[object, ...]]:
    assert cli.main(["show-config", "--json", *arguments]) == 0
    out = capsys.readouterr().out
    assert TOKEN not in out
    return {row["setting"]: (row["value"], row["source"], row["where"]) for row in json.loads(out)}


def test_each_setting_is_shown_with_where_it_is_from(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSP_LIMITS__CONNECTIONS", "7")
    monkeypatch.setenv("MSP_CONFIG", str(path))
    found = shown(capsys, "--log-level", "debug", "--embedded")
    for name, row in {
        "limits.drain_seconds": (60.0, "file", f"{path}:3"),
        "limits.connections": (7, "environment", "MSP_LIMITS__CONNECTIONS"),
        "limits.frame_seconds": (30.0, "default", ""),
        "admin.token": ("********", "file", f"{path}:6"),
        "admin.token_file": (None, "default", ""),
        "upstream.members[0].listen": ("b:1", "file", f"{path}:9"),
        "policies.custom[0].mode": ("enforce", "default", ""),
        "policies.custom[0].settings": (
            {"from_hour": 8, "api_key": "********"},
            "file",
            f"{path}:13",
        ),
        "log.level": ("debug", "flag", "--log-level"),
        "embedded.version": ("4.4", "default", ""),
    }.items():
        assert found[name] == row, name


def test_no_setting_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys)
    for path in map(written, all_paths(Config)):
        there = path in found or any(name.startswith(f"{path}.") for name in found)
        # Tables that are not there are shown as a whole.
        assert there or any(path.startswith(f"{name}.") for name in found), path


def test_for_people_it_is_a_table(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show-config", "--config", str(path)]) == 0
    out = capsys.readouterr().out
    assert TOKEN not in out
    lines = [line.split() for line in out.splitlines()]
    assert ["limits.drain_seconds", "60.0", f"{path}:3"] in lines
    assert ["limits.frame_seconds", "30.0", "default"] in lines
    assert ["admin.token_file", "none", "default"] in lines


def test_what_is_wrong_is_said_and_nothing_shown(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["show-config", "--config", str(path), "--log-level", "x"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("mongo-session-proxy: --log-level: should be")
