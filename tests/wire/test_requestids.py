from __future__ import annotations

import tracemalloc

from proxy.wire.requestids import RequestIds


def test_they_begin_again_after_the_last_one() -> None:
    ids = RequestIds(0x7FFFFFFF - 3)
    assert [ids.next() - 0x7FFFFFFF for _ in range(7)] == [-3, -2, -1, -3, -2, -1, -3]


def test_what_was_given_is_not_kept() -> None:
    ids = RequestIds(0x4D530000)
    ids.next()
    tracemalloc.start()
    try:
        for _ in range(10_000):
            ids.next()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000
