"""What is counted by namespace, and which of them have names."""

from __future__ import annotations

import pytest
from bson import Int64

from proxy.observe.labels import COMMANDS
from proxy.observe.namespaces import KINDS_OF, Namespaces, added
from proxy.observe.telemetry import Telemetry
from proxy.observe.top_namespaces import ROUND, TopNamespaces
from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from tests.build import command, op_command, op_get_more, op_query
from tests.observe.test_gauges import Read

BOUNDS = (0.1, 1.0)


def counting(most: int = 3, *, alone: bool = True) -> tuple[Namespaces, TopNamespaces]:
    namespaces, top = Namespaces(most, BOUNDS), TopNamespaces(most)
    if alone:
        namespaces.admit = lambda name: top.admit((name,))
    return namespaces, top


def use(namespaces: Namespaces, message: bytes, times: int = 1, seconds: float = 0.5) -> None:
    for _ in range(times):
        usage = namespaces.usage(read_request(message))
        usage.requests += 1
        usage.received += len(message)
        usage.sent += 10
        usage.observe(seconds)


def find(collection: str, database: str = "shop", **more: object) -> bytes:
    return command({"find": collection, **more, "$db": database})


def shown(namespaces: Namespaces) -> dict[tuple[str, str], int]:
    return {key: usage.requests for key, usage in namespaces.counted().items() if usage.requests}


def test_requests_are_counted_by_namespace_and_kind() -> None:
    namespaces, _ = counting()
    for message in (
        find("a"),
        find("a"),
        command({"insert": "a", "$db": "shop"}),
        command({"getMore": Int64(1), "collection": "a", "$db": "shop"}),
        command({"getMore": Int64(2), "collection": "a", "$db": "shop"}),
        command({"getMore": Int64(2), "x": 1, "collection": "b", "$db": "shop"}),
        command({"getMore": Int64(2), "x": 1, "collection": "a", "$db": "shop"}),
        command({"commitTransaction": 1, "$db": "admin"}),
        command({"unheard-of": 1, "$db": "admin"}),
    ):
        use(namespaces, message)
    assert shown(namespaces) == {
        ("shop.a", "query"): 2,
        ("shop.a", "insert"): 1,
        ("shop.a", "getmore"): 3,
        ("shop.b", "getmore"): 1,
        ("admin.$cmd", "command"): 2,
    }
    counted = namespaces.counted()["shop.a", "query"]
    assert (counted.sent, counted.sum, counted.counts) == (20, 1.0, [0, 2, 0])


@pytest.mark.parametrize("times", [1, 3])
def test_every_form_of_a_request_counts_alike(times: int) -> None:
    namespaces, _ = counting()
    other = {"find": "a", "$db": "elsewhere"}
    for message in (
        find("a"),
        deflate(find("a"), 2),
        op_query("shop.$cmd", {"find": "a"}),
        # In this form the field says nothing.
        op_query("shop.$cmd", other),
        op_command("shop", "find", {"find": "a"}),
        op_query("shop.a", {}),
        op_get_more("shop.a", 7),
    ):
        use(namespaces, message, times)
    use(namespaces, command(other))
    assert shown(namespaces) == {
        ("shop.a", "query"): 7 * times,
        ("elsewhere.a", "query"): 1,
    }


@pytest.mark.parametrize("size", [100, 251, 252, 253, 255, 256, 260, 300, 4_000])
def test_names_of_any_length_count_apart(size: int) -> None:
    namespaces, _ = counting(9)
    for _ in range(3):
        for one in ("a" * size, "b" * size, "c" * (size - 1)):
            use(namespaces, find(one))
            use(namespaces, find("x", one))
    assert sorted(shown(namespaces).values()) == [3] * 6
    assert all(len(name) <= 100 for name, _ in shown(namespaces))


def test_beyond_the_bound_all_are_one() -> None:
    namespaces, top = counting(2)
    for number in range(50):
        use(namespaces, find(f"c{number}"), 2)
    assert shown(namespaces) == {
        ("shop.c0", "query"): 2,
        ("shop.c1", "query"): 2,
        ("other", "query"): 96,
    }
    assert top.names == ["shop.c0", "shop.c1"]
    assert namespaces.by_command()["find"].requests == 100


def test_whoever_is_used_far_more_gets_the_place_and_nothing_ever_falls() -> None:
    namespaces, top = counting(1)
    use(namespaces, find("old"), 10)
    use(namespaces, find("new"), 100)
    before = shown(namespaces)
    assert before == {("shop.old", "query"): 10, ("other", "query"): 100}
    assert top.look(namespaces.uses())
    namespaces.name(top.names)
    assert shown(namespaces) == {("other", "query"): 110}
    use(namespaces, find("new"), 5)
    use(namespaces, find("old"), 5)
    assert shown(namespaces) == {("shop.new", "query"): 5, ("other", "query"): 115}
    assert namespaces.uses() == {
        "shop.new": {"query": (5, 0, 2.5)},
        "shop.old": {"query": (5, 0, 2.5)},
    }


def test_what_was_in_flight_when_its_namespace_was_forgotten_is_counted() -> None:
    namespaces, _ = counting(1)
    use(namespaces, find("named"))
    usage = namespaces.usage(read_request(find("rare")))
    usage.requests += 1
    namespaces.uses()
    namespaces.uses()  # it was not used in between
    usage.observe(0.2)
    usage.sent += 1
    assert namespaces.by_command()["find"].counts == [0, 2, 0]
    namespaces.uses()
    assert namespaces.by_command()["find"].counts == [0, 2, 0]


