from __future__ import annotations

import json
from typing import Any

import pytest
import structlog
from bson import Binary

from policies.ownership import Ownership
from proxy.conversation.desk import Desk
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.rule import Decision, Mode, Overdue, Rules
from proxy.conversation.sharing import Sessions
from proxy.observe.flight import FlightLog
from proxy.observe.labels import SESSION_INCIDENTS
from proxy.observe.logins import MOST_CLAIMED
from proxy.observe.recording import DecisionRecorder
from proxy.observe.refusals import Whose
from proxy.observe.telemetry import Telemetry
from proxy.session import refusals
from proxy.session.identity import Identity, user_digest
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.store import SessionStore
from proxy.session.suspicion import Suspicion
from proxy.wire.subjects import Subject
from tests.embedded.support import USERS, node
from tests.observe.test_gauges import Read
from tests.proxied import ProxiedClient, Proxy

SHOP = Origin("10.0.0.1", "shop", "PyMongo", "4.20")


class Audit:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def record(self, **what: Any) -> None:
        self.lines.append(what)

    def append(self, said: str) -> None:
        self.lines.append(json.loads(f"{{{said}}}"))


class Recorded:
    """A recorder, a desk to record about, and what was counted and written."""

    def __init__(self) -> None:
        self.audit = Audit()
        self.telemetry = Telemetry("1", ("ownership",))
        self.recorder = DecisionRecorder(self.telemetry, self.audit)  # type: ignore[arg-type]
        sessions = Sessions(Rules(()), self.recorder)
        self.desk = Desk(sessions, 7, "10.0.0.1", "upstream:1", UpstreamFacts)

    @property
    def read(self) -> Read:
        return Read(self.telemetry.page())


@pytest.mark.parametrize(("refused", "decision"), [(True, "refused"), (False, "reported")])
def test_what_a_rule_says_is_counted_and_written_down(refused: bool, decision: str) -> None:
    made = Recorded()
    made.recorder.ruled(Decision("ownership", refused, refusals.NO_USERS), "find", 5.0, made.desk)
    assert made.read("rule_decisions_total", rule="ownership", decision=decision) == 1
    assert len(made.telemetry.rule_incidents.items()) == 1
    [line] = made.audit.lines
    assert (line["conn"], line["rule"], line["decision"]) == (7, "ownership", decision)
    assert line["reason"] == refusals.NO_USERS.errmsg


def test_a_refusal_is_told_alike_in_log_incident_and_audit_and_the_log_leaves_out_repetitions() -> (
    None
):
    made = Recorded()
    error = refusals.TOO_MANY_SESSIONS.because("alice has 3 of 3", "per_user", 3)
    lsid = LogicalSessionId(bytes(16), user_digest("alice", "app"))
    made.desk._sessions.known.seen(Identity((("alice", "app"),)))
    with structlog.testing.capture_logs() as logged:
        made.recorder._log = structlog.get_logger()
        for now in (5.0, 6.0, 7.0, 40.0):
            decision = Decision("session_budget", True, error)
            made.recorder.ruled(decision, "find", now, made.desk, lsid)
    first, second = logged
    assert (first["log_level"], first["event"]) == ("warning", "request refused")
    assert "left_out" not in first
    assert (second["left_out"], second["count"]) == (2, 4)
    [(incident, _)] = made.telemetry.rule_incidents.items()
    for told in (second, made.audit.lines[-1], made.telemetry.refusals.row(Whose(*incident[:4]))):
        assert (told["bound"], told["limit"], told["reason"]) == ("per_user", 3, "alice has 3 of 3")
        assert (told["session"], told["owner"]) == (str(lsid), "alice@app")
        assert (told["command"], told["client"], told["conn"]) == ("find", "10.0.0.1", 7)
        assert told["count"] == 4
        assert told["first"] <= told["last"]


def test_what_the_log_has_left_out_is_said_when_the_time_is_over() -> None:
    made = Recorded()
    decision = Decision("ownership", True, refusals.NO_USERS)
    with structlog.testing.capture_logs() as logged:
        made.recorder._log = structlog.get_logger()
        for now in (5.0, 6.0, 7.0):
            made.recorder.ruled(decision, "find", now, made.desk)
        for now in (8.0, 14.9, 15.0, 16.0, 40.0):
            made.recorder.look(now)
        made.recorder.ruled(decision, "find", 41.0, made.desk)
    first, left, third = logged
    assert (left["event"], left["about"]) == ("lines left out", "request refused")
    assert (left["left_out"], left["count"], left["rule"]) == (2, 3, "ownership")
    assert "left_out" not in first
    assert "left_out" not in third


