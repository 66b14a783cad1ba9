"""Whether to wait awake, by how the last times ended and by what others had to do without."""

from __future__ import annotations

import pytest

from proxy.net import awake
from proxy.net.awake import Odds, Others, Starved


def outcomes(odds: Odds, came: bool, times: int) -> list[bool]:
    """Whether it was waited each time, if every wait ends the same way."""
    waited = []
    for _ in range(times):
        waited.append(odds.good())
        if waited[-1]:
            odds.waited(came)
    return waited


def test_waiting_that_pays_goes_on_and_one_that_does_not_ends():
    odds = Odds()
    assert sum(outcomes(odds, False, 160)) == 10  # only to see whether it pays by now
    assert sum(outcomes(odds, True, 800)) == 50
    assert sum(outcomes(odds, True, 800)) > 500
    assert all(outcomes(odds, True, 100))
    assert sum(outcomes(odds, False, 170)) < 20


def test_waiting_that_pays_four_times_of_five_is_not_worth_it():
    odds = Odds()
    ends = [True, True, True, True, False] * 400
    waited = [outcomes(odds, came, 1)[0] for came in ends]
    assert sum(waited) == len(ends) / 16


def test_a_chance_is_taken_while_messages_come_and_ends_where_they_do_not():
    odds = Odds()
    odds.give_chance()
    assert sum(outcomes(odds, False, 16)) == 3  # two, and the one that is always tried
    odds.give_chance()
    assert all(outcomes(odds, True, 100))
    odds.give_chance()
    assert sum(outcomes(odds, False, 15)) >= 2


class Processor:
    """A clock, and others that starve for a ``share`` of the time while somebody waits awake."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.now = 1000.0
        self.trials = 0
        self._starved = 0.0

    def begin(self) -> None:
        self.trials += 1

    def starved(self) -> float:
        return self._starved

    def awake_for(self, others: Others, seconds: float) -> float:
        """The share of the time in which it was waited awake, asked for each millisecond."""
        steps = round(seconds * 1000)
        waited = 0
        for _ in range(steps):
            allowed = others.allow(self.now)
            waited += allowed
            self.now += 0.001
            self._starved += 0.001 * self.share
        return waited / steps


def test_it_is_waited_awake_while_nobody_starves():
    processor = Processor(0.25)
    assert processor.awake_for(Others(processor.starved, processor.begin), 10) == 1
    assert processor.trials == 1


def test_where_others_starve_it_is_only_tried_now_and_then():
    processor = Processor(0.9)
    others = Others(processor.starved, processor.begin)
    assert 0 < processor.awake_for(others, 60) < 0.025
    assert 55 < processor.trials < 61


def test_it_ends_soon_after_others_begin_to_starve_and_begins_soon_after_they_have_ended():
    processor = Processor(0.1)
    others = Others(processor.starved, processor.begin)
    processor.awake_for(others, 5)
    processor.share = 0.9
    assert processor.awake_for(others, 1) < 0.3
    processor.awake_for(others, 5)
    processor.share = 0.1
    processor.awake_for(others, 1.1)
    assert processor.awake_for(others, 5) == 1


def test_what_others_did_without_in_a_pause_is_not_held_against_it():
    processor = Processor(0.0)
    others = Others(processor.starved, processor.begin)
    processor.awake_for(others, 1)
    processor.share = 1.0
    for _ in range(3600):  # without a message, so that nobody asks
        processor.awake_for(others, 0.001)
        processor.now += 1.0
    processor.share = 0.0
    assert processor.awake_for(others, 1) > 0.9


# ---------------------------------------------------------------------- the kernel's account


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Where the kernel's two accounts are read from."""
    paths = tmp_path / "all", tmp_path / "thread"
    monkeypatch.setattr(Starved, "_OF_ALL", str(paths[0]))
    monkeypatch.setattr(Starved, "_OF_THREAD", str(paths[1]))
    return paths


def test_what_everybody_waited_is_read_anew_each_time(told):
    line = "some avg10=98.64 avg60=98.71 avg300=83.90 total=4389006465\n"
    told[0].write_text(line + "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n")
    starved = Starved()
    assert starved.seconds() == 4389.006465
    told[0].write_text("some avg10=98.64 avg60=98.71 avg300=83.90 total=4389906465\n")
    assert starved.seconds() == 4389.906465
    starved.close()
    starved.close()


@pytest.mark.parametrize("first", [None, "", "nonsense\n", "some total=\n"])
def test_without_that_it_is_what_this_thread_waited(told, first):
    if first is not None:
        told[0].write_text(first)
    told[1].write_text("19118684 32803522 5\n")
    starved = Starved()
    assert starved.seconds() == 0.032803522
    starved.close()


def test_where_nobody_can_tell_nobody_starves(told):
    told[1].write_text("19118684\n")
    starved = Starved()
    assert starved.seconds() == 0
    starved.close()


def test_what_cannot_be_read_any_more_tells_nothing(told):
    told[0].write_text("some total=5\n")
    starved = Starved()
    told[0].write_text("")
    assert starved.seconds() == 0
    starved.close()


def test_the_accounts_of_this_kernel_can_be_read():
    for read in (awake._of_all, awake._of_thread):
        path = Starved._OF_ALL if read is awake._of_all else Starved._OF_THREAD
        try:
            with open(path, "rb") as file:
                text = file.read()
        except OSError:
            continue
        assert read(text) >= 0
