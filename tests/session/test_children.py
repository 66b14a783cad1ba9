"""Child sessions in the books: their parents' but for their transactions."""

from __future__ import annotations

import bson
import pytest
from bson import Binary, Int64
from hypothesis import given
from hypothesis import strategies as st

from proxy.session.ids import LogicalSessionId, OpenTransaction, child_fields, child_text
from proxy.session.info import OperationSessionInfo
from proxy.session.plans import abort_command
from proxy.session.records import CursorId, Selection, Session
from proxy.session.store import SessionStore
from proxy.session.transactions import Outcome, State, Step
from tests.session.sessions import ALICE, uuid

PARENT = LogicalSessionId(uuid(1), ALICE)
ONE, TWO = child_fields(None, uuid(11)), child_fields(7, uuid(12))
HERE, THERE = "a:1", "b:1"
EVERYTHING = Selection(everything=True)


class Books:
    """A store, and what happens in one session and its children."""

    def __init__(self) -> None:
        self.store = SessionStore()
        self.now = 0.0
        made = self.store.use(PARENT, self.now, "alice@app")
        assert made is not None
        self.parent: Session = made

    def step(
        self,
        child: bytes,
        step: Step,
        outcome: Outcome = Outcome.OK,
        number: int = 0,
        upstream: str = HERE,
        lsid: LogicalSessionId = PARENT,
    ) -> None:
        self.now += 1.0
        session = self.store.use(lsid, self.now, "alice@app")
        assert session is not None
        info = OperationSessionInfo(lsid, number, False, step is Step.START, child=child)
        if step is Step.START:
            self.store.transaction_starts(session, child, self.now)
        self.store.transaction_step(session, step, outcome, info, self.now, upstream)

    def open(self) -> dict[bytes, int]:
        return {
            one.child: one.txn_number
            for some in self.store.open_transaction_sessions()
            for one in some
        }

    def consistent(self) -> None:
        """What is counted is what is there."""
        there = [one for one in self.store.page().sessions for one in one.with_children]
        trackers = [one.transaction for one in there if one.transaction is not None]
        open_now = sum(one.state is State.IN_PROGRESS for one in trackers)
        counted = sum(one.counts for one in trackers)
        assert self.store.open_transactions == open_now
        assert sum(one.open_transactions for one in self.store.owners()) == open_now
        assert sum(one.counted_transactions for one in self.store.owners()) == counted
        known = sum(len(one.children) for one in self.store.page().sessions)
        assert len(self.store._children) == known
        for session in self.store.page().sessions:
            assert all(child.transaction.counts for child in session.children)
            active = session.activity is not None or (
                session.transaction is not None and session.transaction.counts
            )
            assert (session in session.owner.active) is active


def test_each_has_a_transaction_of_its_own() -> None:
    books = Books()
    books.step(b"", Step.START, number=5)
    books.step(ONE, Step.START)
    books.step(TWO, Step.START)
    assert books.open() == {b"": 5, ONE: 0, TWO: 0}
    assert (books.parent.state, books.parent.txn_number) == (State.IN_PROGRESS, 5)
    assert books.store.owner_transactions("alice@app") == 3
    assert len(books.store) == 1
    books.consistent()
    books.step(ONE, Step.COMMIT)
    assert books.open() == {b"": 5, TWO: 0}
    # The next attempt of the same retryable write.
    books.step(TWO, Step.ABORT)
    books.step(TWO, Step.START, number=1)
    assert books.open() == {b"": 5, TWO: 1}
    books.step(b"", Step.COMMIT, number=5)
    assert books.open() == {TWO: 1}
    books.step(TWO, Step.CONTINUE, Outcome.GONE, number=1)
    assert books.open() == {}
    assert books.parent.activity is None
    books.consistent()
    counts = books.store.counts
    assert (counts.transactions["committed"], counts.transactions["aborted"]) == (2, 2)
    assert counts.transactions_started == 4


def test_what_goes_on_without_a_start_that_was_seen() -> None:
    books = Books()
    books.step(ONE, Step.CONTINUE, number=3)
    assert books.open() == {ONE: 3}
    books.step(TWO, Step.COMMIT)
    books.step(TWO, Step.CONTINUE, Outcome.REJECTED)
    assert books.open() == {ONE: 3}
    books.consistent()


def test_a_start_without_an_answer_may_be_open() -> None:
    books = Books()
    books.step(ONE, Step.START, Outcome.LOST)
    assert books.open() == {}
    assert books.store.owner_transactions("alice@app") == 1
    assert books.store.open_at(HERE, EVERYTHING).transactions == [
        OpenTransaction(PARENT, 0, b"", ONE)
    ]
    books.step(ONE, Step.ABORT, Outcome.GONE)
    assert books.store.owner_transactions("alice@app") == 0
    books.consistent()


def test_a_prepared_one_waits_for_its_end() -> None:
    books = Books()
    books.step(ONE, Step.START)
    books.step(ONE, Step.PREPARE)
    assert (books.open(), books.store.owner_transactions("alice@app")) == ({}, 1)
    books.store.kill(EVERYTHING, books.now)
    assert books.store.owner_transactions("alice@app") == 1
    books.step(ONE, Step.COMMIT)
    assert books.store.owner_transactions("alice@app") == 0
    books.consistent()