def test_logins_that_fail_are_counted() -> None:
    made = Recorded()
    for command in ("saslStart", "saslContinue", "saslContinue", "hello"):
        made.recorder.login_failed(command, "alice@app", "18: no", made.desk)
    counted = [
        made.read("login_failures_total", command=one)
        for one in ("saslStart", "saslContinue", "authenticate", "other")
    ]
    assert counted == [1, 2, 0, 1]
    assert made.read("user_login_failures_total", user="alice@app", application="") == 4


def test_who_makes_names_up_at_the_login_makes_no_more_than_a_few_series() -> None:
    made = Recorded()
    for number in range(MOST_CLAIMED + 30):
        made.recorder.login_failed("saslStart", f"u{number}@app", "18: no", made.desk)
    made.recorder.login_failed("saslStart", "u0@app", "18: no", made.desk)
    assert made.read("user_login_failures_total", user="u0@app", application="") == 2
    assert made.read("user_login_failures_total", user="other", application="other") == 30


def test_an_incident_of_a_session_is_in_the_log_and_among_incidents_and_no_decision() -> None:
    made = Recorded()
    lsid = LogicalSessionId(bytes(16), user_digest("alice", "app"))
    made.desk._sessions.known.seen(Identity((("alice", "app"),)))
    with structlog.testing.capture_logs() as logged:
        made.recorder._log = structlog.get_logger()
        for now, reason in ((5.0, "first"), (6.0, "second"), (40.0, "third")):
            found = Suspicion("concurrent", reason, "find", lsid)
            made.recorder.incident(found.kind, now, made.desk, found)
    assert [line["event"] for line in logged] == ["session used for two things at once"] * 2
    assert ("left_out" in logged[0], logged[1]["left_out"]) == (False, 1)
    [(incident, _)] = made.telemetry.session_incidents.items()
    for told in (logged[1], made.telemetry.refusals.row(Whose(*incident[:4]))):
        assert (told["reason"], told["command"], told["count"]) == ("third", "find", 3)
        assert (told["session"], told["owner"]) == (str(lsid), "alice@app")
        assert (told["client"], told["conn"]) == ("10.0.0.1", 7)
    assert made.audit.lines == []


@pytest.mark.parametrize("kind", SESSION_INCIDENTS)
def test_the_log_has_words_for_each_kind(kind: str) -> None:
    made = Recorded()
    found = Suspicion(kind, "why", "find", LogicalSessionId(bytes(16), bytes(32)))
    with structlog.testing.capture_logs() as logged:
        made.recorder._log = structlog.get_logger()
        made.recorder.incident(kind, 5.0, made.desk, found)
    assert " " in logged[0]["event"]
    assert made.read("session_incidents_total", kind=kind) == 1


def test_what_the_proxy_itself_refuses_is_told_too() -> None:
    made = Recorded()
    with structlog.testing.capture_logs() as logged:
        made.recorder._log = structlog.get_logger()
        made.recorder.malformed(refusals.INVALID_UUID, "find", 1.0, made.desk, "refused")
        made.desk.refused("killSessions", refusals.NO_USERS, 2.0)
    # Neither hides the other.
    assert [line["event"] for line in logged] == ["request refused"] * 2
    reasons = [refusals.INVALID_UUID.errmsg, refusals.NO_USERS.errmsg]
    assert [line["reason"] for line in logged] == reasons
    assert logged[0]["rule"] is None
    assert [line["command"] for line in made.audit.lines] == ["find", "killSessions"]
    [(incident, _)] = made.telemetry.rule_incidents.items()
    assert (incident.kind, incident.rule) == ("refused", "the proxy")
    assert made.read("session_commands_total", command="killSessions", decision="refused") == 1


def test_a_session_command_that_a_rule_refuses_is_one_of_its_results() -> None:
    made = Recorded()
    decision = Decision("ownership", True, refusals.NO_USERS)
    made.recorder.ruled(decision, "killSessions", 5.0, made.desk)
    made.recorder.ruled(decision, "find", 5.0, made.desk)
    name, killing = "session_commands_total", {"command": "killSessions"}
    assert made.read(name, **killing, decision="refused") == 1
    made.recorder.control("killSessions", "done", 3, "", made.desk)
    assert made.read(name, **killing, decision="done") == 1
    assert made.audit.lines[-1]["targets"] == 3


def test_what_should_have_been_refused_is_counted_and_said_once() -> None:
    made = Recorded()
    with structlog.testing.capture_logs() as logged:
        made.recorder.surprised(refusals.TXN_NEGATIVE, "find", True, made.desk)
        made.recorder.surprised(refusals.TXN_NEGATIVE, "insert", False, made.desk)
    assert made.read("unexpected_successes_total", code_name="InvalidOptions") == 2
    [line] = logged
    assert (line["log_level"], line["command"]) == ("warning", "find")
    assert (line["conn"], line["expected"]) == (made.desk.connection, "InvalidOptions")


