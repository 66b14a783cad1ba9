"""The schema that editors check the configuration file against, held against what reads it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from proxy import cli, files
from proxy.errors import ConfigError
from proxy.settings.config import load
from proxy.settings.quantities import SIZE_PATTERN, TIME_PATTERN
from tests.settings.test_config import EXAMPLE, uncommented

SCHEMA: dict[str, Any] = json.loads(files.schema())


def wrong(text: str) -> list[str]:
    """Where the schema finds something, as ``table.setting``."""
    found = Draft7Validator(SCHEMA).iter_errors(tomllib.loads(text))
    return [".".join(map(str, error.absolute_path)) for error in found]


def test_it_is_a_schema_that_refers_to_nothing_else() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert "$ref" not in json.dumps(SCHEMA)


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), uncommented(), ""])
def test_the_example_is_right(text: str) -> None:
    assert wrong(text) == []


@pytest.mark.parametrize(
    "text",
    [
        'limits.drain_seconds = "1h30m"',
        "limits.drain_seconds = 5",
        'limits.buffered_bytes = "64MiB"',
        'process.workers = "auto"',
        "process.workers = 2",
        'admin.address = ""',
        'policies.transaction_guard.idle_seconds = "5m"',
        'policies.custom = [{ rule = "tests.settings.test_rules:Mine", settings = { limit = 1 } }]',
    ],
)
def test_what_is_read_is_right(tmp_path: Path, text: str) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    load(path)
    assert wrong(text) == []


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("bogus = 1", ""),
        ("listen.adress = 'x'", "listen"),
        ("listen.backlog = '5'", "listen.backlog"),
        ("listen.backlog = 0", "listen.backlog"),
        ("listen.tls = {}", "listen.tls"),
        ("upstream.hello = 'x'", "upstream.hello"),
        ("upstream.members = [{ listen = 'a:1', advertise = 'b:1' }]", "upstream.members.0"),
        ("limits.drain_seconds = 'soon'", "limits.drain_seconds"),
        ("limits.drain_seconds = 100_000", "limits.drain_seconds"),
        ("limits.buffered_bytes = '64M'", "limits.buffered_bytes"),
        ("process.workers = 65", "process.workers"),
        ("process.workers = 'many'", "process.workers"),
        ("sessions.tracking = 'yes'", "sessions.tracking"),
        ("policies.ownership.mode = 'on'", "policies.ownership.mode"),
        ("policies.kill_guard.max_sessions = -1", "policies.kill_guard.max_sessions"),
        ("policies.session_budget.operators = 'a@b'", "policies.session_budget.operators"),
        ("policies.custom = [{}]", "policies.custom.0"),
        ("embedded = true", "embedded"),
        ("embedded.version = '3.6'", "embedded.version"),
    ],
)
def test_what_is_wrong_is_found_where_it_is_and_not_read(
    tmp_path: Path, text: str, where: str
) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load(path)
    assert wrong(text) == [where]


def settings(table: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every setting in the schema, of lists of tables as well."""
    for name, one in table["properties"].items():
        inner = one.get("items", one)
        if "properties" in inner:
            yield from settings(inner, f"{path}{name}.")
        else:
            yield f"{path}{name}", one


def test_every_time_and_size_may_be_a_text() -> None:
    plain = {"_seconds": {"type": "string", "pattern": TIME_PATTERN}}
    plain["_bytes"] = {"type": "string", "pattern": SIZE_PATTERN}
    found = 0
    for path, one in settings(SCHEMA):
        for end, text in plain.items():
            if path.endswith(end):
                assert text in one["anyOf"], path
                found += 1
    assert found > 10


def test_it_says_what_the_example_says() -> None:
    limits = SCHEMA["properties"]["limits"]["properties"]
    assert limits["drain_seconds"]["description"].startswith("How long work in flight may take")
    assert limits["drain_seconds"]["default"] == 30.0
    tls = SCHEMA["properties"]["listen"]["properties"]["tls"]
    assert tls["description"] == "With this table clients have to use TLS."


def test_the_command_prints_it_and_files_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert cli.main(["files", str(tmp_path)]) == 0
    hint, _, _ = (tmp_path / "config.example.toml").read_text().partition("\n")
    assert hint.startswith("#:schema ")
    assert json.loads((tmp_path / hint.removeprefix("#:schema ")).read_text()) == SCHEMA