@pytest.mark.parametrize(
    "within", [EVERYTHING, Selection(uids=frozenset((ALICE,))), Selection(keys={PARENT})]
)
def test_they_die_with_their_parent_where_the_kill_was(within: Selection) -> None:
    books = Books()
    books.step(ONE, Step.START)
    books.step(TWO, Step.START, upstream=THERE)
    hit = books.store.hit(within)
    assert (hit.sessions, hit.transactions) == (1, 2)
    assert books.store.kill(within, books.now + 1, THERE) == 1
    assert books.open() == {ONE: 0}
    books.consistent()
    assert books.store.kill(within, books.now + 1) == 1
    assert books.open() == {}
    assert books.store.counts.transactions["killed"] == 2
    books.consistent()


def test_they_are_forgotten_with_their_parent() -> None:
    books = Books()
    books.step(b"", Step.START, number=1)
    books.step(ONE, Step.START)
    books.step(TWO, Step.START, Outcome.LOST)
    assert books.store.expire(1e9).forgotten == 1
    assert books.store.counts.transactions["expired"] == 2
    assert books.store.open_transactions == 0
    assert books.store.owners() == []
    books.consistent()


def test_a_session_that_upstream_did_not_take_goes_unless_a_child_has_begun() -> None:
    books = Books()
    other = LogicalSessionId(uuid(2), ALICE)
    operation = books.store.operation_started(other, 0.0)
    assert operation is not None
    books.step(ONE, Step.START, lsid=other)
    books.store.operation_finished(operation, 1.0, refused=True)
    assert other in books.store
    books.step(ONE, Step.COMMIT, lsid=other)
    operation = books.store.operation_started(LogicalSessionId(uuid(3), ALICE), 0.0)
    assert operation is not None
    books.store.operation_finished(operation, 1.0, refused=True)
    assert len(books.store) == 2
    books.consistent()


def test_one_parent_has_so_many_and_the_oldest_goes() -> None:
    books = Books()
    most = books.store._children.most_of_one
    children = [child_fields(None, uuid(number)) for number in range(most + 3)]
    for child in children:
        books.step(child, Step.START)
    assert list(books.open()) == children[3:]
    assert books.store.counts.transactions["unknown"] == 3
    books.consistent()
    # It goes on all the same, and is known again.
    books.step(children[0], Step.CONTINUE)
    assert children[0] in books.open()
    assert len(books.open()) == most
    books.consistent()


def test_there_are_so_many_in_all() -> None:
    books = Books()
    books.store._children.most = 5
    for number in range(8):
        books.step(ONE, Step.START, lsid=LogicalSessionId(uuid(number + 20), ALICE))
    assert books.store.open_transactions == 5
    assert len(books.store._children) == 5
    first = books.store.get(LogicalSessionId(uuid(20), ALICE))
    assert first is not None
    assert first.activity is None
    books.consistent()


def test_its_abort_names_the_child() -> None:
    for child, fields in ((ONE, {}), (TWO, {"txnNumber": Int64(7)})):
        command = bson.decode(abort_command(OpenTransaction(PARENT, 3, b"", child), ALICE))
        assert command["lsid"] == {
            "id": Binary(PARENT.id, 4),
            "uid": ALICE,
            **fields,
            "txnUUID": Binary(child[-16:], 4),
        }
        assert list(command["lsid"]) == ["id", "uid", *fields, "txnUUID"]


def test_how_it_is_written() -> None:
    assert child_text(ONE) == f" - {bson.Binary(uuid(11), 4).as_uuid()}"
    assert child_text(TWO) == f"7 - {bson.Binary(uuid(12), 4).as_uuid()}"


@given(
    st.lists(
        st.one_of(
            st.tuples(
                st.sampled_from([b"", ONE, TWO, child_fields(1, uuid(13))]),
                st.sampled_from([one for one in Step if one is not Step.WRITE]),
                st.sampled_from(list(Outcome)),
                st.integers(0, 2),
                st.sampled_from([HERE, THERE]),
                st.sampled_from([PARENT, LogicalSessionId(uuid(2), ALICE)]),
            ),
            st.sampled_from(["kill", "kill here", "forget", "cursor", "no cursor"]),
        ),
        max_size=40,
    )
)
def test_what_is_counted_is_what_is_there(
    events: list[str | tuple[bytes, Step, Outcome, int, str, LogicalSessionId]],
) -> None:
    books = Books()
    books.store._children.most_of_one = 2
    books.store._children.most = 3
    cursor = CursorId(HERE, 9)
    for event in events:
        session = books.store.get(PARENT)
        if not isinstance(event, str):
            books.step(*event)
        elif event.startswith("kill"):
            books.store.kill(EVERYTHING, books.now, HERE if event == "kill here" else None)
        elif event == "forget" and session is not None:
            books.store.forget(session)
        elif event == "cursor" and session is not None:
            books.store.cursor_opened(cursor, session, "a.b", books.now)
        elif event == "no cursor":
            books.store.cursor_closed(cursor)
        books.consistent()
