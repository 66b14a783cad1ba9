"""The deployment files, as far as they can be tried without an engine or an init system."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from proxy.settings.config import Config, load
from proxy.terminal.arguments import DEFAULT_ADMIN
from tests.needs import lacking, need

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = DEPLOY / "mongo-session-proxy.service"
SOCKET = DEPLOY / "mongo-session-proxy.socket"
COMPOSE = (DEPLOY / "compose.yaml").read_text()
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
LOCK = tomllib.loads((ROOT / "uv.lock").read_text())

#: ``- source:target`` in a list of volumes, where the source is a path.
MOUNT = re.compile(r"^ +- (\.[^:\n]*):(/[^:\n]+?)(:ro)?$", re.MULTILINE)

#: What a user makes before the first start; its name is not to be committed.
MADE_BY_HAND = "admin.token"


def unit_settings(unit: Path = UNIT) -> list[tuple[str, str]]:
    lines = [line for line in unit.read_text().splitlines() if re.match(r"\w+=", line)]
    return [(name, value) for name, _, value in (line.partition("=") for line in lines)]


# ------------------------------------------------------------------ systemd


def test_systemd_understands_the_units(tmp_path: Path) -> None:
    analyze = need("systemd-analyze")
    text = UNIT.read_text()
    # It insists on programs that exist.
    program = shutil.which("true")
    text = text.replace("/opt/mongo-session-proxy/bin/mongo-session-proxy", str(program))
    units = [tmp_path / UNIT.name, tmp_path / SOCKET.name]
    units[0].write_text(text)
    shutil.copy(SOCKET, units[1])
    done = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    # Other units of this machine may have faults of their own.
    own = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.stem in line]
    assert own == []
    assert done.returncode == 0, done.stderr


def test_the_unit_fits_the_defaults() -> None:
    settings = dict(unit_settings())
    limits = Config().limits
    assert settings["Type"] == "notify"
    assert int(settings["TimeoutStopSec"]) > limits.drain_seconds + 15
    assert int(settings["LimitNOFILE"]) >= 2 * limits.connections + 1000
    assert int(settings["WatchdogSec"]) >= 10
    reloads = [value for name, value in unit_settings() if name == "ExecReload"]
    assert reloads[-1].endswith("kill -HUP $MAINPID")


def test_systemd_listens_where_the_defaults_do() -> None:
    config, settings = Config(), unit_settings(SOCKET)
    listens = [value for name, value in settings if name == "ListenStream"]
    assert listens == [config.listen.address, config.admin.address]
    assert int(dict(settings)["Backlog"]) == config.listen.backlog
    assert UNIT.stem == SOCKET.stem, "so that the one starts the other"


# ------------------------------------------------------------------ containers


def test_everything_that_is_mounted_exists() -> None:
    mounts = MOUNT.findall(COMPOSE)
    assert len(mounts) >= 6
    for source, target, read_only in mounts:
        assert read_only, f"{target} need not be writable"
        if source != f"./{MADE_BY_HAND}":
            assert (DEPLOY / source).exists(), source
    assert f"/{MADE_BY_HAND}" in (DEPLOY / ".gitignore").read_text().splitlines()


def test_nothing_is_published_beyond_this_machine() -> None:
    published = re.findall(r'^ +- "([\d.:]+)"$', COMPOSE, re.MULTILINE)
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_settings_of_the_composed_proxy_are_valid(tmp_path: Path) -> None:
    token = tmp_path / MADE_BY_HAND
    token.write_text("0123456789abcdef0123456789abcdef\n")
    path = tmp_path / "config.toml"
    text = (DEPLOY / "compose.toml").read_text()
    path.write_text(text.replace(f"/etc/mongo-session-proxy/{MADE_BY_HAND}", str(token)))
    config = load(path)
    assert config.embedded is not None
    for address in (config.listen.address, config.admin.address or ""):
        port = address.rpartition(":")[2]
        assert f'"127.0.0.1:{port}:{port}"' in COMPOSE


def test_containers_find_each_other() -> None:
    targets = {source: target for source, target, _ in MOUNT.findall(COMPOSE)}
    scraping = (DEPLOY / "prometheus.yml").read_text()
    assert targets["./prometheus.yml"] == "/etc/prometheus/prometheus.yml"
    for name in ("alerts.yml", MADE_BY_HAND):
        assert f"/etc/prometheus/{name}" in targets.values()
        assert name in scraping
    assert '["proxy:27080"]' in scraping
    provider = (ROOT / "grafana/provisioning/dashboards/mongo-session-proxy.yml").read_text()
    assert f"path: {targets['../grafana/dashboards']}\n" in provider
    source = (ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text()
    [variable] = re.findall(r"url: \$\{(\w+)\}", source)
    assert f"{variable}: http://prometheus:9090" in COMPOSE


def test_prometheus_understands_its_settings(tmp_path: Path) -> None:
    promtool = need("promtool")
    shutil.copy(DEPLOY / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "grafana" / "alerts.yml", tmp_path)
    (tmp_path / MADE_BY_HAND).write_text("0123456789abcdef\n")
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def copied_to(stages: str) -> set[str]:
    copied = re.findall(r"^COPY (?!--)(.+)$", stages, re.MULTILINE)
    return {name for line in copied for name in line.split()[:-1]}


def test_the_image_is_made_of_what_exists() -> None:
    sources = copied_to(DOCKERFILE)
    assert {"proxy", "policies", "pyproject.toml"} <= sources
    assert all((ROOT / name).exists() for name in sources)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    build = DOCKERFILE[: DOCKERFILE.index(" AS redirect")]
    for name in wheel["targets"]["wheel"]["force-include"]:
        assert any((ROOT / name).is_relative_to(ROOT / one) for one in copied_to(build)), name
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in let_in if line.startswith("!")} == sources


def test_the_image_runs_as_nobody_in_particular_and_is_checked() -> None:
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^STOPSIGNAL SIGTERM$", DOCKERFILE, re.MULTILINE)
    [check] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    assert json.loads(check) == ["mongo-session-proxy", "ready"]
    assert Config().admin.address == DEFAULT_ADMIN


def test_the_image_has_no_tools_to_build_with() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"pip uninstall .*setuptools wheel pip", last)
    assert not re.search(r"apt-get|pip install|uv ", last)
    # A virtual environment of uv's has no pip.
    assert "uv venv /opt/mongo-session-proxy" in DOCKERFILE


# ------------------------------------------------------------------ the lock file


def locked() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in LOCK["package"]}


def test_the_lock_is_of_this_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = project["project"]["dependencies"]
    own = locked()["mongo-session-proxy"]
    wanted = {
        one["name"]: one["specifier"]
        for one in own["metadata"]["requires-dist"]
        if "marker" not in one
    }
    needed = {canonicalize_name(one.name): one.specifier for one in map(Requirement, asked)}
    assert {name: SpecifierSet(text) for name, text in wanted.items()} == needed, "run: uv lock"
    for name, specifier in needed.items():
        assert specifier.contains(locked()[name]["version"])
    assert SpecifierSet(LOCK["requires-python"]) == SpecifierSet(
        project["project"]["requires-python"]
    )


def test_the_lock_names_public_places_alone_and_digests_for_all() -> None:
    text = (ROOT / "uv.lock").read_text()
    hosts = set(re.findall(r"[a-z]+://([^/\"]+)", text))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}
    for name, one in locked().items():
        if name != "mongo-session-proxy":
            assert one["source"] == {"registry": "https://pypi.org/simple"}
            files = [*one.get("wheels", []), *filter(None, [one.get("sdist")])]
            assert files
            assert all(file["hash"].startswith("sha256:") for file in files)


@pytest.mark.parametrize("extra", ["", "embedded"])
def test_the_first_steps_of_the_image(extra: str, tmp_path: Path) -> None:
    """What needs no engine and no network: the lists of packages, and what the image is made of."""
    here = Path(sys.executable).parent / "uv"
    if not here.exists():
        lacking("uv")
    [steps] = re.findall(r"^RUN (uv export(?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tmp_path)
    environment = {"PATH": f"{here.parent}:{os.environ['PATH']}", "EXTRA": extra}
    environment |= {"HOME": str(tmp_path), "UV_OFFLINE": "1", "UV_PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", "-ec", steps], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    needed = (tmp_path / "needed.txt").read_text()
    names = set(re.findall(r"^([a-z][\w.-]*)==", needed, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert names >= {canonicalize_name(Requirement(one).name) for one in project["dependencies"]}
    assert ("mongomock" in names) == (extra == "embedded")
    assert not names & {"pytest", "mypy", "hatchling", "pip", "setuptools"}
    assert needed.count("==") <= needed.count("--hash=sha256:")
    assert re.search("^hatchling==", (tmp_path / "build.txt").read_text(), re.MULTILINE)
    bill = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert {one["name"] for one in bill["components"]} - {"mongo-session-proxy"} == names
