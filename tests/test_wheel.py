"""The wheel: what it holds, and that it runs without the project around it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from zipfile import ZipFile

import pytest

from proxy import __version__
from proxy.build import VERSION
from proxy.files import SCHEMA, contents
from tests.patience import PATIENCE

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif("+compiled" in VERSION, reason="this is of the pure wheel")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, as an installation would have it."""
    folder = tmp_path_factory.mktemp("wheel")
    program = "import hatchling.build, sys; print(hatchling.build.build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = folder / "content"
    with ZipFile(folder / done.stdout.split()[-1]) as wheel:
        wheel.extractall(content)
    return content


def command(installed: Path, *arguments: str) -> list[str]:
    program = (
        "import sys, mongo_session_proxy as ours;"
        f" assert ours.__file__.startswith({str(installed)!r}), ours.__file__;"
        " sys.exit(ours.main())"
    )
    return [sys.executable, "-P", "-c", program, *arguments]


def environment(installed: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}


def test_it_holds_every_file_of_its_packages(installed: Path) -> None:
    def files(root: Path) -> set[str]:
        return {
            str(path.relative_to(root))
            for package in ("proxy", "policies")
            for path in (root / package).rglob("*")
            if path.is_file() and not {"__pycache__", "shipped"} & {*path.parts}
        }

    held = files(installed)
    assert held == files(ROOT)
    assert "proxy/admin/page/page.html" in held
    assert {path.name for path in installed.iterdir()} == {
        "proxy",
        "policies",
        "mongo_session_proxy.py",
        f"mongo_session_proxy-{__version__}.dist-info",
    }


def test_it_says_its_version(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(installed, "--version"),
        cwd=tmp_path,
        env=environment(installed),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"mongo-session-proxy {__version__}\n"


def test_it_brings_the_files_that_one_wants_beside_it(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        command(installed, "files", "."),
        cwd=tmp_path,
        env=environment(installed),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == list(contents())
    for name, content in contents().items():
        assert (tmp_path / name).read_bytes() == content
    held = {path for path in (installed / "proxy" / "shipped").rglob("*") if path.is_file()}
    shipped = {str(path.relative_to(installed / "proxy" / "shipped")) for path in held}
    assert shipped | {SCHEMA} == {*contents()}


def test_it_serves(installed: Path, tmp_path: Path) -> None:
    flags = ("--embedded", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    serving = subprocess.Popen(
        command(installed, "serve", *flags, "--log-level", "error"),
        cwd=tmp_path,
        env=environment(installed),
        stdout=subprocess.PIPE,
        text=True,
    )
    with serving:
        try:
            assert serving.stdout is not None
            address = ""
            while not address.startswith("http://"):
                line = serving.stdout.readline()
                assert line, "it ended"
                address = line.split()[-1]
            host = address.split("/")[2]
            with urllib.request.urlopen(f"http://{host}/", timeout=PATIENCE) as answer:
                assert answer.headers["content-type"].startswith("text/html")
                assert b"<html" in answer.read()
            serving.send_signal(signal.SIGTERM)
            assert serving.wait(PATIENCE) == 0
        finally:
            serving.kill()
    assert list(tmp_path.iterdir()) == []
