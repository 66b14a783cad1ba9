"""What is allowed and probably not meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy import cli
from proxy.embedded.roles import CLUSTER, built_in
from proxy.settings.cautions import CLUSTER_ACTIONS, cautions, of_places
from proxy.settings.config import gather, load
from proxy.settings.layers import Layer

TOKEN = "0123456789abcdef"


def of(**tables: Any) -> list[str]:
    return cautions(load(None, tables))


def test_nothing_is_said_of_the_defaults() -> None:
    assert of() == []


def test_a_history_that_is_not_kept_where_a_file_is_named() -> None:
    said = of(history={"file": "history", "hours": 0.0})
    assert said == ["history.file: nothing is written to it, as history.hours is 0"]
    assert of(history={"hours": 0.0}) == of(history={"file": "history"}) == []


def test_the_actions_of_built_in_roles_are_known() -> None:
    for role in ("root", "clusterAdmin", "hostManager", "backup", "restore"):
        privileges = built_in(role, "admin")
        assert privileges is not None
        assert privileges[CLUSTER] <= CLUSTER_ACTIONS


@pytest.mark.parametrize("permission", ["killAnySession", "root@admin", "a@b@c", ""])
def test_permissions_that_somebody_can_have(permission: str) -> None:
    assert of(policies={"kill_guard": {"permission": permission}}) == []


@pytest.mark.parametrize(
    ("permission", "near"),
    [
        ("killAnySesion", "; did you mean killAnySession?"),
        ("kill_any_session", "; did you mean killAnySession?"),
        ("root", ""),
        ("root@", ""),
        ("@admin", ""),
        ("find", ""),
    ],
)
def test_permissions_that_nobody_has(permission: str, near: str) -> None:
    [one] = of(policies={"kill_guard": {"permission": permission}})
    assert one.startswith(f"policies.kill_guard.permission: {permission!r} is neither an action")
    assert one.endswith(f"nobody has it{near}")
    [one] = of(policies={"session_budget": {"operators": ["root@admin", permission]}})
    assert one.startswith(f"policies.session_budget.operators: {permission!r} is neither")
    assert of(policies={"kill_guard": {"permission": permission, "mode": "off"}}) == []


def test_room_for_operators_that_leaves_none_for_others() -> None:
    sessions = {"max_sessions": 100}
    assert of(policies={"session_budget": {"reserved": 99}}, sessions=sessions) == []
    assert of(policies={"session_budget": {"reserved": 100}}, sessions=sessions) == [
        "policies.session_budget.reserved: 100 leaves nothing of sessions.max_sessions (100), "
        "so only operators get sessions"
    ]


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """One that everybody can reach; the folders on the way to a file may be closed to others, which
    is as good as if the file were."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


@pytest.mark.parametrize(
    ("setting", "locked"),
    [
        ("audit.file", "folder"),
        ("audit.file", "folder/there"),
        ("history.file", "folder"),
        ("process.pid_file", "folder"),
    ],
)
def test_a_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, locked: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "there").touch()
    file = folder / ("there" if "there" in locked else "new")
    table, _, name = setting.partition(".")
    place = tmp_path / locked
    text = f"{setting}: {file} cannot be written by this user: {place} is not writable"
    assert text not in of(**{table: {name: str(file)}})
    # Permissions do not hold for root, who may be the one that runs tests.
    monkeypatch.setattr("os.access", lambda path, _mode: Path(path) != place)
    assert text in of(**{table: {name: str(file)}})


def test_a_key_that_everybody_can_read(open_folder: Path) -> None:
    key, certificate = open_folder / "s.key", open_folder / "s.pem"
    for path in (key, certificate):
        path.write_text("")
        path.chmod(0o644)
    apart = {"certificate": str(certificate), "key": str(key)}
    text = "can be read by everybody on this machine"
    for side in ("listen", "upstream"):
        said = [f"{side}.tls.key: {key} {text}: chmod o-r"]
        assert of(**{side: {"tls": apart}}) == said
        said = [f"{side}.tls.certificate: {certificate} {text}, and the key is in it: chmod o-r"]
        assert of(**{side: {"tls": {"certificate": str(certificate)}}}) == said
    key.chmod(0o640)
    assert of(listen={"tls": apart}, upstream={"tls": apart}) == []
    uri = f"mongodb://a/?tls=true&tlsCertificateKeyFile={certificate}"
    assert of(upstream={"address": uri}) == [f"upstream.address: {certificate} {text}: chmod o-r"]


def test_a_token_that_everybody_can_read(open_folder: Path) -> None:
    path = open_folder / "admin.token"
    path.write_text(TOKEN)
    for mode, said in ((0o600, False), (0o640, False), (0o644, True), (0o604, True)):
        path.chmod(mode)
        found = of(admin={"token_file": str(path)})
        assert found == (
            [f"admin.token_file: {path} can be read by everybody on this machine: chmod o-r"]
            if said
            else []
        )
    open_folder.chmod(0o750)
    assert of(admin={"token_file": str(path)}) == []


