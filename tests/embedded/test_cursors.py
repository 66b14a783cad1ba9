from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.embedded.cursors import TIMEOUT, Cursor, CursorStore
from proxy.embedded.sessions import SessionKey
from proxy.errors import CommandError
from tests.embedded.support import NOW

NS = ("app", "c")
KEY = SessionKey(bytes(16), bytes(32))


def cursor(store: CursorStore, count: int, session: SessionKey | None = None) -> Cursor:
    documents = [{"_id": number} for number in range(count)]
    return store.open(NS, documents, session=session, txn_number=None, users=(), now=NOW)


@given(st.integers(0, 30), st.lists(st.one_of(st.none(), st.integers(1, 7)), max_size=40))
def test_batches_are_the_documents_in_order(count: int, sizes: list[int | None]) -> None:
    opened = cursor(CursorStore(), count)
    batches = [opened.take(size) for size in sizes]
    for size, batch in zip(sizes, batches, strict=True):
        assert size is None or len(batch) <= size
    taken = [document["_id"] for batch in batches for document in batch]
    assert taken == list(range(len(taken)))
    assert opened.exhausted is (len(taken) == count)


def test_ids_are_the_stores_own() -> None:
    store = CursorStore()
    ids = {store.keep(cursor(store, 1)) for _ in range(50)}
    assert len(ids) == len(store) == 50
    assert all(0 < cursor_id < 2**63 for cursor_id in ids)


def test_closing() -> None:
    store = CursorStore()
    first, second = (store.keep(cursor(store, 1)) for _ in range(2))
    assert store.close(first)
    assert not store.close(first)
    assert store.close_where(lambda opened: opened.ns == NS) == 1
    with pytest.raises(CommandError, match=f"cursor id {second} not found"):
        store.get(second, NOW)


def test_use_keeps_a_cursor_alive() -> None:
    store = CursorStore()
    used, idle = store.keep(cursor(store, 1)), store.keep(cursor(store, 1))
    of_session = store.keep(cursor(store, 1, KEY))
    store.get(used, NOW + TIMEOUT)
    store.expire(NOW + TIMEOUT + 1)
    assert [store.find(key) is not None for key in (used, idle, of_session)] == [True, False, True]


def test_tailable_cursors_are_counted() -> None:
    store = CursorStore()
    opened = cursor(store, 1)
    opened.tail = list
    tailing, _ = store.keep(opened), store.keep(cursor(store, 1))
    assert store.tailing == 1
    store.close(tailing)
    assert store.tailing == 0
