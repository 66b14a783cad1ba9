"""How many processes serve, by what the machine and the container have to give."""

from __future__ import annotations

import pytest

from proxy.process import starting, worker
from proxy.settings.config import Config


def config(**process):
    return Config.model_validate({"upstream": {"address": "127.0.0.1:1"}, "process": process})


@pytest.mark.parametrize(
    ("wanted", "processors", "workers"),
    [
        ("auto", 1.0, 1),
        ("auto", 0.25, 1),
        ("auto", 2.5, 2),
        ("auto", 8.0, 8),
        ("auto", 256.0, 64),
        (4, 1.0, 4),
    ],
)
def test_as_many_workers_as_whole_processors(monkeypatch, wanted, processors, workers):
    monkeypatch.setattr(starting, "processors", lambda: processors)
    assert starting.workers(config(workers=wanted)) == workers


@pytest.mark.parametrize(("processors", "seconds"), [(2.0, 0.0005), (1.5, 0.0), (8.0, 0.0005)])
def test_more_workers_than_processors_do_not_wait_awake(monkeypatch, processors, seconds):
    monkeypatch.setattr(worker, "processors", lambda: processors)
    orders = worker.settings_for(config(workers=2), 2)
    assert orders["process"].get("busy_poll_seconds", 0.0005) == seconds
