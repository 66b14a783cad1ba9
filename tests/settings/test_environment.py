"""Settings of flags, of the environment and of secrets, and which of them is in force."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ConfigError
from proxy.settings.config import Config, gather
from proxy.settings.environment import variable
from proxy.settings.fields import all_paths
from proxy.settings.layers import Layer
from proxy.settings.reading import Read, of_flags

TOKEN = "0123456789abcdef"


def of(environment: Mapping[str, str], path: Path | None = None, **flags: str) -> Read[Config]:
    """Flags by the setting's path with "__" for dots."""
    given = {f"--{name}": (tuple(name.split("__")), text) for name, text in flags.items()}
    return gather(path, of_flags(Config, given), environment)


def problems(environment: Mapping[str, str], path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        of(environment, path)
    return caught.value.problems


@pytest.mark.parametrize(
    ("name", "text", "get", "value"),
    [
        ("MSP_LISTEN__ADDRESS", "[::1]:5", lambda one: one.listen.address, "[::1]:5"),
        ("MSP_LISTEN__BACKLOG", "5", lambda one: one.listen.backlog, 5),
        ("MSP_ADMIN__ADDRESS", "", lambda one: one.admin.address, None),
        ("MSP_ADMIN__TOKEN", TOKEN, lambda one: one.admin.secret(), TOKEN),
        ("MSP_SESSIONS__TRACKING", "False", lambda one: one.sessions.tracking, False),
        ("MSP_LIMITS__DRAIN_SECONDS", "5m", lambda one: one.limits.drain_seconds, 300),
        ("MSP_LIMITS__DRAIN_SECONDS", "2.5", lambda one: one.limits.drain_seconds, 2.5),
        ("MSP_LIMITS__BUFFERED_BYTES", "1MiB", lambda one: one.limits.buffered_bytes, 1 << 20),
        ("MSP_PROCESS__WORKERS", "2", lambda one: one.process.workers, 2),
        ("MSP_PROCESS__WORKERS", "auto", lambda one: one.process.workers, "auto"),
        ("MSP_EMBEDDED__VERSION", "8.0", lambda one: one.embedded.version, "8.0"),
        ("MSP_EMBEDDED", "{}", lambda one: one.embedded.set_name, "embedded"),
        (
            "MSP_POLICIES__SESSION_BUDGET__OPERATORS",
            '["a@b"]',
            lambda one: one.policies.session_budget.operators,
            ("a@b",),
        ),
        (
            "MSP_UPSTREAM__MEMBERS",
            '[{"upstream": "a:1", "listen": "b:2", "advertise": "c:3"}]',
            lambda one: one.upstream.members[0].listen,
            "b:2",
        ),
        (
            "MSP_POLICIES__CUSTOM",
            '[{"rule": "a:B", "settings": {"x": [1]}}]',
            lambda one: one.policies.custom[0].settings,
            {"x": [1]},
        ),
    ],
)
def test_every_kind_of_setting(name: str, text: str, get: Any, value: object) -> None:
    assert get(of({name: text, "MSPX": "1", "HOME": "/"}).settings) == value


def test_each_setting_has_one_variable() -> None:
    paths = list(all_paths(Config))
    assert len({variable(path) for path in paths}) == len(paths) > 60


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"MSP_LISTEN__ADRESS": "x"},
            ["MSP_LISTEN__ADRESS: no such setting; did you mean MSP_LISTEN__ADDRESS?"],
        ),
        (
            {"MSP_LISTEN_ADDRESS": "a:1"},
            ["MSP_LISTEN_ADDRESS: no such setting; did you mean MSP_LISTEN__ADDRESS?"],
        ),
        (
            {"MSP_listen__address": "a:1"},
            ["MSP_listen__address: no such setting; did you mean MSP_LISTEN__ADDRESS?"],
        ),
        ({"MSP_QQ": "x"}, ["MSP_QQ: no such setting"]),
        (
            {"MSP_UPSTREAM__MEMBERS__0__LISTEN": "x"},
            ["__LISTEN: no such setting: MSP_UPSTREAM__MEMBERS takes them all, as JSON"],
        ),
        ({"MSP_LISTEN__BACKLOG": "0x5"}, ["should be a valid integer, not '0x5'"]),
        ({"MSP_LISTEN__ADDRESS": ""}, ["MSP_LISTEN__ADDRESS: '' has no host"]),
        ({"MSP_SESSIONS__TRACKING": "yes"}, ["should be a valid boolean, not 'yes'"]),
        ({"MSP_UPSTREAM__MEMBERS": "{}"}, ["MSP_UPSTREAM__MEMBERS: should be a JSON array"]),
        (
            {"MSP_UPSTREAM__TLS": "["},
            ["MSP_UPSTREAM__TLS: should be a JSON object: Expecting value: line 1 column 2"],
        ),
        (
            {"MSP_UPSTREAM__MEMBERS": '[{"listen": "a:1"}]', "MSP_LOG__LEVEL": "x"},
            [
                "MSP_UPSTREAM__MEMBERS: upstream.members[0].upstream: is needed",
                "MSP_UPSTREAM__MEMBERS: upstream.members[0].advertise: is needed",
                "MSP_LOG__LEVEL: should be",
            ],
        ),
        ({"MSP_ADMIN__TOKEN": "short"}, ["MSP_ADMIN__TOKEN: a token has at least 16"]),
        ({"MSP_SECRETS_DIR": "/nowhere"}, ["/nowhere: No such file or directory"]),
    ],
)
def test_what_is_wrong_is_said_by_the_variable(
    environment: dict[str, str], said: list[str]
) -> None:
    found = problems(environment)
    assert len(found) == len(said)
    assert all(text in problem for text, problem in zip(said, found, strict=True))


