"""Settings that the documentation shows, each run through check-config.

A block that begins with three backticks and ``toml`` is a whole configuration file. The files that
it names are made.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy import cli

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Where the pages have their files.
FILE = re.compile(r'"(/(?:run/secrets|(?:etc|var/log)/mongo-session-proxy)/[\w./-]+)"')
TOKEN = "0123456789abcdef0123456789abcdef"


PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST_RULE = "howto/first-rule.md"


def shown() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT / "docs").as_posix()
        for number, block in enumerate(BLOCK.findall(path.read_text()), 1):
            yield f"{name}:{number}", block


def texts(value: Any) -> Iterator[str]:
    """Every text in a file of settings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def written(text: str, folder: Path, authority: trustme.CA) -> str:
    """The block, with its files in a folder of the test's own."""
    hosts = {re.sub(r":\d+$", "", one) for one in texts(tomllib.loads(text)) if "/" not in one}
    names = sorted(host for host in hosts if re.fullmatch(r"[a-z][\w-]*(\.[\w-]+)+", host))
    certificate = authority.issue_cert("localhost", "127.0.0.1", "0.0.0.0", *names)
    key = certificate.private_key_pem.bytes()
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    for name in set(FILE.findall(text)):
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if "token" in path.name:
            path.write_text(TOKEN)
        elif path.suffix == ".key":
            path.write_bytes(key)
        elif path.name.startswith("ca"):
            authority.cert_pem.write_to_path(path)
        else:
            path.write_bytes(chain + key)
        path.chmod(0o400)
    return FILE.sub(lambda found: f'"{folder}{found[1]}"', text)


@pytest.mark.parametrize(("page", "text"), [pytest.param(*one, id=one[0]) for one in shown()])
def test_check_config_has_nothing_to_say(
    page: str,
    text: str,
    tmp_path: Path,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if page.startswith(FIRST_RULE):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "my_rules.py").write_text(first_rule()[0])
    path = tmp_path / "config.toml"
    path.write_text(written(text, tmp_path, authority))
    assert cli.main(["check-config", "--strict", str(path)]) == 0, capsys.readouterr().err


def first_rule() -> list[str]:
    return PYTHON.findall((ROOT / "docs" / FIRST_RULE).read_text())


def test_the_first_rule_passes_its_test(tmp_path: Path) -> None:
    rule, test = first_rule()
    [settings] = [text for page, text in shown() if page.startswith(FIRST_RULE)]
    (tmp_path / "my_rules.py").write_text(rule)
    (tmp_path / "test_my_rules.py").write_text(test)
    (tmp_path / "rules.toml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_rules.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_settings_are_found() -> None:
    assert {"kubernetes.md:1", "howto/coming-from.md:8"} <= dict(shown()).keys()
