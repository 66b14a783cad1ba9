from __future__ import annotations

import pickle

import pytest

from proxy.session import known
from proxy.session.identity import Identity, user_digest
from proxy.session.known import KnownUsers, SharedUsers

READ = ("read", "app")
WRITE = ("readWrite", "app")
ALICE, BOB = ("alice", "app"), ("bob", "app")


def test_roles_of_those_seen() -> None:
    users = KnownUsers()
    users.seen(Identity((ALICE,), (READ, WRITE)))
    users.seen(Identity((BOB,), (READ,)))
    users.seen(Identity())
    assert users.holding([WRITE]) == {user_digest(*ALICE)}
    assert users.holding([READ, WRITE]) == users.digests()
    assert users.holding([("read", "other")]) == frozenset()
    assert users.holding([]) == frozenset()


def test_the_latest_roles_count() -> None:
    users = KnownUsers()
    users.seen(Identity((ALICE,), (READ,)))
    users.seen(Identity((ALICE,), (WRITE,)))
    assert users.holding([READ]) == frozenset()


def test_of_two_users_on_a_connection_nobody_knows_whose_roles_they_are() -> None:
    users = KnownUsers()
    users.seen(Identity((ALICE,), (READ,)))
    users.seen(Identity((ALICE, BOB), (READ, WRITE)))
    assert users.holding([READ]) == {user_digest(*ALICE)}
    assert users.holding([WRITE]) == frozenset()
    assert users.digests() == {user_digest(*ALICE), user_digest(*BOB)}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_MAX_USERS", 2)
    users = KnownUsers()
    for name in ("a", "b", "a", "c"):
        users.seen(Identity(((name, "d"),), (READ,)))
    assert users.digests() == {user_digest("a", "d"), user_digest("c", "d")}


def test_so_is_that_of_many_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_MAX_BYTES", 10_000)
    users = KnownUsers()
    for number in range(20):
        roles = tuple((f"r{n}", "app") for n in range(number))
        users.seen(Identity(((f"u{number}", "d"),), roles))
        users.seen(Identity(((f"u{number}", "d"),), roles))
        assert users.size <= 10_000
    assert user_digest("u19", "d") in users.digests()
    assert len(users.digests()) == 1
    for one in list(users.digests()):
        users._forget(one)
    assert users.size == 0


def test_news_of_users_with_many_roles_come_some_at_a_time() -> None:
    here, there = SharedUsers(), SharedUsers()
    roles = tuple((f"r{n}", "app") for n in range(1_500))
    for number in range(4):
        here.seen(Identity(((f"u{number}", "d"),), roles))
    pieces = []
    while told := here.news():
        pieces.append(len(told))
        there.take_in(told)
    assert pieces == [1, 1, 1, 1]
    assert there.roles() == here.roles()


def test_users_are_known_wherever_they_log_in() -> None:
    here, there = SharedUsers(), SharedUsers()
    here.seen(Identity((ALICE,), (WRITE,)))
    here.seen(Identity((BOB,)))
    here.seen(Identity((BOB,)))
    told = here.news(1) + here.news(1)
    assert here.news() == []
    there.take_in(pickle.loads(pickle.dumps(told)))
    assert there.roles() == here.roles()
    assert there.name_of(user_digest(*BOB)) == "bob@app"
    assert there.news() == []  # it came from somebody else
    assert sorted(here.everybody()) == sorted(told)
    here.seen(Identity((BOB,), (READ,)))
    there.take_in(here.news())
    assert there.holding([READ]) == {user_digest(*BOB)}
