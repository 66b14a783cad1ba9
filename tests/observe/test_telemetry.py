from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.observe.labels import COMMANDS, INITIATORS, SESSION_INCIDENTS, Incident
from proxy.observe.telemetry import BUCKETS, MOST_INCIDENTS, Telemetry
from proxy.session.ids import Origin

P = "mongo_session_proxy_"
ALICES = Origin("10.0.0.1", "shop", "PyMongo", "4.20")


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry("1.2.3", ("ownership",))


def samples(telemetry: Telemetry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    page = telemetry.page()[1].decode()
    found = [s for family in text_string_to_metric_families(page) for s in family.samples]
    by_key = {(s.name, frozenset(s.labels.items())): s.value for s in found}
    assert len(by_key) == len(found), "a series stands there twice"
    return by_key


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return samples(telemetry).get((P + name, frozenset(labels.items())))


def test_build_info_names_the_version(telemetry: Telemetry) -> None:
    assert re.search(
        rf'^{P}build_info{{python="3[\d.]+",version="1\.2\.3"}} 1\.0$',
        telemetry.page()[1].decode(),
        re.MULTILINE,
    )


def test_client_connections(telemetry: Telemetry) -> None:
    for _ in range(3):
        telemetry.connection_opened()
    telemetry.connection_closed("client closed")
    telemetry.rejected("connection limit")
    assert value(telemetry, "client_connections_accepted_total") == 3
    assert value(telemetry, "client_connections_closed_total", reason="client closed") == 1
    assert value(telemetry, "client_connections_rejected_total", reason="connection limit") == 1


def test_connecting_upstream(telemetry: Telemetry) -> None:
    telemetry.connected(0.002)
    telemetry.connected(99.0)
    telemetry.not_connected("timeout")
    assert value(telemetry, "upstream_connects_total", result="ok") == 2
    assert value(telemetry, "upstream_connects_total", result="timeout") == 1
    assert value(telemetry, "upstream_connect_duration_seconds_bucket", le="0.0025") == 1
    assert value(telemetry, "upstream_connect_duration_seconds_count") == 2


def test_known_commands_are_counted_by_name_and_the_rest_together(telemetry: Telemetry) -> None:
    for command in ("find", "find", "hello", "x", "y", "", "FIND"):
        telemetry.request(command)
    telemetry.replied("find", 0.001, True)
    telemetry.replied("x", 0.001, False)
    assert value(telemetry, "requests_total", command="find") == 2
    assert value(telemetry, "requests_total", command="hello") == 1
    assert value(telemetry, "requests_total", command="other") == 4
    assert value(telemetry, "replies_total", command="find", result="ok") == 1
    assert value(telemetry, "replies_total", command="other", result="error") == 1


def test_request_durations(telemetry: Telemetry) -> None:
    for seconds in (0.00002, 0.003, 100.0):
        telemetry.replied("find", seconds, True)
    # Drivers watch by those, which say nothing about how long anything takes.
    for command in ("hello", "isMaster", "ismaster"):
        telemetry.replied(command, 3600.0, True)
    assert value(telemetry, "replies_total", command="hello", result="ok") == 1
    assert value(telemetry, "request_duration_seconds_count") == 3
    assert value(telemetry, "request_duration_seconds_sum") == pytest.approx(100.00302)
    assert value(telemetry, "request_duration_seconds_bucket", le="2.5e-05") == 1
    assert value(telemetry, "request_duration_seconds_bucket", le="0.005") == 2
    assert value(telemetry, "request_duration_seconds_bucket", le="30.0") == 2
    assert value(telemetry, "request_duration_seconds_bucket", le="+Inf") == 3
    assert tuple(sorted(BUCKETS)) == BUCKETS


def test_time_inside_the_proxy_by_leg(telemetry: Telemetry) -> None:
    telemetry.legs["request"].observe(0.00002)
    telemetry.legs["reply"].observe(0.002)
    name = "inside_duration_seconds_bucket"
    assert value(telemetry, name, leg="request", le="2.5e-05") == 1
    assert value(telemetry, name, leg="reply", le="0.001") == 0
    assert value(telemetry, name, leg="reply", le="0.0025") == 1


def test_errors_by_name_and_source(telemetry: Telemetry) -> None:
    telemetry.failed(11000, "upstream")
    telemetry.failed(13, "proxy")
    telemetry.failed(123456, "upstream")
    telemetry.failed(None, "upstream")
    assert value(telemetry, "errors_total", code_name="DuplicateKey", source="upstream") == 1
    assert value(telemetry, "errors_total", code_name="Unauthorized", source="proxy") == 1
    assert value(telemetry, "errors_total", code_name="other", source="upstream") == 2


def test_bytes_are_counted_by_side_and_direction(telemetry: Telemetry) -> None:
    telemetry.moved(1, 2, 4, 8)
    telemetry.moved(1, 2, 4, 8)
    assert value(telemetry, "received_bytes_total", side="client") == 2
    assert value(telemetry, "sent_bytes_total", side="upstream") == 4
    assert value(telemetry, "received_bytes_total", side="upstream") == 8
    assert value(telemetry, "sent_bytes_total", side="client") == 16


def test_decisions_about_sessions(telemetry: Telemetry) -> None:
    telemetry.control("killSessions", "done")
    telemetry.ruled("ownership", "refused")
    telemetry.rule_incident("ownership", "refused", "alice@app", ALICES, 7.0)
    telemetry.malformed("TypeMismatch")
    telemetry.killed("other", 3)
    telemetry.audit_written(3)
    telemetry.audit_lost(2)
    control = {"command": "killSessions", "decision": "done"}
    assert value(telemetry, "session_commands_total", **control) == 1
    refused = {"rule": "ownership", "decision": "refused"}
    assert value(telemetry, "rule_decisions_total", **refused) == 1
    assert value(telemetry, "malformed_session_fields_total", code_name="TypeMismatch") == 1
    assert value(telemetry, "sessions_killed_total", initiator="other") == 3
    assert value(telemetry, "audit_lines_total", result="written") == 3
    assert value(telemetry, "audit_lines_total", result="lost") == 2
    incident = Incident(
        "refused", "ownership", "alice@app", "shop", "PyMongo", ALICES.driver_version
    )
    assert telemetry.rule_incidents.items() == [(incident, 7.0)]


def test_the_latest_incidents_are_remembered(telemetry: Telemetry) -> None:
    for number in range(1000):
        telemetry.incident("shared", f"user{number}@app", ALICES, float(number))
    assert value(telemetry, "session_incidents_total", kind="shared") == 1000
    remembered = telemetry.session_incidents.items()
    assert len(remembered) == MOST_INCIDENTS
    assert remembered[-1] == (
        Incident("shared", "", "user999@app", "shop", "PyMongo", ALICES.driver_version),
        999.0,
    )


def test_what_may_happen_is_shown_before_it_happens(telemetry: Telemetry) -> None:
    for kind in SESSION_INCIDENTS:
        assert value(telemetry, "session_incidents_total", kind=kind) == 0
    for initiator in INITIATORS:
        assert value(telemetry, "sessions_killed_total", initiator=initiator) == 0
    assert value(telemetry, "rule_decisions_total", rule="ownership", decision="refused") == 0
    assert value(telemetry, "session_commands_total", command="endSessions", decision="failed") == 0
    assert value(telemetry, "audit_lines_total", result="lost") == 0


def test_the_loop_is_never_early(telemetry: Telemetry) -> None:
    telemetry.late(-0.001)
    telemetry.late(0.004)
    assert value(telemetry, "event_loop_lag_seconds_sum") == 0.004
    assert value(telemetry, "event_loop_lag_seconds_bucket", le="0.001") == 1


def test_when_the_configuration_was_read(telemetry: Telemetry) -> None:
    telemetry.reloaded(True, 5.0)
    telemetry.reloaded(False, 9.0)
    assert (telemetry.reload_worked, telemetry.reloaded_at) == (False, 5.0)
    telemetry.reloaded(True, 11.0)
    assert (telemetry.reload_worked, telemetry.reloaded_at) == (True, 11.0)


def test_series_stay_bounded_whatever_clients_and_code_send(telemetry: Telemetry) -> None:
    for command in (*COMMANDS, *(f"made up {number}" for number in range(1000))):
        telemetry.request(command)
        telemetry.replied(command, 0.001, True)
        telemetry.replied(command, 0.001, False)
    for number in range(15_000):
        telemetry.failed(number, "upstream")
        telemetry.failed(number, "proxy")
    for number in range(1000):
        telemetry.violation(f"kind {number}")
        telemetry.connection_closed(f"reason {number}")
        telemetry.rejected(f"reason {number}")
        telemetry.not_connected(f"reason {number}")
        telemetry.malformed(f"Location{number}")
        for decision in ("refused", "reported", "aborted", "failed"):
            telemetry.ruled(f"rule {number}", decision)
    assert len(samples(telemetry)) < 2_000
    assert value(telemetry, "protocol_violations_total", kind="kind 0") == 1
    assert value(telemetry, "protocol_violations_total", kind="other") == 960
    assert value(telemetry, "rule_decisions_total", rule="other", decision="failed") == 971


def test_what_is_present_comes_before_what_was_counted(telemetry: Telemetry) -> None:
    def present(page):
        telemetry.moved(5, 0, 0, 0)
        page.number("sessions", "Sessions.", 3)
        yield

    telemetry.present = present
    first = samples(telemetry)
    assert first[P + "sessions", frozenset()] == 3
    assert first[P + "received_bytes_total", frozenset({("side", "client")})] == 5
    assert value(telemetry, "received_bytes_total", side="client") == 10


def test_names_and_units_follow_the_conventions(telemetry: Telemetry) -> None:
    telemetry.request("find")
    families = list(text_string_to_metric_families(telemetry.page()[1].decode()))
    ours = [family for family in families if family.name.startswith(P)]
    assert len(ours) > 15
    assert any(family.name == "process_cpu_seconds" for family in families)
    for family in ours:
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        else:
            assert not family.name.endswith("_total")
        assert not re.search("_(milliseconds|ms|kb|mb)(_|$)", family.name)


@pytest.mark.parametrize(
    ("accept", "content_type", "last"),
    [
        ("", "text/plain", None),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text", b"# EOF\n"),
    ],
)
def test_the_page_is_in_the_format_asked_for(
    telemetry: Telemetry, accept: str, content_type: str, last: bytes | None
) -> None:
    kind, body = telemetry.page(accept)
    assert kind.startswith(content_type)
    assert body.endswith(last or b"\n")
    assert (b"# EOF" in body) == (last is not None)
