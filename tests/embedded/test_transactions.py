from __future__ import annotations

from typing import Any

import pytest
from bson import Binary, Int64
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.embedded.support import NOW, Client, answer, node

LSIDS = [{"id": Binary(bytes(15) + bytes([n]), 4)} for n in range(3)]


class Session:
    """One session's view: ``n`` is its txnNumber."""

    def __init__(self, client: Client, lsid: dict[str, Any]) -> None:
        self.client, self.lsid = client, lsid

    def fields(self, n: int, *, start: bool = False) -> dict[str, Any]:
        fields = {"lsid": self.lsid, "txnNumber": Int64(n), "autocommit": False}
        return {**fields, "startTransaction": True} if start else fields

    def retryable(self, n: int) -> dict[str, Any]:
        return {"lsid": self.lsid, "txnNumber": Int64(n)}

    def insert(self, *ids: Any, **fields: Any) -> dict[str, Any]:
        documents = [{"_id": key} for key in ids]
        return self.client.run("insert", "c", db="app", documents=documents, **fields)

    def update(self, key: Any, value: Any, **fields: Any) -> dict[str, Any]:
        updates = [{"q": {"_id": key}, "u": {"$set": {"v": value}}}]
        return self.client.run("update", "c", db="app", updates=updates, **fields)

    def seen(self, **fields: Any) -> list[Any]:
        reply = self.client.run("find", "c", db="app", sort={"_id": 1}, **fields)
        return [found["_id"] for found in reply["cursor"]["firstBatch"]]

    def commit(self, n: int) -> dict[str, Any]:
        return self.client.run("commitTransaction", **self.fields(n))

    def abort(self, n: int) -> dict[str, Any]:
        return self.client.run("abortTransaction", **self.fields(n))


@pytest.fixture
def session() -> Session:
    return Session(Client(node()), LSIDS[0])


@pytest.fixture
def other(session: Session) -> Session:
    return Session(Client(session.client.connection.node), LSIDS[1])


def test_commit_publishes(session: Session, other: Session) -> None:
    session.insert(1)
    session.insert(2, **session.fields(1, start=True))
    assert session.seen(**session.fields(1)) == [1, 2]
    assert other.seen() == [1]
    assert session.commit(1)["ok"] == 1.0
    assert other.seen() == [1, 2]
    assert session.commit(1)["ok"] == 1.0


def test_abort_undoes(session: Session) -> None:
    session.insert(1)
    deletes = [{"q": {}, "limit": 0}]
    session.client.run("delete", "c", db="app", deletes=deletes, **session.fields(1, start=True))
    session.insert(2, **session.fields(1))
    assert session.seen(**session.fields(1)) == [2]
    assert session.abort(1)["ok"] == 1.0
    assert session.seen() == [1]
    assert session.abort(1)["code"] == 251


def test_reads_are_of_one_moment(session: Session, other: Session) -> None:
    session.insert(1)
    assert session.seen(**session.fields(1, start=True)) == [1]
    other.insert(2)
    assert session.seen(**session.fields(1)) == [1]


def test_two_open_transactions_on_one_document(session: Session, other: Session) -> None:
    session.insert(1)
    assert session.update(1, "a", **session.fields(1, start=True))["nModified"] == 1
    conflict = other.update(1, "b", **other.fields(1, start=True))
    assert (conflict["code"], conflict["codeName"]) == (112, "WriteConflict")
    assert conflict["errorLabels"] == ["TransientTransactionError"]
    assert other.commit(1)["code"] == 251
    assert session.commit(1)["ok"] == 1.0
    assert other.update(1, "b", **other.fields(2, start=True))["nModified"] == 1


def test_a_document_that_changed_since_the_transaction_looked(
    session: Session, other: Session
) -> None:
    session.insert(1)
    session.seen(**session.fields(1, start=True))
    other.update(1, "b")
    assert session.update(1, "a", **session.fields(1))["code"] == 112


def test_a_write_outside_waits_for_the_transaction(session: Session, other: Session) -> None:
    session.insert(1)
    session.update(1, "a", **session.fields(1, start=True))
    updates = [{"q": {"_id": 1}, "u": {"$set": {"v": "b"}}}]
    body = {"update": "c", "updates": updates, "maxTimeMS": 5000, "$db": "app"}
    assert other.client.step(body).wait_until == NOW + 5
    assert other.client.connection.resume(NOW + 1).frames == []
    assert session.commit(1)["ok"] == 1.0
    assert answer(other.client.connection.resume(NOW + 2))["nModified"] == 1
    found = session.client.run("find", "c", db="app")["cursor"]["firstBatch"]
    assert found == [{"_id": 1, "v": "b"}]


