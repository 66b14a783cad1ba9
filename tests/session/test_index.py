from __future__ import annotations

from proxy.session.ids import LogicalSessionId
from proxy.session.records import Selection
from proxy.session.sharded import SPLIT_AT
from proxy.session.store import SessionStore
from tests.session.sessions import ALICE, BOB, uuid


def number(value: int) -> bytes:
    return value.to_bytes(16, "big")


def test_pages_hold_each_session_once_while_others_come_and_go() -> None:
    store = SessionStore()
    for value in range(SPLIT_AT + 100):
        store.use(LogicalSessionId(number(value), ALICE), 0.0)
    seen: list[bytes] = []
    start: int | None = 0
    pages = 0
    while start is not None:
        page = store.page(start, 1000)
        seen += [session.id for session in page.sessions]
        assert len(page.sessions) < 1000 + SPLIT_AT
        start = page.next
        pages += 1
        store.use(LogicalSessionId(number(1 << 20 | pages), ALICE), 0.0)
    assert pages > 10
    old = [one for one in seen if int.from_bytes(one, "big") < 1 << 20]
    assert len(old) == len(set(old)) == SPLIT_AT + 100


def test_owners_that_share_a_uid() -> None:
    store = SessionStore()
    store.use(LogicalSessionId(uuid(1), BOB), 0.0, "alice@app")
    store.use(LogicalSessionId(uuid(2), BOB), 0.0, "")
    assert (store.owner_sessions("alice@app"), store.owner_sessions("")) == (1, 1)
    assert list(store.made_by("alice@app")) == [LogicalSessionId(uuid(1), BOB)]
    assert store.count(Selection(uids=frozenset((BOB,)))) == 2
