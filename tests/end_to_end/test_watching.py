"""``serve --watch``: settings, certificates and the token as they are on disk, without a signal."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.patience import PATIENCE

TOKENS = "0123456789abcdef", "fedcba9876543210"


class Serving:
    """A proxy with an embedded upstream, whose log is read line by line."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [sys.executable, "-m", "proxy", "serve", "--embedded", "--watch"]
        self._process = subprocess.Popen(
            [*command, "--config", str(folder / "proxy.toml"), "--log-format", "json", *flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def says(self, event: str) -> dict[str, Any]:
        """The next line of this kind; workers' own are not meant."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            said: dict[str, Any] = json.loads(line)
            if said["event"] == event and "worker" not in said:
                return said
        raise AssertionError(f"it ended without {event!r}")

    def end(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)


def replace(path: Path, content: bytes | str) -> None:
    new = path.with_name("new")
    new.write_bytes(content if isinstance(content, bytes) else content.encode())
    new.replace(path)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    (tmp_path / "admin.token").write_text(TOKENS[0])
    certificate(tmp_path / "proxy.pem")
    (tmp_path / "proxy.toml").write_text(
        'listen = { address = "127.0.0.1:0", tls.certificate = "proxy.pem" }\n'
        'admin = { address = "127.0.0.1:0", token_file = "admin.token" }\n'
    )
    made = Serving(tmp_path, "--workers", "2")
    yield made
    made.end()


def certificate(path: Path) -> None:
    made = trustme.CA().issue_cert("127.0.0.1")
    replace(path, made.private_key_and_cert_chain_pem.bytes())


def kills(admin: str, token: str) -> bool:
    """Whether this token is taken for a kill, of what there is not."""
    request = urllib.request.Request(
        f"http://{admin}/kill",
        data=json.dumps({"filter": {"application": "nobody"}}).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            return True
    except urllib.error.HTTPError as error:
        return error.code != 401


def test_what_changes_on_disk_holds(serving: Serving, tmp_path: Path) -> None:
    admin = serving.says("listening")["admin"]
    files = serving.says("watching files")["files"]
    assert {Path(file).name for file in files} == {"proxy.toml", "proxy.pem", "admin.token"}

    settings = (tmp_path / "proxy.toml").read_text()
    replace(tmp_path / "proxy.toml", f"{settings}limits.connections = 7\n")
    assert serving.says("configuration reloaded")["needs_restart"] == []

    replace(tmp_path / "proxy.toml", f"{settings}limits.conections = 7\n")
    [problem] = serving.says("configuration not reloaded")["problems"]
    assert problem == (
        f"{tmp_path}/proxy.toml:3: limits.conections: unknown setting; did you mean connections?"
    )
    with urllib.request.urlopen(f"http://{admin}/metrics", timeout=PATIENCE) as page:
        assert b'connections_limit{side="client"} 7.0' in page.read()

    assert [kills(admin, token) for token in TOKENS] == [True, False]
    replace(tmp_path / "admin.token", TOKENS[1])
    replace(tmp_path / "proxy.toml", settings)
    serving.says("configuration reloaded")
    assert [kills(admin, token) for token in TOKENS] == [False, True]

    replace(tmp_path / "proxy.pem", "no certificate")
    assert serving.says("certificates not reloaded")["problems"]
    certificate(tmp_path / "proxy.pem")
    assert serving.says("certificates reloaded")["side"] == "listener"