@pytest.mark.parametrize(
    "name",
    [
        "MSP_SERVICE_HOST",
        "MSP_SERVICE_PORT",
        "MSP_SERVICE_PORT_MONGO",
        "MSP_PORT",
        "MSP_PORT_27017_TCP",
        "MSP_PORT_27017_TCP_ADDR",
        "MSP_ADMIN_SERVICE_PORT_HTTP",
        "MSP_ADMIN_PORT_27080_TCP_PROTO",
    ],
)
def test_what_kubernetes_says_of_a_service_called_so_is_no_setting(name: str) -> None:
    hosts = {"MSP_SERVICE_HOST": "10.0.0.1", "MSP_ADMIN_SERVICE_HOST": "10.0.0.1"}
    assert of({**hosts, name: "tcp://10.0.0.1:27017"}).settings == Config()


def test_what_only_looks_like_it_is_not_passed_over() -> None:
    assert problems({"MSP_LISTEN_PORT": "5", "MSP_SERVICE_HOST": "10.0.0.1"}) == [
        "MSP_LISTEN_PORT: no such setting"
    ]


def test_flags_lie_over_the_environment_and_that_over_secrets_and_the_file(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text(
        "[limits]\nconnections = 1\nframe_seconds = 1\ndrain_seconds = 1\n[listen]\nbacklog = 1\n"
    )
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "MSP_LIMITS__FRAME_SECONDS").write_text("2\n")
    (secrets / "MSP_LIMITS__DRAIN_SECONDS").write_text("2")
    (secrets / "MSP_LISTEN__BACKLOG").write_text("2")
    (secrets / "other").write_text("2")
    environment = {
        "MSP_SECRETS_DIR": str(secrets),
        "MSP_LIMITS__DRAIN_SECONDS": "3",
        "MSP_LISTEN__BACKLOG": "3",
    }
    read = of(environment, path, listen__backlog="4")
    limits = read.settings.limits
    assert (limits.connections, limits.frame_seconds, limits.drain_seconds) == (1, 2, 3)
    assert read.settings.listen.backlog == 4
    assert [
        read.origin(("limits", name))
        for name in ("connections", "frame_seconds", "drain_seconds", "half_close_seconds")
    ] == [
        ("file", f"{path}:2"),
        ("secret", f"{secrets}/MSP_LIMITS__FRAME_SECONDS"),
        ("environment", "MSP_LIMITS__DRAIN_SECONDS"),
        ("default", ""),
    ]
    assert read.origin(("listen", "backlog")) == ("flag", "--listen__backlog")