def test_foreign_digests_are_incidents_and_other_malformed_fields_are_not() -> None:
    made = Recorded()
    made.recorder.malformed(refusals.FOREIGN_DIGEST.again(), "find", 1.0, made.desk, "reported")
    made.recorder.malformed(refusals.INVALID_UUID, "find", 1.0, made.desk, "reported")
    read = made.read
    assert read("malformed_session_fields_total", code_name="Unauthorized") == 1
    assert read("malformed_session_fields_total", code_name="InvalidUUID") == 1
    assert read("session_incidents_total", kind="foreign_uid") == 1
    [line] = made.audit.lines
    assert (line["command"], line["decision"], line["rule"]) == ("find", "reported", None)


@pytest.mark.parametrize(
    ("checks", "mode", "lines"),
    [
        (True, Mode.ENFORCE, [("reported", None)]),
        (False, Mode.ENFORCE, [("refused", "ownership")]),
        (False, Mode.REPORT, [("reported", "ownership"), ("refused", None)]),
    ],
)
def test_a_foreign_digest_has_a_line_for_whoever_decides(
    checks: bool, mode: Mode, lines: list[tuple[str, str | None]]
) -> None:
    proxy = Proxy(node(authorization=True, users=USERS))
    audit, telemetry = Audit(), Telemetry("1", ("ownership",))
    proxy.sessions.recorder = DecisionRecorder(telemetry, audit)  # type: ignore[arg-type]
    proxy.sessions.rules = Rules([(Ownership(Ownership.Settings()), mode)])
    proxy.sessions.refuse_early = not checks
    logged_in(proxy, "bob", "app")
    alice = logged_in(proxy, "alice", "app")
    used(alice, 1, uid=user_digest("bob", "app"))
    assert [(line["decision"], line["rule"]) for line in audit.lines] == lines
    # Operators are told whose it is.
    assert {line["owner"] for line in audit.lines} == {"bob@app"}
    assert all(line["session"] for line in audit.lines)
    assert {line["user"] for line in audit.lines} == {"alice@app"}


@pytest.mark.parametrize(
    ("decision", "code", "reason"),
    [
        ("aborted", None, "too old"),
        ("over", 251, "too old; it had ended before: 251 NoSuchTransaction"),
        ("failed", 13, "too old; upstream refuses: 13 Unauthorized"),
    ],
)
def test_late_transactions(decision: str, code: int | None, reason: str) -> None:
    made, store = Recorded(), SessionStore()
    session = store.use(LogicalSessionId(bytes(16), bytes(32)), 0.0, "alice@app", SHOP)
    assert session is not None
    late = Overdue(session, 1, "too old", ("total_seconds", 5.0))
    flight = made.recorder._flight = FlightLog(lambda: 5.0)
    with structlog.testing.capture_logs() as logged:
        made.recorder._log = structlog.get_logger()
        for now in (5.0, 6.0):
            made.recorder.late(late, decision, code, now)
    read = made.read
    assert read("rule_decisions_total", rule="transaction_guard", decision=decision) == 2
    line = made.audit.lines[-1]
    assert (line["owner"], line["user"]) == ("alice@app", "")
    assert (line["bound"], line["limit"]) == ("total_seconds", 5.0)
    assert line["reason"] == reason
    # What has failed is tried again.
    ok = decision != "failed"
    assert len(logged) == len(made.telemetry.rule_incidents.items()) == ok
    remembered = [row for _, rows in flight.rows(0.0) for row in rows]
    assert len(remembered) == ok
    for _, event, _, *who, session_id, more in remembered:
        assert (event, *who[:2], session_id) == ("incident", "alice@app", "shop", session.id.hex())
        assert (more["kind"], more["rule"], more["count"]) == (decision, "transaction_guard", 2)
    if ok:
        [said], [(incident, _)] = logged, made.telemetry.rule_incidents.items()
        event = "late transaction " + {"over": "was over already"}.get(decision, decision)
        assert (said["event"], said["log_level"]) == (event, "warning")
        row = made.telemetry.refusals.row(Whose(*incident[:4]))
        assert (incident.kind, incident.user, row["count"]) == (decision, "alice@app", 2)
        for told in (said, row, line):
            assert (told["bound"], told["reason"]) == ("total_seconds", reason)
            assert told["session"] == str(session.key)
    assert [line[name] for name in ("application", "driver", "driver_version")] == [*SHOP[1:4]]


def test_what_is_given_up_is_counted_and_said() -> None:
    with structlog.testing.capture_logs() as logged:
        made, store = Recorded(), SessionStore()
        session = store.use(LogicalSessionId(bytes(16), bytes(32)), 0.0, "alice@app", SHOP)
        assert session is not None
        made.recorder.gave_up(Overdue(session, 7, "too old", ("total_seconds", 5.0)), 347, 1.0)
    read = made.read
    assert read("rule_decisions_total", rule="transaction_guard", decision="given_up") == 1
    [line] = made.audit.lines
    assert (line["decision"], line["reason"]) == (
        "given_up",
        "too old; upstream refuses: 347 APIMismatchError",
    )
    [said] = logged
    assert (said["log_level"], said["code"], said["txn_number"]) == ("warning", 347, 7)


