from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs
from tests.patience import PATIENCE

#: One test of each of some programs, none of which takes long.
IN_NEED = {
    "openssl": "tests/net/test_subjects.py::test_openssl_writes_the_same",
    "systemd-analyze": "tests/test_deploy.py::test_systemd_understands_the_units",
    "promtool": "tests/test_deploy.py::test_prometheus_understands_its_settings",
}


def test_what_is_there_is_found() -> None:
    assert needs.need("no-such-program", "true").endswith("/true")


@pytest.mark.parametrize(
    ("ci", "ends"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_what_is_lacking_is_skipped_or_fails(
    ci: str, ends: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ends, match="lacking here: no-such-program"):
        needs.need("no-such-program")


def test_the_summary_names_each_once_and_what_brings_them() -> None:
    reasons = ["Skipped: lacking here: b", "Skipped: lacking here: a", "lacking here: b", "other"]
    assert needs.summary(reasons) == [
        "Tests were skipped for want of a, b.",
        "make equipment brings it.",
    ]
    assert needs.summary(["other"]) == []


@pytest.mark.parametrize(("ci", "ends"), [("", 0), ("true", 1)])
def test_a_run_where_programs_are_hidden_says_so_and_in_ci_fails(
    ci: str, ends: int, tmp_path: Path
) -> None:
    """As it is run there: by pytest itself, on a machine where no program is found."""
    others = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rN", *IN_NEED.values()],
        env={**others, "PATH": str(tmp_path), "CI": ci},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == ends, done.stdout + done.stderr
    if ci:
        assert "3 failed" in done.stdout
        assert all(needs.LACKING + name in done.stdout for name in IN_NEED)
    else:
        assert "3 skipped" in done.stdout
        assert "want of openssl, promtool, systemd-analyze." in done.stdout
        assert "make equipment brings it." in done.stdout
