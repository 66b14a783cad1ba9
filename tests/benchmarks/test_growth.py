"""That the growth table is measured and written; no figure is judged here."""

from __future__ import annotations

import json

import pytest

from benchmarks import growth
from benchmarks.growth import Case, Measured, table


@pytest.mark.parametrize(
    ("case", "connected", "processes"),
    [
        (Case("x", connections=9_900), "9,900, all in turn", "1"),
        (Case("x", connections=9_900, spread=False, workers=8), "9,900, 10 used", "8"),
        (Case("x", proxies=4), "10, all in turn", "4 proxies"),
    ],
)
def test_a_case_in_words(case, connected, processes):
    assert (case.connected, case.processes) == (connected, processes)


def test_lines_are_relative_to_the_first_of_their_table():
    cases = [Case("a"), Case("a", sessions=1_000), Case("b")]
    figures = [
        Measured(case, cpu, 1e4, 0.007) for case, cpu in zip(cases, (50.0, 55.0, 90.0), strict=True)
    ]
    ratios = [line.split("|")[6].strip() for line in table(figures).splitlines() if "10," in line]
    assert ratios == ["1.00", "1.10", "1.00"]


def test_every_size_that_is_asked_about_has_a_case():
    every = growth.cases(9_900)
    assert {1_000_000, 100_000, 10} <= {case.sessions for case in every}
    assert {9_900, 10} <= {case.connections for case in every}
    assert {case.workers for case in every} == {1, 2, 4, 8}


def test_one_short_round(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(growth, "cases", lambda _: [Case("x", 4, 6, 2, workers=2)])
    monkeypatch.setattr(growth, "_REST", 0.1)
    file = tmp_path / "growth.json"
    growth.main(["--rounds", "1", "--seconds", "0.2", "--json", str(file)])
    [measured] = json.loads(file.read_text())["cases"]
    assert measured["case"]["workers"] == 2
    assert measured["per_second"] > 0
    assert "| 4 | 6, all in turn | 2 | 2 |" in capsys.readouterr().out