def test_a_write_outside_waits_no_longer_than_it_may(session: Session, other: Session) -> None:
    session.insert(1, **session.fields(1, start=True))
    documents = [{"_id": 1}]
    body = {"insert": "c", "documents": documents, "maxTimeMS": 5000, "$db": "app"}
    other.client.step(body)
    assert answer(other.client.connection.resume(NOW + 5))["code"] == 50


@pytest.mark.parametrize("statement", [{"q": 1, "u": {}}, {"u": {}}, {"q": {"$nix": 1}, "u": {}}])
def test_odd_statements_outside_do_not_wait(session: Session, statement: dict[str, Any]) -> None:
    session.insert(1, **session.fields(1, start=True))
    reply = session.client.run("update", "c", db="app", updates=[statement])
    assert reply.get("code", 2) in (2, 40414)
    assert reply["ok"] == 0.0 or reply["writeErrors"]


def test_a_find_and_modify_outside_waits_too(session: Session, other: Session) -> None:
    session.insert(1)
    session.update(1, "a", **session.fields(1, start=True))
    modify = {"query": {"_id": 1}, "update": {"$set": {"v": "b"}}, "$db": "app"}
    assert other.client.step({"findAndModify": "c", **modify}).wait_until is not None
    session.abort(1)
    reply = answer(other.client.connection.resume(NOW + 1))
    assert reply["value"] == {"_id": 1}


def test_a_commit_is_all_or_nothing(session: Session, other: Session) -> None:
    unique = [{"key": {"u": 1}, "name": "u", "unique": True, "sparse": True}]
    session.client.run("createIndexes", "c", db="app", indexes=unique)
    fields = session.fields(1, start=True)
    documents = [{"_id": 1}, {"_id": 2, "u": "taken"}]
    assert session.client.run("insert", "c", db="app", documents=documents, **fields)["n"] == 2
    insert = {"documents": [{"_id": 3, "u": "taken"}]}
    assert other.client.run("insert", "c", db="app", **insert)["n"] == 1
    refused = session.commit(1)
    assert (refused["code"], refused["errorLabels"]) == (112, ["TransientTransactionError"])
    assert session.seen() == [3]
    assert session.commit(1)["code"] == 251


def test_a_transaction_lives_a_minute(session: Session, other: Session) -> None:
    session.insert(1, **session.fields(1, start=True))
    session.client.now = NOW + 61
    assert session.commit(1)["code"] == 251
    other.client.now = NOW + 61
    assert other.insert(1)["n"] == 1


def test_the_limit_can_be_set(session: Session) -> None:
    parameter = {"transactionLifetimeLimitSeconds": 1}
    assert session.client.run("setParameter", **parameter)["was"] == 60
    session.insert(1, **session.fields(1, start=True))
    session.client.now = NOW + 2
    assert session.commit(1)["code"] == 251


@pytest.mark.parametrize(
    ("prepare", "request_", "code"),
    [
        # What is asked of a session whose active txnNumber 5 is of which kind, and the answer.
        ("none", ("continue", 5), 251),
        ("open", ("continue", 4), 225),
        ("open", ("continue", 6), 251),
        ("open", ("continue", 5), 0),
        ("open", ("start", 5), 117),
        ("open", ("start", 6), 0),
        ("open", ("start", 4), 225),
        ("open", ("retryable", 4), 225),
        ("open", ("retryable", 5), 217),
        ("open", ("retryable", 6), 0),
        ("committed", ("continue", 5), 256),
        ("committed", ("start", 5), 117),
        ("committed", ("commit", 5), 0),
        ("committed", ("abort", 5), 256),
        ("committed", ("retryable", 5), 217),
        ("aborted", ("continue", 5), 251),
        ("aborted", ("commit", 5), 251),
        ("aborted", ("abort", 5), 251),
        ("aborted", ("start", 5), 117),
        ("aborted", ("start", 6), 0),
        ("retryable", ("retryable", 5), 0),
        ("retryable", ("retryable", 4), 225),
        ("retryable", ("continue", 5), 251),
        ("retryable", ("start", 5), 117),
        ("retryable", ("commit", 5), 251),
        ("retryable", ("start", 6), 0),
    ],
)
def test_states(session: Session, prepare: str, request_: tuple[str, int], code: int) -> None:
    if prepare == "retryable":
        session.insert("first", **session.retryable(5))
    elif prepare != "none":
        session.insert("first", **session.fields(5, start=True))
    if prepare == "committed":
        session.commit(5)
    elif prepare == "aborted":
        session.abort(5)
    verb, n = request_
    reply = {
        "continue": lambda: session.insert("x", **session.fields(n)),
        "start": lambda: session.insert("x", **session.fields(n, start=True)),
        "retryable": lambda: session.insert("x", **session.retryable(n)),
        "commit": lambda: session.commit(n),
        "abort": lambda: session.abort(n),
    }[verb]()
    assert reply.get("code", 0) == code
    labels = ["TransientTransactionError"] if code == 251 else None
    assert reply.get("errorLabels") == labels


