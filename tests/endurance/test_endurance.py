"""A cut of what the long runs do: see the modules beside this one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import trio

from tests.endurance import killed, marked, mixed, restarts, signals
from tests.endurance.load import Load
from tests.endurance.program import Program
from tests.needs import lacking


@pytest.mark.parametrize("way", marked.WAYS, ids=str)
def test_no_answer_is_crossed_lost_or_given_twice(way: marked.Way) -> None:
    figures = trio.run(partial(marked.run, way, 2_500, 20, seed=1))
    assert figures.wrong == []
    assert figures.sent == figures.answered + figures.cancelled == 2_500
    assert 100 < figures.cancelled < 500


def test_reloads_under_load_cut_nothing(tmp_path: Path) -> None:
    load, bugs = signals.shake(10, tmp_path, Program.reload)
    assert (load.errors, load.cut, bugs) == ([], 0, [])


def test_restarts_under_load_are_no_error_in_the_application(tmp_path: Path) -> None:
    load, bugs = signals.shake(4, tmp_path, Program.restart)
    assert (load.errors, load.cut, bugs) == ([], 0, [])
    assert load.done["transaction"] > 0


@pytest.mark.parametrize(("workers", "tls"), [(1, True), (2, False)])
def test_a_program_that_is_replaced_is_missed_by_nobody(
    workers: int, tls: bool, tmp_path: Path
) -> None:
    found = restarts.replace(2, tmp_path, workers, tls=tls, compressed=tls)
    assert found.wrong == []
    assert found.load.done["transaction"] > 0
    assert found.storm.seen["answered"] > 0
    assert all(other.done for other in found.others)
    if len(found.others) < 2:
        lacking("the Node and the Go driver")


def test_of_a_worker_that_is_killed_only_what_is_under_way_is_lost(tmp_path: Path) -> None:
    def more(load: Load, deaths: int) -> bool:
        load.wait(40)
        return deaths < 2

    found = killed.kill(more, tmp_path)
    assert found.wrong == []
    assert found.deaths == 2
    assert found.load.done["transaction"] > 0


def test_what_it_takes_stays_flat(tmp_path: Path) -> None:
    def more(load: Load, samples: int) -> bool:
        load.wait(40)
        return samples < 15

    load, samples, wrong = mixed.soak(more, tmp_path)
    assert wrong == []
    assert len(samples) == 15
    assert load.done.total() > 500


def test_growth_is_noticed() -> None:
    grows = [mixed.Sample(n * 1_000_000, 20 + n * 2, 100 + n * 2) for n in range(30)]
    assert [line.split()[0] for line in mixed.flat(grows)] == ["rest", "descriptors", "series"]
    assert mixed.flat([mixed.Sample(50_000_000, 20, 100)] * 30) == []
