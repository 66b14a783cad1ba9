"""``mongo-session-proxy files DIR``."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from proxy import cli, files

ROOT = Path(__file__).parent.parent


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str], list[str]]:
    status = cli.main(["files", *arguments])
    captured = capsys.readouterr()
    return status, captured.out.splitlines(), captured.err.splitlines()


def held(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_wheel_brings_what_is_written_and_from_where_it_is_read() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {name: f"proxy/shipped/{name}" for name in files.SHIPPED}


def test_all_are_written_as_they_are_in_the_tree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    status, out, errors = run(capsys, str(folder))
    assert (status, errors) == (0, [])
    content = held(folder)
    assert out == [str(folder / name) for name in files.contents()]
    assert sorted(out) == sorted(str(folder / name) for name in content)
    made = content.pop("config.schema.json")
    assert {name: (ROOT / name).read_bytes() for name in content} == content
    assert made.decode() == files.schema()
    assert {
        "config.example.toml",
        "deploy/mongo-session-proxy.service",
        "deploy/mongo-session-proxy.socket",
        "grafana/alerts.yml",
        "grafana/dashboards/sessions.json",
        "grafana/prometheus.yml",
        "grafana/provisioning/datasources/prometheus.yml",
    } <= content.keys()
    assert (folder / "config.example.toml").stat().st_mode & 0o111 == 0


def test_what_is_there_already_is_not_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, str(tmp_path))
    assert run(capsys, str(tmp_path)) == (0, ["all files are there as they should be"], [])
    missing = tmp_path / "grafana" / "alerts.yml"
    missing.unlink()
    assert run(capsys, str(tmp_path)) == (0, [str(missing)], [])


def test_what_differs_is_left_alone_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grafana").mkdir()
    changed = [tmp_path / "config.example.toml", tmp_path / "grafana" / "alerts.yml"]
    for path in changed:
        path.write_text("mine")
    status, out, errors = run(capsys, str(tmp_path))
    assert (status, out) == (2, [])
    assert errors == [
        f"mongo-session-proxy: {path}: is there and differs; --force replaces it"
        for path in changed
    ]
    assert held(tmp_path) == {"config.example.toml": b"mine", "grafana/alerts.yml": b"mine"}

    status, out, errors = run(capsys, "--force", str(tmp_path))
    assert (status, errors) == (0, [])
    assert held(tmp_path) == files.contents()


def test_a_link_is_replaced_and_not_what_it_leads_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.example.toml").symlink_to(mine)
    assert run(capsys, str(folder), "--force")[0] == 0
    assert mine.read_text() == "mine"
    assert held(folder) == files.contents()


def test_a_folder_has_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(capsys)
    assert caught.value.code == 2


def test_wrong_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for arguments, problem in (
        ((str(file),), f"{file}: not a folder"),
        (("",), "DIR: should not be empty"),
        ((str(tmp_path), "other"), "other: no such argument"),
        ((str(tmp_path), "--bogus"), "--bogus: no such argument"),
    ):
        assert run(capsys, *arguments) == (2, [], [f"mongo-session-proxy: {problem}"])
    assert held(tmp_path) == {"file": b"mine"}


def test_what_the_disk_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "grafana").write_text("a file where a folder should be")
    status, out, errors = run(capsys, str(tmp_path))
    assert (status, out) == (1, [])
    [line] = errors
    assert line.startswith(f"mongo-session-proxy: {tmp_path / 'grafana'}")
    full = Path("/dev/full")
    if full.exists():
        # Whoever is root may write anywhere, but not to this.
        folder = tmp_path / "full"
        folder.mkdir()
        (folder / ".config.example.toml.new").symlink_to(full)
        expected = f"mongo-session-proxy: {folder / 'config.example.toml'}: No space left on device"
        assert run(capsys, str(folder)) == (1, [], [expected])
        assert held(folder) == {}
