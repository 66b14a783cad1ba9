from __future__ import annotations

from pathlib import Path

import pytest

from proxy.observe.history import Counted, History, Sampling
from tests.observe.test_flight import session


@pytest.mark.parametrize("in_files", [False, True])
def test_what_is_frequent_does_not_displace_what_is_rare(tmp_path: Path, in_files: bool) -> None:
    history = History(lambda: 0.0, 24, 1 << 20, tmp_path / "history" if in_files else None)
    history.own.happened("proxy_started", {})
    log, one = history.flight("web"), session()
    for second in range(400):
        for _ in range(500):
            log.session("session_started", one, second)
        for lives, rest in history.rows(1000.0):
            history.add(lives, rest)
        if second % 50 == 0:
            history.write(0.0)
    assert history.first("events") == 1_000_000
    assert history.waiting("events") or list(history.blocks("events", 0, 1 << 60))


def test_a_sample_says_what_grew_since_the_last_one() -> None:
    sampling = Sampling()
    sampling.hear(-1, {"": Counted(100, 10, 1, 5)})
    assert sampling.take(1, "", 3, 2, 1, 40) == (1, "", 3, 2, 1, 5, 100, 10, 1, 40)
    sampling.hear(-1, {"": Counted(150, 11, 1, 4)})
    assert sampling.take(2, "", 3, 2, 1, 41) == (2, "", 3, 2, 1, 4, 50, 1, 0, 1)
    assert sampling.take(3, "", 3, 2, 1, 41)[6:] == (0, 0, 0, 0)


def test_workers_add_up_and_one_that_is_replaced_begins_anew() -> None:
    sampling = Sampling()
    sampling.hear(0, {"": Counted(100, 0, 0, 5)})
    sampling.hear(1, {"": Counted(1000, 0, 0, 7)})
    assert sampling.take(1, "", 0, 0, 0, 0)[5:7] == (12, 1100)
    sampling.gone(0)
    assert sampling.take(2, "", 0, 0, 0, 0)[5:7] == (7, 0)
    sampling.hear(0, {"": Counted(3, 0, 0, 1)})
    sampling.hear(1, {"": Counted(1001, 0, 0, 7)})
    assert sampling.take(3, "", 0, 0, 0, 0)[5:7] == (8, 4)
    sampling.hear(0, {"": Counted(2, 0, 0, 1)})
    assert sampling.take(4, "", 0, 0, 0, 0)[6] == 2
