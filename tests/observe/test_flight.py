from __future__ import annotations

from typing import Any

import pytest

from proxy.counting import OTHER
from proxy.observe import flight as module
from proxy.observe.flight import FlightLog, Row
from proxy.session import flight
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.store import SessionStore
from proxy.texts import MOST_SHOWN
from tests.session.sessions import ALICE, uuid

SHOP = Origin("10.0.0.1", "shop", "PyMongo", "4.20")
WHO = ("shop@admin", "shop", "PyMongo", "4.20", "10.0.0.1")


def made(**how: Any) -> FlightLog:
    return FlightLog(lambda: 7.0, **how)


def session(number: int = 1, user: str = "shop@admin") -> Any:
    return SessionStore().use(LogicalSessionId(uuid(number), ALICE), 0.0, user, SHOP)


def taken(log: FlightLog, epoch: float = 1000.0) -> list[Row]:
    return [row for lives, rest in log.rows(epoch) for row in (*rest, *lives)]


def test_a_session_is_noted_with_whose_it_is_and_when_by_the_calendar() -> None:
    log = made(cluster="web")
    assert not log
    log.session(flight.STARTED, session(), 5.25)
    assert log
    assert taken(log) == [(1_005_250, "session_started", "web", *WHO, uuid(1).hex(), None)]
    assert not log
    assert taken(log) == []


def test_a_transaction_that_is_over_at_once_is_one_event() -> None:
    log, one = made(), session()
    log.begun(one, 3, 5.0)
    log.over(one, 3, 5.5, "committed", 0.5, 2)
    rows = taken(log)
    assert [row[1] for row in rows] == ["transaction_ended"]
    assert rows[0][9] == [3, "committed", 0.5, 2]


def test_a_transaction_that_stays_open_is_two() -> None:
    log, one = made(), session()
    log.begun(one, 3, 5.0)
    assert [(row[1], row[9]) for row in taken(log)] == [("transaction_started", [3])]
    log.over(one, 3, 65.0, "aborted", 60.0, 2)
    assert [row[1] for row in taken(log)] == ["transaction_ended"]


@pytest.mark.parametrize(
    ("whole", "events"), [(True, ["session_started", "transaction_ended"]), (False, [])]
)
def test_what_every_process_sees_one_of_them_tells(whole: bool, events: list[str]) -> None:
    log = made(whole=whole)
    log.session(flight.STARTED, session(), 4.0)
    log.over(session(), 3, 5.0, "expired", 1800.0, 2)
    assert [row[1] for row in taken(log)] == events


def test_what_repeats_itself_at_once_is_one_event_with_a_count() -> None:
    log = made()
    for number in range(3):
        log.happened("refused", {"rule": "txn_number", "reason": str(number)}, "a@b", SHOP)
    log.happened("refused", {"rule": "ownership", "session": "ab"}, "a@b", SHOP)
    first, second = taken(log)
    assert first[9] == {"rule": "txn_number", "reason": "2", "count": 3}
    assert first[0] == 1_007_000
    assert second[8:] == ("ab", {"rule": "ownership"})


def test_of_very_many_different_ones_the_rest_is_one() -> None:
    log = made()
    for number in range(1000):
        log.happened("refused", {"rule": "ownership"}, f"user{number}@b", SHOP)
    rows = taken(log)
    assert len(rows) == module.MOST_APART + 1
    assert rows[-1][3] == OTHER
    assert sum((row[9] or {}).get("count", 1) for row in rows) == 1000


def test_what_finds_no_room_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    log, one = made(), session()
    for number in range(3):
        log.session(flight.ENDED, one, 1.0)
        log.begun(one, number, 1.0)
    log.over(one, 9, 1.0, "committed", 0.0, 0)
    assert log.lost == 3
    assert len(taken(log)) == 4


def test_texts_are_short_and_steer_no_terminal() -> None:
    log = made()
    log.session(flight.STARTED, session(user="x" * 9_000), 1.0)
    log.happened("login_failed", {"reason": "\x1b[2J" + "y" * 9_000}, "z" * 9_000)
    for row in taken(log):
        assert len(row[3]) == MOST_SHOWN
    log.happened("login_failed", {"reason": "\x1b[2J"})
    assert taken(log)[0][9] == {"reason": "\\x1b[2J"}


def test_a_kill_of_all_sessions_says_whose() -> None:
    log, one = made(), session()
    log.all_killed(one.owner, 5, 1.0)
    log.all_killed(None, 50, 1.0)
    mine, everybody = taken(log)
    assert (mine[3], mine[9]) == ("shop@admin", {"sessions": 5})
    assert everybody[9] == {"sessions": 50, "everybody": True}


def test_what_an_operator_does_is_remembered_with_who_it_was() -> None:
    log = made()
    line = {
        **{"conn": 4, "user": "a@b", "operator": "ann", "client": "127.0.0.1", "rule": None},
        **{"command": "abort", "decision": "done", "reason": "aborted", "targets": 1},
        **{"session": "00000000-0000-0000-0000-000000000001", "txn_number": 3},
    }
    log.acted(line)
    part = {**line, "command": "killSessions", "owner": "c@d", "sessions": ["x"] * 80}
    log.acted(part)
    log.acted({**part, "decision": "failed"})
    abort, kill = taken(log)
    assert (abort[1], abort[3], abort[7], abort[8]) == (
        "abort",
        "a@b",
        "127.0.0.1",
        "00" * 15 + "01",
    )
    assert abort[9]["operator"] == "ann"
    assert (kill[1], kill[3], kill[9]["targets"]) == ("kill", "c@d", 1)
    assert "sessions" not in kill[9]


def test_what_two_operators_do_at_once_are_two_events() -> None:
    log = made()
    line = {
        **{"conn": None, "user": "", "client": "127.0.0.1", "rule": None, "command": "kill"},
        **{"decision": "done", "reason": "0 failed", "targets": 1},
    }
    for operator in ("ann", "bob", "bob"):
        log.acted({**line, "operator": operator})
    assert [row[9]["operator"] for row in taken(log)] == ["ann", "bob", "bob"]