# ------------------------------------------------------------------ through a server


def logged_in(proxy: Proxy, name: str, database: str) -> ProxiedClient:
    client = proxy.connect()
    assert client.log_in(name, database)["done"]
    return client


def used(client: ProxiedClient, number: int, **more: Any) -> dict[str, Any]:
    lsid = {"id": Binary(bytes(15) + bytes((number,)), 4), **more}
    return client.run("ping", 1, lsid=lsid)


def test_whose_sessions_a_kill_hits() -> None:
    proxy = Proxy(node(authorization=True, users=USERS))
    alice, killer = logged_in(proxy, "alice", "app"), logged_in(proxy, "killer", "admin")
    for number in range(3):
        used(alice, number)
    used(killer, 9)
    alice.run("killSessions", [])
    assert proxy.recorder.only("killed")[-1] == (3, 0)
    killer.run("killAllSessions", [])
    assert proxy.recorder.only("killed")[-1] == (1, 3)
    killer.run("killAllSessions", [{"user": "alice", "db": "app"}])
    assert proxy.recorder.only("killed")[-1] == (0, 3)


@pytest.mark.parametrize("command", ["ping", "killSessions", "endSessions"])
def test_somebody_elses_digest(command: str) -> None:
    proxy = Proxy(node(authorization=True, users=USERS))
    alice = logged_in(proxy, "alice", "app")
    used(alice, 1)
    seen = len(proxy.recorder.seen)
    bobs = {"id": Binary(bytes(16), 4), "uid": user_digest("bob", "app")}
    reply = alice.run("ping", 1, lsid=bobs) if command == "ping" else alice.run(command, [bobs])
    assert reply["code"] == 13
    told = [
        entry for entry in proxy.recorder.seen[seen:] if entry[0] in ("trespassed", "malformed")
    ]
    # Of a list, it is said whose it was.
    which = bytes(16), user_digest("bob", "app")
    assert told == ([("malformed", 13)] if command == "ping" else [("trespassed", command, which)])


def test_a_session_command_on_somebody_elses_session_is_one_incident_that_says_whose() -> None:
    made, bobs = Recorded(), LogicalSessionId(bytes(16), user_digest("bob", "app"))
    made.desk._sessions.known.seen(Identity((("bob", "app"),)))
    error = refusals.FOREIGN_DIGEST.of(bobs)
    made.recorder.trespassed(error, "killSessions", 5.0, made.desk, None)
    assert made.telemetry.rule_incidents.items() == []
    [(incident, _)] = made.telemetry.session_incidents.items()
    assert incident.kind == "foreign_uid"
    for told in (made.audit.lines[-1], made.telemetry.refusals.row(Whose(*incident[:4]))):
        assert (told["session"], told["owner"]) == (str(bobs), "bob@app")
        assert (told["command"], told["count"]) == ("killSessions", 1)
    assert made.audit.lines[-1]["decision"] == "refused"
    assert made.read("session_commands_total", command="killSessions", decision="refused") == 1


def test_a_rule_that_fails_again_and_again_is_logged_seldom() -> None:
    made = Recorded()
    failure = ValueError("bug")
    with structlog.testing.capture_logs() as logged:
        made.recorder._log = structlog.get_logger()
        for rule, now in (
            ("ownership", 5.0),
            ("ownership", 6.0),
            ("mine", 6.0),
            ("ownership", 99.0),
        ):
            decision = Decision(rule, True, refusals.NO_USERS, failure)
            made.recorder.ruled(decision, "find", now, made.desk)
    failed = [line for line in logged if line["event"] == "rule failed"]
    assert [(line["rule"], line.get("left_out")) for line in failed] == [
        ("ownership", None),
        ("mine", None),
        ("ownership", 1),
    ]
    assert all(line["exc_info"] is failure and line["conn"] == 7 for line in failed)


def test_what_a_refused_request_was_about_is_written_down() -> None:
    made = Recorded()
    many = tuple(f"db.c{number}" for number in range(11))
    for subject in (Subject("drop", ("db.c",), True), Subject("bulkWrite", many, True), None):
        decision = Decision("ownership", True, refusals.NO_USERS, subject=subject)
        made.recorder.ruled(decision, "drop", 5.0, made.desk)
    first, second, third = made.audit.lines
    assert (first["namespaces"], first["writes"]) == (["db.c"], True)
    assert second["namespaces"] == [*many[:10], ""]
    assert "namespaces" not in third
