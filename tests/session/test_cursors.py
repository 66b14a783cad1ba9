"""As many cursors as may be known, and whose is forgotten for another one."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.session import cursors
from proxy.session.cursors import OpenCursors
from proxy.session.ids import LogicalSessionId
from proxy.session.records import CursorId, Session
from proxy.session.store import SessionStore
from tests.session.sessions import ALICE, BOB, uuid

UPSTREAM = "db:27017"


def use(store: SessionStore, number: int, owner: bytes) -> Session:
    session = store.use(LogicalSessionId(uuid(number), owner), 0.0, owner.hex())
    assert session is not None
    return session


def opens(store: SessionStore, session: Session, *numbers: int) -> None:
    for number in numbers:
        store.cursor_opened(CursorId(UPSTREAM, number), session, "db.c", float(number))


def known(store: SessionStore, *numbers: int) -> list[int]:
    return [n for n in numbers if store.cursor_session(CursorId(UPSTREAM, n)) is not None]


def test_a_session_loses_its_own_oldest(monkeypatch) -> None:
    monkeypatch.setattr(cursors, "MOST_OF_SESSION", 3)
    store = SessionStore()
    one, other = use(store, 1, ALICE), use(store, 2, ALICE)
    opens(store, other, 1)
    opens(store, one, 2, 3, 4, 5)
    assert known(store, 1, 2, 3, 4, 5) == [1, 3, 4, 5]
    assert store.counts.cursors_dropped == 1
    # One that is known already takes no place of another one.
    opens(store, one, 4)
    assert known(store, 1, 2, 3, 4, 5) == [1, 3, 4, 5]


def test_whoever_has_the_most_loses_them() -> None:
    store = SessionStore(max_cursors=5)
    alice, bob = use(store, 1, ALICE), use(store, 2, BOB)
    opens(store, bob, 1, 2)
    opens(store, alice, *range(10, 20))
    assert known(store, 1, 2, *range(10, 20)) == [1, 2, 17, 18, 19]
    opens(store, bob, 3)
    assert known(store, 1, 2, 3, *range(10, 20)) == [1, 2, 3, 18, 19]
    assert store.open_cursors() == 5
    assert store.counts.cursors_dropped == 8
    # A session that has lost its last one is idle.
    assert use(store, 3, ALICE).activity is None


def test_the_last_cursor_of_a_session_may_be_what_goes() -> None:
    store = SessionStore(max_cursors=1)
    one = use(store, 1, ALICE)
    opens(store, one, 1, 2)
    assert known(store, 1, 2) == [2]
    assert one.activity is not None
    assert list(one.activity.cursors) == [CursorId(UPSTREAM, 2)]
    store.forget(one)
    assert store.open_cursors() == 0


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.booleans()), max_size=200),
    st.integers(1, 10),
)
def test_there_are_never_more_and_nobody_with_few_loses_any(steps, most) -> None:
    store = SessionStore()
    sessions = {name: use(store, ord(name), name.encode()) for name in "abc"}
    table = OpenCursors(most)
    model: dict[CursorId, str] = {}
    for name, number, opened in steps:
        cursor = CursorId(UPSTREAM, number)
        gone = table.discard(cursor)
        assert (gone.owner.name if gone else None) == model.pop(cursor, None)
        if not opened:
            continue
        surplus = table.surplus(sessions[name])
        if surplus is not None:
            assert len(model) == most
            counts = Counter(model.values())
            assert counts[model[surplus]] == max(counts.values())
            table.discard(surplus)
            del model[surplus]
        table.add(cursor, sessions[name], 0.0)
        model[cursor] = sessions[name].owner.name
        assert len(table) == len(model) <= most
    assert {one: table.session(one).owner.name for one in model} == model