def test_a_higher_number_aborts_what_is_open(session: Session) -> None:
    session.insert(1, **session.fields(1, start=True))
    session.insert(2, **session.retryable(2))
    assert session.seen() == [2]


def test_an_error_inside_aborts(session: Session) -> None:
    session.insert(1, **session.fields(1, start=True))
    failed = session.insert(1, **session.fields(1))
    assert failed["writeErrors"][0]["code"] == 11000
    assert session.commit(1)["code"] == 251
    assert session.seen() == []


@pytest.mark.parametrize(
    ("command", "fields", "code"),
    [
        ({"find": "c"}, {"readConcern": {"level": "majority"}}, 72),
        ({"insert": "c", "documents": [{}]}, {"writeConcern": {"w": 1}}, 72),
        ({"count": "c"}, {}, 263),
        ({"listCollections": 1}, {}, 263),
    ],
)
def test_what_a_transaction_may_not(
    session: Session, command: dict[str, Any], fields: dict[str, Any], code: int
) -> None:
    session.insert(1, **session.fields(1, start=True))
    reply = session.client.ask({**command, **session.fields(1), **fields, "$db": "app"})
    assert reply["code"] == code


@pytest.mark.parametrize("database", ["config", "local", "admin"])
def test_databases_without_transactions(session: Session, database: str) -> None:
    fields = session.fields(1, start=True)
    reply = session.client.run("find", "c", db=database, **fields)
    text = f"Cannot run command against the '{database}' database in a transaction"
    assert (reply["code"], reply["errmsg"]) == (263, text)


@pytest.mark.parametrize("name", ["commitTransaction", "abortTransaction"])
def test_an_end_is_no_beginning(session: Session, name: str) -> None:
    reply = session.client.run(name, **session.fields(1, start=True))
    assert reply["code"] == 263


def test_a_cursor_belongs_to_its_transaction(session: Session) -> None:
    session.insert(1, 2, 3)
    opened = session.client.run("find", "c", db="app", batchSize=1, **session.fields(1, start=True))
    cursor_id = Int64(opened["cursor"]["id"])
    outside = session.client.run("getMore", cursor_id, db="app", collection="c", lsid=session.lsid)
    assert outside["code"] == 50740
    inside = session.client.run("getMore", cursor_id, db="app", collection="c", **session.fields(1))
    assert [found["_id"] for found in inside["cursor"]["nextBatch"]] == [2, 3]


class AgainstADictionary(RuleBasedStateMachine):
    """Two sessions' transactions against plain sets of ids."""

    @initialize()
    def start(self) -> None:
        server = node()
        self.sessions = [Session(Client(server), lsid) for lsid in LSIDS[:2]]
        self.shared: set[int] = set()
        self.numbers = [0, 0]
        self.views: list[set[int] | None] = [None, None]
        self.written: list[set[int]] = [set(), set()]

    def _fields(self, who: int) -> dict[str, Any]:
        if self.views[who] is not None:
            return self.sessions[who].fields(self.numbers[who])
        self.numbers[who] += 1
        self.views[who] = set(self.shared)
        self.written[who] = set()
        return self.sessions[who].fields(self.numbers[who], start=True)

    @rule(who=st.integers(0, 1), key=st.integers(0, 5))
    def insert_inside(self, who: int, key: int) -> None:
        # Ids of one's own, so that the two never conflict.
        key = key * 2 + who
        view = self.views[who] if self.views[who] is not None else set(self.shared)
        fields = self._fields(who)
        reply = self.sessions[who].insert(key, **fields)
        if key in (view or ()):
            assert reply["writeErrors"][0]["code"] == 11000
            self.views[who] = None
        else:
            assert reply["n"] == 1
            self.views[who].add(key)
            self.written[who].add(key)

    @rule(who=st.integers(0, 1))
    def commit(self, who: int) -> None:
        if self.views[who] is not None:
            assert self.sessions[who].commit(self.numbers[who])["ok"] == 1.0
            self.shared |= self.written[who]
            self.views[who] = None

    @rule(who=st.integers(0, 1))
    def abort(self, who: int) -> None:
        if self.views[who] is not None:
            assert self.sessions[who].abort(self.numbers[who])["ok"] == 1.0
            self.views[who] = None

    @invariant()
    def everybody_sees_what_they_should(self) -> None:
        if not hasattr(self, "sessions"):
            return
        assert self.sessions[0].seen() == sorted(self.shared)
        for who, view in enumerate(self.views):
            if view is not None:
                fields = self.sessions[who].fields(self.numbers[who])
                assert self.sessions[who].seen(**fields) == sorted(view)


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=40, deadline=None)
