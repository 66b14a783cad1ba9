from __future__ import annotations

from proxy.counting import OTHER
from proxy.session.ids import LogicalSessionId, Origin
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


def test_origins_are_told_apart_up_to_a_bound_and_applications_longer(monkeypatch) -> None:
    monkeypatch.setattr("proxy.session.index.MOST_ORIGINS", 3)
    monkeypatch.setattr("proxy.session.index.MOST_APPLICATIONS", 6)
    store = SessionStore()
    sessions = [
        store.use(LogicalSessionId(uuid(n), ALICE), 0.0, "", Origin("host", f"app{n}", "d", "1"))
        for n in range(12)
    ]
    told = [(one.origin.client, one.origin.application) for one in sessions if one is not None]
    assert told == [
        *[("host", f"app{n}") for n in range(3)],
        *[(OTHER, f"app{n}") for n in range(3, 6)],
        *[(OTHER, OTHER)] * 6,
    ]
    assert store.vague_origins == 9
    assert len(store.origins()) == 7
    counts = [store.application_sessions(f"app{n}") for n in range(12)]
    # Those that there was no room for share what they have: a budget then refuses the sooner.
    assert counts == [1] * 6 + [6] * 6
    for one in sessions:
        assert one is not None
        store.forget(one)
    assert store.origins() == []
    assert store.application_sessions("app0") == 0
