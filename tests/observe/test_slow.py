from __future__ import annotations

import pytest
import structlog

from proxy import logs
from proxy.conversation.desk import Desk
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.finished import Finished
from proxy.conversation.rule import Rules
from proxy.conversation.sharing import Sessions
from proxy.logs import SELDOM_SECONDS
from proxy.observe.flight import FlightLog
from proxy.observe.slow import MOST_ALIKE, MOST_LINES, SlowLog
from proxy.observe.telemetry import Telemetry
from proxy.session.identity import Identity
from proxy.session.ids import LogicalSessionId, Origin
from tests.observe.test_recording import Audit, DecisionRecorder

SLOW = Finished(
    "find", "shop.orders", "page", LogicalSessionId(bytes(16), bytes(32)), 2.5, 2.0, True, None
)


class Logged:
    def __init__(self) -> None:
        self.telemetry = Telemetry("1")
        self.flight = FlightLog(lambda: 0.0)
        self.slow = SlowLog(self.telemetry, logs.logger(), self.flight)
        recorder = DecisionRecorder(self.telemetry, Audit())  # type: ignore[arg-type]
        self.desk = Desk(Sessions(Rules(()), recorder), 7, "10.0.0.1", "db:1", UpstreamFacts)
        self.desk.identified(Identity((("alice", "app"),)))
        self.desk.tracking.origin = Origin("10.0.0.1", "shop", "PyMongo", "4.20")

    def tell(self, now: float, **what: object) -> None:
        self.slow.tell(SLOW._replace(**what), self.desk, now)


def test_a_line_says_what_it_was_whose_and_where_the_time_went() -> None:
    with structlog.testing.capture_logs() as lines:
        Logged().tell(0.0)
    assert lines == [
        {
            "event": "slow request",
            "log_level": "warning",
            "conn": 7,
            "command": "find",
            "namespace": "shop.orders",
            "seconds": 2.5,
            "upstream_seconds": 2.0,
            "proxy_seconds": 0.5,
            "result": "ok",
            "user": "alice@app",
            "application": "shop",
            "driver": "PyMongo 4.20",
            "client": "10.0.0.1",
            "upstream": "db:1",
            "session": str(SLOW.session),
            "comment": "page",
        }
    ]


@pytest.mark.parametrize(
    ("ok", "code", "result"),
    [(True, None, "ok"), (False, 50, "MaxTimeMSExpired"), (False, None, "other"),
     (None, None, "no answer")],
)  # fmt: skip
def test_a_line_says_how_it_ended(ok: bool | None, code: int | None, result: str) -> None:
    with structlog.testing.capture_logs() as lines:
        Logged().tell(0.0, ok=ok, code=code, comment=None, session=None, namespace="")
    assert lines[0]["result"] == result
    assert not lines[0].keys() & {"comment", "session", "namespace"}


def test_there_are_so_many_lines_and_some_of_each_kind() -> None:
    logged = Logged()
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            logged.tell(5.0)
        for number in range(100):
            logged.tell(6.0, namespace=f"shop.c{number}")
    assert sum(one["namespace"] == "shop.orders" for one in lines) == MOST_ALIKE
    assert len(lines) == MOST_LINES
    assert logged.telemetry._slow == {
        ("written",): MOST_LINES,
        ("left out",): 200 - MOST_LINES,
    }


def test_what_was_left_out_is_said_when_the_time_is_over() -> None:
    logged = Logged()
    with structlog.testing.capture_logs() as lines:
        for _ in range(MOST_ALIKE + 3):
            logged.tell(5.0)
        logged.slow.look(5.0 + SELDOM_SECONDS - 1)
        assert len(lines) == MOST_ALIKE
        logged.slow.look(5.0 + SELDOM_SECONDS)
        logged.slow.look(50.0)
        logged.tell(60.0)
    assert [one.get("left_out") for one in lines[MOST_ALIKE:]] == [3, None]


def test_the_history_has_what_the_log_has() -> None:
    logged = Logged()
    logged.tell(0.0)
    logged.tell(0.0, namespace="shop.carts")
    for _ in range(2 * MOST_ALIKE):
        logged.tell(0.0, namespace="", command="ping", comment=None, session=None)
    ((_, rows),) = logged.flight.rows(0.0)
    assert [(row[1], row[3:5], row[-2]) for row in rows] == [
        ("slow", ("alice@app", "shop"), bytes(16).hex()),
        ("slow", ("alice@app", "shop"), bytes(16).hex()),
        ("slow", ("alice@app", "shop"), ""),
    ]
    assert rows[0][-1] == {
        **{"command": "find", "namespace": "shop.orders", "seconds": 2.5, "upstream_seconds": 2.0},
        **{"proxy_seconds": 0.5, "result": "ok", "upstream": "db:1", "comment": "page", "conn": 7},
    }
    assert [row[-1].get("count") for row in rows] == [None, None, MOST_ALIKE]
