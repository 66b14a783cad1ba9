from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from proxy.telemetry import BUCKETS, COMMANDS, Telemetry

P = "mongo_session_proxy_"


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry("1.2.3")


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(P + name, labels)


def series(telemetry: Telemetry) -> list[str]:
    return [line for line in telemetry.page()[1].decode().splitlines() if line[0] != "#"]


def test_build_info_names_the_version(telemetry: Telemetry) -> None:
    assert re.search(
        rf'^{P}build_info{{python="3[\d.]+",version="1\.2\.3"}} 1\.0$',
        telemetry.page()[1].decode(),
        re.MULTILINE,
    )


def test_connections_are_counted_open_and_over_time(telemetry: Telemetry) -> None:
    for _ in range(3):
        telemetry.connection_opened()
    telemetry.connection_closed("client closed")
    telemetry.rejected("connection limit")
    assert value(telemetry, "client_connections") == 2
    assert value(telemetry, "client_connections_accepted_total") == 3
    assert value(telemetry, "client_connections_closed_total", reason="client closed") == 1
    assert value(telemetry, "client_connections_rejected_total", reason="connection limit") == 1


def test_upstream_connections_are_counted(telemetry: Telemetry) -> None:
    telemetry.upstream_opened()
    telemetry.upstream_opened()
    telemetry.upstream_closed()
    assert value(telemetry, "upstream_connections") == 1


def test_known_commands_are_counted_by_name_and_the_rest_together(telemetry: Telemetry) -> None:
    for command in ("find", "find", "hello", "x", "y", "", "FIND"):
        telemetry.request(command)
    assert value(telemetry, "requests_total", command="find") == 2
    assert value(telemetry, "requests_total", command="hello") == 1
    assert value(telemetry, "requests_total", command="other") == 4


def test_series_stay_bounded_whatever_clients_and_code_send(telemetry: Telemetry) -> None:
    for command in COMMANDS:
        telemetry.request(command)
    for number in range(1000):
        telemetry.request(f"made up {number}")
        telemetry.violation(f"kind {number}")
        telemetry.connection_closed(f"reason {number}")
        telemetry.rejected(f"reason {number}")
    assert len(series(telemetry)) < 500
    assert value(telemetry, "protocol_violations_total", kind="kind 0") == 1
    assert value(telemetry, "protocol_violations_total", kind="other") == 950


def test_replies_are_counted_by_result_and_timed(telemetry: Telemetry) -> None:
    telemetry.replied(0.00002, True)
    telemetry.replied(0.003, True)
    telemetry.replied(100.0, False)
    assert value(telemetry, "replies_total", result="ok") == 2
    assert value(telemetry, "replies_total", result="error") == 1
    assert value(telemetry, "request_duration_seconds_count") == 3
    assert value(telemetry, "request_duration_seconds_bucket", le="2.5e-05") == 1
    assert value(telemetry, "request_duration_seconds_bucket", le="0.005") == 2
    assert value(telemetry, "request_duration_seconds_bucket", le="30.0") == 2
    assert tuple(sorted(BUCKETS)) == BUCKETS


def test_bytes_are_counted_by_side_and_direction(telemetry: Telemetry) -> None:
    telemetry.bytes_from_client(1)
    telemetry.bytes_to_upstream(2)
    telemetry.bytes_from_upstream(4)
    telemetry.bytes_to_client(8)
    assert value(telemetry, "received_bytes_total", side="client") == 1
    assert value(telemetry, "sent_bytes_total", side="upstream") == 2
    assert value(telemetry, "received_bytes_total", side="upstream") == 4
    assert value(telemetry, "sent_bytes_total", side="client") == 8


def test_decisions_about_sessions_are_counted(telemetry: Telemetry) -> None:
    telemetry.control("killSessions", "done")
    telemetry.policy("ownership", "refused")
    telemetry.malformed("TypeMismatch")
    telemetry.audit_written(3)
    telemetry.audit_lost(2)
    control = {"command": "killSessions", "result": "done"}
    assert value(telemetry, "session_commands_total", **control) == 1
    refused = {"rule": "ownership", "decision": "refused"}
    assert value(telemetry, "policy_decisions_total", **refused) == 1
    assert value(telemetry, "malformed_session_fields_total", code_name="TypeMismatch") == 1
    assert value(telemetry, "audit_lines_total") == 3
    assert value(telemetry, "audit_lines_lost_total") == 2


def test_gauges_read_state_when_scraped(telemetry: Telemetry) -> None:
    held = [1]
    telemetry.sessions.set_function(lambda: len(held))
    assert value(telemetry, "sessions") == 1
    held.append(2)
    assert value(telemetry, "sessions") == 2


def test_what_is_counted_on_demand_is_counted_before_each_page(telemetry: Telemetry) -> None:
    telemetry.on_page = lambda: telemetry.bytes_to_client(5)
    assert f'{P}sent_bytes_total{{side="client"}} 5.0' in series(telemetry)
    assert f'{P}sent_bytes_total{{side="client"}} 10.0' in series(telemetry)


def test_names_and_units_follow_the_conventions(telemetry: Telemetry) -> None:
    families = list(text_string_to_metric_families(telemetry.page()[1].decode()))
    ours = [family for family in families if family.name.startswith(P)]
    assert ours
    for family in ours:
        assert family.documentation.endswith(".")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        else:
            assert not family.name.endswith("_total")
        assert not re.search("_(milliseconds|ms|kb|mb)(_|$)", family.name)


def test_two_registries_share_nothing() -> None:
    one, other = Telemetry("1"), Telemetry("1")
    one.connection_opened()
    assert value(other, "client_connections") == 0


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