def test_memory_is_bounded_whatever_is_named() -> None:
    namespaces, top = counting(3)
    for number in range(2_000):
        use(namespaces, command({f"x{number}": 1, "$db": "shop"}))
        use(namespaces, find(f"c{number}", f"db{number}"))
        if number % 50 == 0 and top.look(namespaces.uses()):
            namespaces.name(top.names)
    assert len(namespaces._spaces) <= 15
    assert len(namespaces._found) <= 15 * 40
    assert sum(one.requests for one in namespaces.by_command().values()) == 4_000
    assert len({name for name, _ in namespaces.counted()}) <= 4


def test_few_places_change_hands_in_a_day() -> None:
    """Each name that a metric ever had costs whoever keeps it."""
    top = TopNamespaces(5)
    names: set[str] = set()
    for number in range(int(86_400 / ROUND)):
        top.look({f"tenant{number}": {"query": (10_000 * (number + 1), 0, 1.0)}})
        names.update(top.names)
    assert 10 <= len(names) <= 5 + 5 + 6


def test_a_place_is_not_given_to_who_is_used_a_little_more() -> None:
    top = TopNamespaces(1)
    assert top.look({"a.a": {"query": (100, 0, 1.0)}})
    assert not top.look({"a.a": {"query": (100, 0, 1.0)}, "a.b": {"query": (300, 0, 1.0)}})
    assert top.look({"a.a": {"query": (100, 0, 1.0)}, "a.b": {"query": (600, 0, 1.0)}})
    assert top.names == ["a.b"]


def test_what_was_used_lately_is_of_a_minute() -> None:
    top = TopNamespaces(1)
    assert top.lately() == ({}, 0.0)
    for number in range(10):
        top.look({"a.a": {"query": (number, 1, 0.5)}})
    assert top.lately() == ({"a.a": {"query": (4 + 5 + 6 + 7 + 8 + 9, 6, 3.0)}}, 60.0)
    assert added([]) == {}


def test_kinds_are_of_commands_that_there_are() -> None:
    assert set(KINDS_OF) - {""} <= COMMANDS


# ------------------------------------------------------------------ as metrics


def test_the_metrics_of_all_requests_are_the_same_with_and_without() -> None:
    pages = []
    for most in (0, 1):
        telemetry = Telemetry("1")
        telemetry.name_namespaces(most)
        for collection, seconds, ok in (("a", 2**-9, True), ("b", 0.25, False), ("b", 40.0, True)):
            usage = None
            if telemetry.namespaces is not None:
                usage = telemetry.namespaces.usage(read_request(find(collection)))
                usage.requests += 1
            else:
                telemetry.request("find")
            telemetry.replied("find", seconds, ok, usage, 100)
        telemetry.request("hello")
        telemetry.replied("hello", 2**-10, True)
        # The history's samples count them, too.
        assert telemetry.totals()[0] == 4
        pages.append(Read(telemetry.page()))
    without, with_ = pages

    def others(read: Read) -> dict[object, float]:
        return {key: value for key, value in read.values.items() if "namespace" not in key[0]}

    both = others(with_), others(without)
    for read in both:
        for key in [key for key in read if str(key[0]).startswith("process_")]:
            del read[key]
    assert both[0] == both[1]
    assert without("namespace_requests_total", namespace="other", kind="query") is None
    b = {"namespace": "other", "kind": "query"}
    assert with_("namespace_requests_total", **b) == 3
    assert with_("namespace_errors_total", **b) == 1
    assert with_("namespace_sent_bytes_total", **b) == 300
    bounds = ("0.0005", "0.001", "0.0025", "0.1", "0.25", "2.5", "10.0", "+Inf")
    buckets = [
        with_("namespace_request_duration_seconds_bucket", **b, le=bound) for bound in bounds
    ]
    assert buckets == [0, 0, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("most", [0, 1])
def test_more_replies_to_one_request_are_replies_without_a_duration(most: int) -> None:
    telemetry = Telemetry("1")
    telemetry.name_namespaces(most)
    usage = None
    if telemetry.namespaces is not None:
        message = command({"getMore": Int64(1), "collection": "a", "$db": "shop"})
        usage = telemetry.namespaces.usage(read_request(message))
        usage.requests += 1
    else:
        telemetry.request("getMore")
    telemetry.replied("getMore", 0.25, True, usage, 100)
    telemetry.replied_again("getMore", 3_600.0, True, usage, 200)
    telemetry.replied_again("getMore", 7_200.0, False, usage, 30)
    read = Read(telemetry.page())
    assert read("request_duration_seconds_count") == 1
    assert read("request_duration_seconds_sum") == 0.25
    replies = {one: read("replies_total", command="getMore", result=one) for one in ("ok", "error")}
    assert replies == {"ok": 2, "error": 1}
    if most:
        whose = {"namespace": "other", "kind": "getmore"}
        assert read("namespace_request_duration_seconds_count", **whose) == 1
        assert read("namespace_errors_total", **whose) == 1
        assert read("namespace_sent_bytes_total", **whose) == 330
