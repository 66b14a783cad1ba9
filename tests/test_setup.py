"""`.ci/venv` against stand-ins for the programs it calls."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "venv"

#: An interpreter without ensurepip until the marker file exists, as Debian's is.
PYTHON = """\
echo "python $*" >> "$LOG"
case "$*" in
    *version_info*"<"*) [ -z "$TOO_OLD" ] ;;
    --version) echo "Python 3.9.2" ;;
    *python%d*) echo python3.11-venv ;;
    "-c import ensurepip"*) [ -e "$MARKER" ] ;;
    "-m venv "*) mkdir -p "$3/bin" && printf '#!/bin/sh\\necho "venv $*" >> "$LOG"\\n%s\\n' "$PIP" \
        > "$3/bin/python" && chmod +x "$3/bin/python" ;;
esac
"""
APT = """\
echo "apt-get $*" >> "$LOG"
case "$*" in *install*) [ -z "$APT_FAILS" ] && : > "$MARKER" ;; esac
"""
SUDO = 'echo "sudo" >> "$LOG"\nexec "$@"\n'

Run = Callable[..., tuple[int, str, list[str]]]


@pytest.fixture
def setup(tmp_path: Path) -> Run:
    """Runs the script; gives its exit status, its errors and the calls that it made."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("mkdir", "chmod", "rm", "env"):
        (programs / name).symlink_to(f"/bin/{name}")

    def program(name: str, text: str) -> None:
        path = programs / name
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)

    def run(uid: int = 0, *, apt: bool = True, sudo: bool = False, **env: str):
        log = tmp_path / "log"
        log.write_text("")
        program("python3", PYTHON)
        program("id", f"echo {uid}\n")
        if apt:
            program("apt-get", APT)
        if sudo:
            program("sudo", SUDO)
        paths = {"PATH": str(programs), "LOG": str(log), "MARKER": str(tmp_path / "marker")}
        done = subprocess.run(
            ["/bin/sh", str(SCRIPT), "venv", "test"],
            cwd=tmp_path,
            env={"TOO_OLD": "", "APT_FAILS": "", "PIP": "", **paths, **env},
            capture_output=True,
            text=True,
            check=False,
        )
        (tmp_path / "out").write_text(done.stdout)
        return done.returncode, done.stderr.strip(), log.read_text().splitlines()

    return run


def made(calls: list[str]) -> bool:
    return "python -m venv venv" in calls


def installed(calls: list[str]) -> bool:
    return any(call.startswith("venv -m pip install ") and ".[test]" in call for call in calls)


def apt_calls(calls: list[str]) -> list[str]:
    return [call for call in calls if call.startswith(("apt-get", "sudo"))]


def test_where_python_has_all_it_takes_nothing_else_is_installed(
    setup: Run, tmp_path: Path
) -> None:
    (tmp_path / "marker").touch()
    status, errors, calls = setup()
    assert (status, errors) == (0, "")
    assert made(calls)
    assert installed(calls)
    assert apt_calls(calls) == []


def test_root_gets_the_missing_package(setup: Run) -> None:
    status, _, calls = setup()
    assert status == 0
    assert apt_calls(calls) == ["apt-get -q update", "apt-get -q install -y python3.11-venv"]
    assert installed(calls)


def test_others_get_it_through_sudo(setup: Run) -> None:
    status, _, calls = setup(1000, sudo=True)
    assert status == 0
    assert apt_calls(calls) == [
        "sudo",
        "apt-get -q update",
        "sudo",
        "apt-get -q install -y python3.11-venv",
    ]
    assert installed(calls)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uid": 1000}, "As root: apt-get install python3.11-venv"),
        ({"uid": 1000, "apt": False}, "install its venv and pip modules"),
        ({"APT_FAILS": "1"}, "That did not work. As root: apt-get install python3.11-venv"),
        ({"TOO_OLD": "1"}, "Python 3.9.2 is too old: Python 3.11 or newer is needed"),
        ({"PYTHON": "python9"}, "No python9 here: install Python 3.11 or newer."),
    ],
)
def test_what_cannot_be_done_is_said(setup: Run, options: dict[str, str], message: str) -> None:
    status, errors, calls = setup(**options)
    assert status == 1
    assert message in errors
    assert not made(calls)


def test_a_half_made_environment_is_made_anew(setup: Run, tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    binaries = tmp_path / "venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "python").symlink_to(tmp_path / "gone")
    (binaries / "left-over").touch()
    status, _, calls = setup()
    assert status == 0
    assert made(calls)
    assert not (binaries / "left-over").exists()


def test_a_usable_environment_is_kept(setup: Run, tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    setup()
    (tmp_path / "venv" / "kept").touch()
    status, _, calls = setup()
    assert status == 0
    assert not made(calls)
    assert installed(calls)
    assert (tmp_path / "venv" / "kept").exists()


#: As pip speaks, in short.
PIP = """\
case "$*" in *"pip install"*)
    echo 'Obtaining file:///here'
    echo '  Installing build dependencies: started'
    echo 'Collecting trio<1,>=0.31 (from mongo-session-proxy==0.1.0)'
    echo '  Downloading trio-0.31.0-py3-none-any.whl (512 kB)'
    echo 'Collecting coverage[toml]'
    echo 'Successfully built mongo-session-proxy'
    echo 'Installing collected packages: trio, coverage'
    echo 'Successfully installed trio-0.31.0 coverage-7.0' ;;
esac
"""


def test_it_says_what_it_is_busy_with(setup: Run, tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    status, errors, _ = setup(PIP=PIP)
    assert (status, errors) == (0, "")
    making, first, *rest = (tmp_path / "out").read_text().splitlines()
    assert making == "Making a virtual environment in venv with Python 3.9.2."
    assert first.startswith("Installing the dependencies into venv; ")
    assert rest == ["  1 trio", "  2 coverage", "  all 2 found, unpacking them", "Done."]


def test_what_takes_long_says_that_it_goes_on(setup: Run, tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    sleep = tmp_path / "bin" / "sleep"
    # Sleeps twice in no time at all, once everything is found.
    sleep.write_text(
        f"#!/bin/sh\ncd {tmp_path}\n[ -e found ] && [ ! -e second ] || exit 1\n"
        "[ -e first ] && : > second\n: > first\n"
    )
    sleep.chmod(0o755)
    waiting = f"while [ ! -e {tmp_path}/second ]; do :; done"
    slow = PIP.replace("echo 'Installing", f": > {tmp_path}/found; echo 'Installing")
    slow = slow.replace("echo 'Successfully inst", f"{waiting}; echo 'Successfully inst")
    status, errors, _ = setup(PIP=slow)
    assert (status, errors) == (0, "")
    said = (tmp_path / "out").read_text().splitlines()
    assert said[-4:] == ["  all 2 found, unpacking them", "  ... 5 s", "  ... 10 s", "Done."]


def test_what_pip_cannot_do_is_said_by_pip(setup: Run, tmp_path: Path) -> None:
    (tmp_path / "marker").touch()
    failing = 'case "$*" in *"pip install"*) echo "ERROR: no trio" >&2; exit 3 ;; esac'
    status, errors, _ = setup(PIP=failing)
    assert (status, errors) == (1, "ERROR: no trio")