@pytest.mark.parametrize(("strict", "status"), [([], 0), (["--strict"], 1)])
def test_check_config_says_it_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], strict: list[str], status: int
) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[policies.kill_guard]\npermission = "killAll"\n')
    assert cli.main(["check-config", str(path), *strict]) == status
    captured = capsys.readouterr()
    assert captured.out == f"{path}: 1 warning\n"
    assert captured.err.startswith(
        f"mongo-session-proxy: warning: {path}:2: policies.kill_guard.permission: 'killAll' is"
    )


def test_strict_is_content_where_nothing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "proxy.toml"
    path.touch()
    assert cli.main(["check-config", str(path), "--strict"]) == 0
    assert capsys.readouterr().out == f"{path}: fine\n"


MEMBERS = [{"upstream": "a:1", "listen": "x:1", "advertise": "p:1"}]


@pytest.mark.parametrize(
    ("listen", "upstream", "said"),
    [
        ({"advertise": "proxy"}, {"address": "mongodb://a,b"}, True),
        ({"advertise": "proxy"}, {"address": "mongodb://a/?replicaSet=rs"}, True),
        ({}, {"address": "mongodb://a,b"}, False),
        ({"advertise": "proxy"}, {"address": "a"}, False),
        ({"advertise": "proxy"}, {"address": "mongodb://a,b", "hello": "pass"}, False),
        ({"advertise": "proxy"}, {"address": "mongodb://a,b", "members": MEMBERS}, False),
        (
            {"advertise": "proxy"},
            {"address": "mongodb://a/?replicaSet=rs&directConnection=true"},
            False,
        ),
    ],
)
def test_one_name_for_several_proxies(listen: Any, upstream: Any, said: bool) -> None:
    found = of(listen=listen, upstream=upstream)
    assert [one.partition(":")[0] for one in found] == ["listen.advertise"] * said


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ({"proxy_protocol": "accept"}, ""),
        ({"proxy_protocol": "accept", "proxy_protocol_from": ["10.0.0.0/8"]}, ""),
        ({"proxy_protocol": "accept", "proxy_protocol_from": ["0.0.0.0/0"]}, "0.0.0.0/0 lets"),
        ({"proxy_protocol": "require", "proxy_protocol_from": ["::/0"]}, "::/0 lets"),
        ({"proxy_protocol": "off", "proxy_protocol_from": ["::/0"]}, ""),
        ({"proxy_protocol": "require", "address": "0.0.0.0:27018"}, "only this machine"),
        ({"proxy_protocol": "require", "address": "/tmp/a.sock"}, ""),
    ],
)
def test_balancers_that_cannot_be_meant(listen: Any, said: str) -> None:
    found = of(listen=listen)
    assert bool(found) == bool(said)
    assert all(one.startswith(f"listen.proxy_protocol_from: {said}") for one in found)


@pytest.mark.parametrize(("mode", "warnings"), [(0o600, 0), (0o644, 1)])
def test_a_token_in_a_file_or_a_secret_that_everybody_can_read(
    open_folder: Path, mode: int, warnings: int
) -> None:
    path = open_folder / "proxy.toml"
    path.write_text(f'[admin]\ntoken = "{TOKEN}"\n')
    secret = open_folder / "MSP_ADMIN__TOKEN"
    secret.write_text(TOKEN)
    for file, found in (
        (path, gather(path, Layer("flag"), {})),
        (secret, gather(None, Layer("flag"), {"MSP_SECRETS_DIR": str(open_folder)})),
    ):
        file.chmod(mode)
        text = f"admin.token: {file} can be read by everybody on this machine: chmod o-r"
        assert of_places(found) == [text] * warnings
    assert of_places(gather(path, Layer("flag"), {"MSP_ADMIN__TOKEN": TOKEN})) == []


@pytest.mark.parametrize("rule", ["session_budget", "transaction_guard"])
def test_entries_that_mean_nobody_or_nothing(rule: str) -> None:
    bounds = [
        {"users": ["batch-*"], "per_user": 9},
        {"users": ["x", "batch-7@admin"], "exempt": True},
        {"users": ["batch-8"], "per_user": 5},
        {"applications": ["web"], "exempt": True, "per_user": 5},
        {"applications": ["etl"]},
    ]
    path = f"policies.{rule}.bounds"
    assert of(policies={rule: {"bounds": bounds}}) == [
        f"{path}[1].users[1]: matches nobody, since bounds[0] takes all that it means",
        f"{path}[2]: matches nobody, since bounds[0] takes all that it means",
        f"{path}[3].exempt: leaves per_user beside it without a meaning",
        f"{path}[4]: says nothing: no bound, and not exempt",
    ]
    assert of(policies={rule: {"mode": "off", "bounds": bounds}}) == []
