"""Settings that the documentation shows, each run through check-config.

A block that begins with three backticks and ``toml`` is a whole configuration file. The files that
it names are made.
"""

from __future__ import annotations

import re
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
FILE = re.compile(r'"(/(?:run/secrets|etc/mongo-session-proxy)/[\w./-]+)"')
TOKEN = "0123456789abcdef0123456789abcdef"


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
    page: str, text: str, tmp_path: Path, authority: trustme.CA, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(written(text, tmp_path, authority))
    assert cli.main(["check-config", "--strict", str(path)]) == 0, capsys.readouterr().err


def test_settings_are_found() -> None:
    assert {"kubernetes.md:1"} <= dict(shown()).keys()
