"""Others' packages of the names that ours have: one line and status 2, whatever is in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy import __version__
from proxy.build import VERSION

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif("+compiled" in VERSION, reason="what is compiled is not copied")

#: What shows that something of somebody else's was run.
FOREIGN = "print('foreign')\n"

#: As the console script begins, and as a module.
SCRIPT = ["-P", "-c", "import sys; from mongo_session_proxy import main; sys.exit(main())"]
MODULE = ["-m", "mongo_session_proxy"]
PACKAGE = ["-m", "proxy"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with what is installed."""
    folder = tmp_path / "site"
    for name in ("proxy", "policies"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "embedded")
        )
    shutil.copy(ROOT / "mongo_session_proxy.py", folder)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    folder = tmp_path / "other"
    folder.mkdir()
    return folder


def run(
    how: list[str], *path: Path, cwd: Path, arguments: tuple[str, ...] = ("--version",)
) -> tuple[int, str, list[str]]:
    done = subprocess.run(
        [sys.executable, *how, *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


def refused(done: tuple[int, str, list[str]], *words: str) -> None:
    status, out, errors = done
    assert (status, out) == (2, ""), errors
    [line] = errors
    assert line.startswith("mongo-session-proxy: ")
    assert "an environment of its own" in line
    assert [word for word in words if word not in line] == []


def fine(done: tuple[int, str, list[str]]) -> None:
    assert done == (0, f"mongo-session-proxy {__version__}\n", [])


@pytest.mark.parametrize("how", [SCRIPT, MODULE, PACKAGE], ids=["script", "module", "package"])
def test_where_all_is_ours_it_runs(how: list[str], site: Path, other: Path) -> None:
    fine(run(how, site, cwd=other))


@pytest.mark.parametrize("file", ["policies/__init__.py", "policies.py"])
@pytest.mark.parametrize("how", [SCRIPT, MODULE, PACKAGE], ids=["script", "module", "package"])
def test_policies_of_somebody_elses_on_the_path(
    how: list[str], file: str, site: Path, other: Path, tmp_path: Path
) -> None:
    (other / file).parent.mkdir(exist_ok=True)
    (other / file).write_text(FOREIGN)
    refused(run(how, other, site, cwd=tmp_path), "policies is found in", str(other / file))


@pytest.mark.parametrize("how", [MODULE, PACKAGE], ids=["module", "package"])
def test_policies_in_the_current_directory(how: list[str], site: Path, other: Path) -> None:
    (other / "policies").mkdir()
    (other / "policies" / "__init__.py").write_text(FOREIGN)
    refused(run(how, site, cwd=other), str(other))
    # The console script does not look there.
    fine(run(SCRIPT, site, cwd=other))


@pytest.mark.parametrize("file", ["proxy/__init__.py", "proxy.py"])
@pytest.mark.parametrize("how", [SCRIPT, MODULE], ids=["script", "module"])
def test_a_proxy_of_somebody_elses(
    how: list[str], file: str, site: Path, other: Path, tmp_path: Path
) -> None:
    (other / file).parent.mkdir(exist_ok=True)
    (other / file).write_text(FOREIGN)
    refused(run(how, other, site, cwd=tmp_path), "proxy is found in", str(other / file))


@pytest.mark.parametrize("name", ["proxy", "policies"])
@pytest.mark.parametrize("how", [SCRIPT, MODULE, PACKAGE], ids=["script", "module", "package"])
def test_folders_that_are_no_packages_are_in_nobodys_way(
    how: list[str], name: str, site: Path, other: Path, tmp_path: Path
) -> None:
    (other / name).mkdir()
    (other / name / "rules.txt").write_text("")
    fine(run(how, other, site, cwd=other))
    fine(run(how, other, site, cwd=tmp_path))


@pytest.mark.parametrize("name", ["proxy", "policies"])
def test_what_was_left_by_uninstalling_the_other(name: str, site: Path, other: Path) -> None:
    (site / name / "__init__.py").unlink()
    for how in (SCRIPT, MODULE):
        # Where the tests run from a checkout, the one there is found instead.
        refused(run(how, site, cwd=other), name, f" in {site}; ")


@pytest.mark.parametrize("file", ["proxy/__init__.py", "policies/__init__.py", "proxy/cli.py"])
@pytest.mark.parametrize("content", [b"", b"# \xff\n", b"not python"])
def test_what_another_has_overwritten(file: str, content: bytes, site: Path, other: Path) -> None:
    (site / file).write_bytes(content)
    for how in (SCRIPT, MODULE):
        refused(run(how, site, cwd=other), str(site / file), "overwritten")


@pytest.mark.parametrize("content", ["", "not python", None])
def test_a_module_further_in_that_another_has_overwritten(
    content: str | None, site: Path, other: Path
) -> None:
    record = site / "mongo_session_proxy-1.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: mongo-session-proxy\n")
    files = [path for path in sorted(site.rglob("*.py")) if path.stem != "mongo_session_proxy"]
    lines = [f"{path.relative_to(site)},,{path.stat().st_size}\n" for path in files]
    (record / "RECORD").write_text("proxy/__pycache__/cli.cpython-311.pyc,,\n" + "".join(lines))
    fine(run(SCRIPT, site, cwd=other))
    errors = site / "proxy" / "errors.py"
    errors.unlink()
    if content is not None:
        errors.write_text(content)
    for how in (SCRIPT, MODULE, PACKAGE):
        refused(run(how, site, cwd=other), f"{errors} is not as it was installed")


def test_what_is_wrong_with_nobody_elses_doing_keeps_its_traceback(site: Path, other: Path) -> None:
    (site / "proxy" / "errors.py").write_text("import no_such_module\n")
    status, _, errors = run(SCRIPT, site, cwd=other)
    assert status == 1
    assert errors[0].startswith("Traceback")
    assert "no_such_module" in errors[-1]