def test_systemd_s_credentials_are_secrets(tmp_path: Path) -> None:
    (tmp_path / "MSP_ADMIN__TOKEN").write_text(TOKEN)
    assert of({"CREDENTIALS_DIRECTORY": str(tmp_path)}).settings.admin.secret() == TOKEN


def test_a_variable_may_name_a_file_that_holds_the_value(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{TOKEN}\r\n")
    # A setting of that name there is, and it stays one: the file is read again when it changes.
    config = of({"MSP_ADMIN__TOKEN_FILE": str(secret)}).settings
    assert (config.admin.token_file, config.admin.secret()) == (secret, TOKEN)
    secret.write_text("db:1\n")
    assert of({"MSP_UPSTREAM__ADDRESS_FILE": str(secret)}).settings.upstream.address == "db:1"
    gone = tmp_path / "gone"
    assert problems({"MSP_UPSTREAM__ADDRESS_FILE": str(gone)}) == [
        f"MSP_UPSTREAM__ADDRESS_FILE: {gone}: No such file or directory"
    ]
    gone.write_bytes(b"\xff")
    assert problems({"MSP_UPSTREAM__ADDRESS_FILE": str(gone)}) == [
        f"MSP_UPSTREAM__ADDRESS_FILE: {gone}: not UTF-8"
    ]


def test_a_table_as_a_whole_and_its_settings_by_themselves(tmp_path: Path) -> None:
    read = of({"MSP_LOG": '{"level": "debug", "format": "json"}', "MSP_LOG__LEVEL": "error"})
    assert (read.settings.log.level, read.settings.log.format) == ("error", "json")
    assert read.origin(("log", "level")).where == "MSP_LOG__LEVEL"
    assert read.origin(("log", "format")).where == "MSP_LOG"


def test_what_excludes_a_setting_gives_way_to_a_higher_place(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    secret = tmp_path / "admin.token"
    secret.write_text(TOKEN)
    path.write_text('admin.token_file = "admin.token"')
    config = of({"MSP_ADMIN__TOKEN": "x" * 16}, path).settings
    assert (config.admin.secret(), config.admin.token_file) == ("x" * 16, None)
    path.write_text(f'admin.token = "{"y" * 16}"')
    config = of({"MSP_ADMIN__TOKEN_FILE": str(secret)}, path).settings
    assert config.admin.secret() == TOKEN
    both = {"MSP_ADMIN__TOKEN_FILE": str(secret), "MSP_ADMIN__TOKEN": TOKEN}
    assert problems(both) == ["admin: token and token_file exclude each other"]


def test_relative_paths_start_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.pem").touch()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = folder / "proxy.toml"
    path.touch()
    tls = of({"MSP_LISTEN__TLS__CERTIFICATE": "c.pem"}, path).settings.listen.tls
    assert tls is not None
    assert tls.certificate == tmp_path / "c.pem"
    tls = of({"MSP_LISTEN__TLS": '{"certificate": "c.pem"}'}, path).settings.listen.tls
    assert tls is not None
    assert tls.certificate == tmp_path / "c.pem"
    many = '[{"subject": "CN=a", "certificate": "c.pem"}]'
    variables = {
        "MSP_UPSTREAM__TLS__X509": many,
        "MSP_LISTEN__TLS": '{"certificate": "c.pem", "ca": "c.pem"}',
        "MSP_LISTEN__TLS__CLIENT_CERTIFICATES": "required",
    }
    upstream = of(variables, path).settings.upstream.tls
    assert upstream is not None
    assert upstream.x509[0].certificate == tmp_path / "c.pem"


def test_a_broken_file_does_not_hide_what_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text("[admin")
    found = problems({"MSP_LOG__LEVEL": "x", "MSP_ADMIN__ADDRESS": "0.0.0.0:1"}, path)
    # The file may have held the token.
    assert [one.partition(": ")[0] for one in found] == [f"{path}:1", "MSP_LOG__LEVEL"]


def test_what_a_caller_gives_has_no_place() -> None:
    with pytest.raises(ConfigError, match=r"^log\.level: should be"):
        gather(None, Layer("flag", {"log": {"level": "x"}}), {})
