from __future__ import annotations

import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.observe import rings
from proxy.observe.blocks import Head, unpacked
from proxy.observe.rings import FileRing, MemoryRing, Ring
from tests.full_disk import file_sizes_up_to
from tests.patience import PATIENCE


def rows(first: int, count: int) -> list[list[Any]]:
    return [[time, "session_started", f"user{time}"] for time in range(first, first + count)]


def held(ring: Ring, since: int = 0, until: int = 1 << 60) -> list[int]:
    found = [row for block in ring.blocks(since, until) for row in unpacked(block)]
    return [row[0] for row in [*found, *ring.waiting()]]


Make = Callable[[int], Ring]


@pytest.fixture(params=["memory", "files"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    return MemoryRing if request.param == "memory" else lambda size: FileRing(tmp_path / "h", size)


def test_what_is_added_is_found_at_once_and_in_order(make: Make) -> None:
    ring = make(1 << 20)
    assert ring.first() == 0
    assert held(ring) == []
    ring.add(rows(100, 3))
    assert held(ring) == [100, 101, 102]
    ring.write(0)
    ring.add(rows(103, 1000))
    assert held(ring) == list(range(100, 1103))
    ring.write(0)
    assert held(ring) == list(range(100, 1103))
    assert ring.first() == 100


def test_only_blocks_of_the_time_are_read(make: Make) -> None:
    ring = make(1 << 20)
    for first in range(0, 5000, 500):
        ring.add(rows(first, 500))
        ring.write(0)
    assert held(ring, 1200, 1300) == list(range(1000, 1500))
    assert held(ring, 1400, 1600) == list(range(1000, 2000))


def test_the_oldest_give_way_where_there_is_no_room(make: Make) -> None:
    ring = make(40_000)
    for first in range(0, 100_000, 500):
        ring.add(rows(first, 500))
        ring.write(0)
    found = held(ring)
    assert found == list(range(found[0], 100_000))
    assert 1_000 < len(found) < 20_000
    assert ring.first() == found[0]


def test_what_is_too_old_is_forgotten_in_memory() -> None:
    ring = MemoryRing(1 << 20)
    ring.add(rows(0, 500))
    ring.add(rows(500, 500))
    ring.write(500)
    assert held(ring) == list(range(500, 1000))


def test_rows_wait_in_memory_for_a_minute_at_the_most() -> None:
    ring = MemoryRing(1 << 20)
    ring.add(rows(0, 1))
    ring.add(rows(60_001, 1))
    assert ring.waiting() == []
    assert held(ring) == [0, 60_001]


def test_another_process_goes_on_beside_the_one_before(tmp_path: Path) -> None:
    before, after = FileRing(tmp_path / "h", 1 << 20), FileRing(tmp_path / "h", 1 << 20)
    before.add(rows(0, 2))
    before.write(0)
    after.add(rows(10, 2))
    after.write(0)
    before.add(rows(2, 2))
    before.write(0)
    assert sorted(held(after)) == [0, 1, 2, 3, 10, 11]
    assert sorted(held(before)) == sorted(held(after))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["h.000001.gz", "h.000002.gz"]
    assert stat.S_IMODE((tmp_path / files[0]).stat().st_mode) == 0o600


def test_a_torn_end_and_strange_files_are_passed_over(tmp_path: Path) -> None:
    ring = FileRing(tmp_path / "h", 1 << 20)
    ring.add(rows(0, 2))
    ring.write(0)
    with (tmp_path / "h.000001.gz").open("ab") as file:
        file.write(b"\x1f\x8b\x08\x04torn")
    (tmp_path / "h.999.gz").write_bytes(b"x")
    (tmp_path / "h.000000.gz").write_bytes(b"not ours")
    assert held(FileRing(tmp_path / "h", 1 << 20)) == [0, 1]


def test_a_disk_that_refuses_loses_what_was_to_be_written(tmp_path: Path) -> None:
    ring = FileRing(tmp_path / "nowhere" / "h", 1 << 20)
    ring.add(rows(0, 2))
    with pytest.raises(OSError, match="nowhere"):
        ring.write(0)
    assert ring.waiting() == []


def test_behind_what_a_full_disk_has_cut_the_rest_is_found(tmp_path: Path) -> None:
    ring = FileRing(tmp_path / "h", 1 << 20)
    ring.add(rows(0, 2))
    ring.write(0)
    full = (tmp_path / "h.000001.gz").stat().st_size + 10
    ring.add(rows(2, 2))
    with file_sizes_up_to(full), pytest.raises(OSError, match=r"h\.000001\.gz"):
        ring.write(0)
    ring.add(rows(4, 2))
    ring.write(0)
    assert held(ring) == [0, 1, 4, 5]


def test_where_nothing_can_be_cut_a_new_file_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = FileRing(tmp_path / "h", 1 << 20)
    ring.add(rows(0, 2))
    ring.write(0)
    full = (tmp_path / "h.000001.gz").stat().st_size + 10
    ring.add(rows(2, 2))

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched, file_sizes_up_to(full):
        patched.setattr("os.truncate", refuse)
        with pytest.raises(OSError, match=r"h\.000001\.gz"):
            ring.write(0)
    ring.add(rows(4, 2))
    ring.write(0)
    assert held(ring) == [0, 1, 4, 5]


def test_files_that_somebody_took_away_are_done_without(tmp_path: Path) -> None:
    ring = FileRing(tmp_path / "h", 1 << 20)
    for first in (0, 1000):
        ring.add(rows(first, 400))
        ring.write(0)
    assert len(held(ring)) == 800
    (tmp_path / "h.000001.gz").unlink()
    ring.add(rows(2000, 2))
    assert held(ring) == [2000, 2001]
    ring.write(0)
    assert held(ring, 1500) == [2000, 2001]


def test_two_that_read_at_once_find_each_block_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ring = FileRing(tmp_path / "h", 1 << 20)
    ring.add(rows(0, 500))
    ring.write(0)
    assert held(ring) == list(range(500))
    ring.add(rows(500, 500))
    ring.write(0)
    looks, other_is_done = threading.Event(), threading.Event()
    main = threading.current_thread()

    def head_of(data: bytes) -> Head | None:
        if threading.current_thread() is not main:
            looks.set()
            assert other_is_done.wait(PATIENCE)
        return real(data)

    real = rings.head_of
    monkeypatch.setattr(rings, "head_of", head_of)
    found: list[list[int]] = []
    other = threading.Thread(target=lambda: found.append(held(ring)))
    other.start()
    assert looks.wait(PATIENCE)
    found.append(held(ring))
    other_is_done.set()
    other.join()
    assert [*found, held(ring)] == [list(range(1000))] * 3


def test_what_is_too_old_is_forgotten_while_something_is_added() -> None:
    """The one in a thread, the other not: Python may go on with the other at any call."""

    class Block(bytes):
        def __len__(self) -> int:
            if threading.current_thread() is forgetting:
                adding.start()
                adding.join(0.05)  # as far as it comes
            return super().__len__()

    ring = MemoryRing(1 << 20)
    ring.add(rows(0, 500))
    ring.add(rows(500, 500))
    head, block = ring._blocks[0]
    ring._blocks[0] = head, Block(block)
    adding = threading.Thread(target=lambda: ring.add(rows(1000, 500)))
    forgetting = threading.Thread(target=lambda: ring.write(500))
    forgetting.start()
    forgetting.join()
    adding.join()
    assert held(ring) == list(range(500, 1500))
    assert ring._used == sum(len(block) + rings._OVERHEAD for _, block in ring._blocks)
