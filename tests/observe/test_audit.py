"""The audit log: every decision a line, in order, and nobody waits for the disk."""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from proxy import logs
from proxy.observe import audit
from proxy.observe.audit import AuditLog
from tests.full_disk import file_sizes_up_to
from tests.patience import PATIENCE
from tests.threads import no_thread_left


class Counts:
    def __init__(self) -> None:
        self.written = 0
        self.lost = 0
        self._changed = trio.Event()

    def wrote(self, lines: int) -> None:
        self.written += lines
        self._changed.set()

    def lose(self, lines: int) -> None:
        self.lost += lines
        self._changed.set()

    async def reach(self, *, written: int = 0, lost: int = 0) -> None:
        with trio.fail_after(PATIENCE):
            while self.written < written or self.lost < lost:
                self._changed = trio.Event()
                await self._changed.wait()
        assert (self.written, self.lost) >= (written, lost)


@pytest.fixture
async def counts() -> Counts:
    logs.configure("text", "error")
    return Counts()


def log(path: Path | None, counts: Counts) -> AuditLog:
    return AuditLog(path, counts.wrote, counts.lose)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def test_lines_are_written_in_order_with_their_time(tmp_path, counts, nursery):
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    nursery.start_soon(one.run)
    for number in range(100):
        one.record(command="killSessions", number=number, who="grüße")
    await counts.reach(written=100)
    written = lines(path)
    assert [line["number"] for line in written] == list(range(100))
    assert written[0]["who"] == "grüße"
    assert datetime.datetime.fromisoformat(written[0]["time"]).tzinfo is datetime.UTC
    assert counts.lost == 0
    nursery.cancel_scope.cancel()


async def test_a_line_is_short_and_steers_no_terminal(tmp_path, counts, nursery):
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    nursery.start_soon(one.run)
    one.record(command="x " * 2_000_000, reason="\x9b2J\u202egnihton\x1b", owner="Zoë")
    await counts.reach(written=1)
    written = path.read_text(encoding="utf-8")
    assert len(written) < 2_000
    assert written[:-1].isprintable()
    assert lines(path)[0]["owner"] == "Zoë"
    nursery.cancel_scope.cancel()


async def test_without_a_file_nothing_is_written_or_lost(counts, nursery):
    one = log(None, counts)
    nursery.start_soon(one.run)
    one.record(a=1)
    await trio.testing.wait_all_tasks_blocked()
    assert (counts.written, counts.lost) == (0, 0)
    nursery.cancel_scope.cancel()


async def test_what_is_queued_at_the_end_is_written(tmp_path, counts):
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await trio.testing.wait_all_tasks_blocked()
        one.record(a=1)
        nursery.cancel_scope.cancel()
    assert [line["a"] for line in lines(path)] == [1]
    assert counts.written == 1


async def test_what_is_queued_while_the_last_is_written_is_written_too(
    tmp_path, counts, monkeypatch
):
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    append = audit._append

    def and_more(path: Path, text: str, failed: bool) -> None:
        append(path, text, failed)
        if one._waiting and len(lines(path)) < 3:
            trio.from_thread.run_sync(lambda: one.record(a=len(lines(path))))
            trio.from_thread.run_sync(nursery.cancel_scope.cancel)

    monkeypatch.setattr(audit, "_append", and_more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        one.record(a=0)
    assert [line["a"] for line in lines(path)] == [0, 1, 2]
    assert (counts.written, counts.lost) == (3, 0)


async def test_a_disk_that_hangs_keeps_nobody_from_ending(tmp_path, counts, autojump_clock):
    path = tmp_path / "audit.jsonl"
    os.mkfifo(path)  # opening it waits for a reader
    one = log(path, counts)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        one.record(a=1)
        await trio.testing.wait_all_tasks_blocked()
        one.record(a=2)
        nursery.cancel_scope.cancel()
    assert (counts.written, counts.lost) == (0, 2)
    assert trio.current_time() == 5
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # the thread is let go
    while one._writer.borrowed_tokens:
        await trio.lowlevel.checkpoint()
    os.close(reader)


async def test_look_ups_that_hang_take_no_thread_from_it(tmp_path, counts, nursery):
    one = log(tmp_path / "audit.jsonl", counts)
    nursery.start_soon(one.run)
    with no_thread_left():
        one.record(a=1)
        await counts.reach(written=1)
    nursery.cancel_scope.cancel()


async def test_a_disk_that_fails_is_counted_and_does_not_end_it(tmp_path, counts, nursery):
    path = tmp_path / "folder" / "audit.jsonl"
    one = log(path, counts)
    nursery.start_soon(one.run)
    one.record(a=1)
    await counts.reach(lost=1)
    one.record(a=2)
    await counts.reach(lost=2)
    path.parent.mkdir()
    one.record(a=3)
    await counts.reach(written=1)
    assert [line["a"] for line in lines(path)] == [3]
    nursery.cancel_scope.cancel()


async def test_a_line_that_a_full_disk_has_cut_spoils_no_other(tmp_path, counts, nursery):
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    nursery.start_soon(one.run)
    with file_sizes_up_to(20):
        one.record(a=1)
        await counts.reach(lost=1)
    assert path.stat().st_size == 20
    for a in (2, 3):
        one.record(a=a)
        await counts.reach(written=a - 1)
    cut, *whole = path.read_text().splitlines()
    assert len(cut) == 20
    assert [json.loads(line)["a"] for line in whole] == [2, 3]
    nursery.cancel_scope.cancel()


async def test_a_file_that_is_moved_away_is_begun_anew(tmp_path, counts, nursery):
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    nursery.start_soon(one.run)
    one.record(a=1)
    await counts.reach(written=1)
    path.rename(tmp_path / "audit.1.jsonl")
    one.record(a=2)
    await counts.reach(written=2)
    assert [line["a"] for line in lines(path)] == [2]
    nursery.cancel_scope.cancel()


async def test_what_does_not_fit_the_queue_is_lost(tmp_path, counts, monkeypatch):
    monkeypatch.setattr(audit, "MAX_WAITING", 10)
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    for number in range(15):
        one.record(number=number)
    assert counts.lost == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await counts.reach(written=10)
        nursery.cancel_scope.cancel()
    assert [line["number"] for line in lines(path)] == list(range(10))


async def test_long_lines_are_lost_the_sooner(tmp_path, counts, monkeypatch):
    monkeypatch.setattr(audit, "MAX_CHARACTERS", 1_000)
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    for _ in range(5):
        one.record(name="x" * 400)
    assert counts.lost == 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await counts.reach(written=3)
        # What is written makes room.
        for _ in range(3):
            one.record(name="y" * 400)
        await counts.reach(written=6)
        nursery.cancel_scope.cancel()
    assert counts.lost == 2


async def test_anything_can_be_put_down(tmp_path, counts):
    path = tmp_path / "audit.jsonl"
    one = log(path, counts)
    one.record(
        odd=b"\xff",
        more={
            1,
        },
        text="a\nb\ud800",
        none=None,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await counts.reach(written=1)
        nursery.cancel_scope.cancel()
    [line] = lines(path)
    assert line["odd"] == "b'\\xff'"
    assert line["none"] is None
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1


async def test_a_dash_is_stdout(counts, nursery, capfd):
    one = log(Path("-"), counts)
    nursery.start_soon(one.run)
    for number in range(30):
        one.record(number=number, text="x" * 400)
    await counts.reach(written=30)
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["number"] for line in said] == list(range(30))
