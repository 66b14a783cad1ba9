"""What is wrong with a file is said in a line each, whatever stands in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.errors import ConfigError
from proxy.settings.config import load

LONG = "x" * 300


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("admin.token_file", "folder", "is a folder: "),
        ("admin.token_file", "pipe", "is no regular file: "),
        ("admin.token_file", LONG, "File name too long: "),
        ("admin.token_file", "a\\u0000b", "has a NUL"),
        ("listen.tls.certificate", "folder", "is a folder: "),
        *(
            (setting, value, said)
            for setting in ("audit.file", "history.file", "process.pid_file")
            for value, said in (
                ("folder", "is a folder: "),
                (LONG, "File name too long: "),
                (f"{LONG}/x", "File name too long: "),
                ("a\\u0000b", "has a NUL"),
                ("nope/x", "no such folder: "),
            )
        ),
    ],
)
def test_a_path_that_cannot_be_is_one_line(
    tmp_path: Path, setting: str, value: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "proxy.toml"
    table, _, name = setting.rpartition(".")
    path.write_text(f'[{table}]\n{name} = "{value}"\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:2: {setting}: {said}")


def test_a_file_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(ConfigError, match=r"^/dev/zero: is no configuration file: more than"):
        load(Path("/dev/zero"))


def test_a_list_that_is_short_of_its_wrong_items_is_not_called_short(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[listen]\nallow = ["nonsense"]\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert "listen.allow[0]: 'nonsense'" in problem
    path.write_text("[listen]\nallow = []\n")
    with pytest.raises(ConfigError, match=r"listen\.allow: .*at least 1 item"):
        load(path)


def test_names_that_toml_has_in_quotes_are_said_in_quotes(tmp_path: Path) -> None:
    path = tmp_path / "proxy.toml"
    path.write_text('[log]\n"a.b" = 1\n"\\u001b[2J\\n" = 1\n"" = 1\nü = 1\n'.replace("ü", '"ü"'))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert [one.removeprefix(str(path)) for one in caught.value.problems] == [
        ':2: log."a.b": unknown setting',
        ':3: log."\\u001b[2J\\n": unknown setting',
        ':4: log."": unknown setting',
        ':5: log."ü": unknown setting',
    ]
