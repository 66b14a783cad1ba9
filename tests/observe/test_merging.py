"""The pages of several processes as one's."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from proxy.observe.families import Declared, Page
from proxy.observe.merging import Family, Merged, plain

BOUNDS = (0.1, 1.0)


def page(requests: int, clients: int, limit: int, seconds: tuple[float, ...]) -> list[Family]:
    """What one process says."""
    made = Page()
    made.process = False
    declared = Declared()
    tally = declared.counter("requests_total", "Requests.", "command")
    tally[("find",)] += requests
    duration = declared.histogram("request_duration_seconds", "How long.", BOUNDS)
    for one in seconds:
        duration.observe(one)
    made.number("connections_limit", "At most.", limit)
    made.gauge("client_connections", "Open.", ("state",), {("idle",): clients})
    made += declared.families()
    return plain(made)


def rendered(merged: Merged) -> dict[str, float]:
    whole = Page()
    whole.process = False
    merged.onto(whole)
    text = whole.render()[1].decode()
    return {
        one.name.removeprefix("mongo_session_proxy_") + "".join(sorted(one.labels.values())): (
            one.value
        )
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_counts_add_up_and_limits_do_not() -> None:
    merged = Merged()
    merged.add(page(3, 2, 100, (0.05, 0.5)))
    merged.add(page(4, 1, 100, (5.0,)))
    assert rendered(merged) == {
        "requests_totalfind": 7,
        "client_connectionsidle": 3,
        "connections_limit": 100,
        "request_duration_seconds_bucket0.1": 1,
        "request_duration_seconds_bucket1.0": 2,
        "request_duration_seconds_bucket+Inf": 3,
        "request_duration_seconds_count": 3,
        "request_duration_seconds_sum": 5.55,
    }


def test_of_one_that_is_gone_its_counts_stay() -> None:
    lost = Merged()
    lost.add(page(3, 2, 100, (0.05,)), lasting=True)
    merged = Merged()
    merged.add(lost.families())
    merged.add(page(1, 1, 100, ()))
    found = rendered(merged)
    assert (found["requests_totalfind"], found["client_connectionsidle"]) == (4, 1)
    assert found["request_duration_seconds_count"] == 1
