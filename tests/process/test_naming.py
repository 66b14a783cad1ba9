"""With several workers the same namespaces have names everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.listing.namespaces import namespace_rows
from proxy.observe.merging import Merged, Sample, plain
from proxy.observe.telemetry import Telemetry
from proxy.observe.top_namespaces import ROUND
from proxy.process.naming import Naming, WholeNaming, WorkersNaming
from proxy.wire.messages import read_request
from tests.build import command


class Together:
    """A supervisor's part of it, and workers' that hear and are heard at once."""

    def __init__(self, workers: int, most: int) -> None:
        self.telling = 0
        self.whole = WholeNaming(Telemetry("1"), most, self._decided)
        self.telemetries = [Telemetry("1") for _ in range(workers)]
        self.workers = [WorkersNaming(one, most, self.whole.hear) for one in self.telemetries]

    def _decided(self, names: Sequence[str]) -> None:
        self.telling += 1
        for worker in self.workers:
            worker.decided(names)

    def use(self, worker: int, collection: str, times: int = 1) -> None:
        use(self.telemetries[worker], collection, times)

    def round(self) -> None:
        for worker in self.workers:
            worker.news()
            worker.look()
        self.whole.look()

    def counted(self) -> dict[str, float]:
        merged = Merged()
        for telemetry in self.telemetries:
            merged.add(plain(telemetry.of_namespaces()))
        return counts(merged)


def counts(merged: Merged) -> dict[str, float]:
    found: dict[str, float] = {}
    for family in merged.families():
        for name, labels, value in family[3]:
            if name == "mongo_session_proxy_namespace_requests_total" and value:
                found[dict(labels)["namespace"]] = value
    return found


def use(telemetry: Telemetry, collection: str, times: int = 1) -> None:
    assert telemetry.namespaces is not None
    for _ in range(times):
        usage = telemetry.namespaces.usage(
            read_request(command({"find": collection, "$db": "shop"}))
        )
        usage.requests += 1
        telemetry.replied("find", 0.01, True, usage, 10)


def test_whoever_meets_it_first_it_has_a_name_in_all() -> None:
    several = Together(2, most=2)
    several.use(0, "a")
    several.use(1, "b")
    several.use(1, "c")
    assert several.counted() == {"other": 3}
    for worker in several.workers:
        worker.news()
    for worker in (0, 1):
        for collection in "abc":
            several.use(worker, collection)
    assert several.counted() == {"shop.a": 2, "shop.b": 2, "other": 3 + 2}


def test_use_is_added_up_before_a_place_is_given_away() -> None:
    several = Together(3, most=1)
    several.use(0, "old", 100)
    several.round()
    # In none of them alone it is used twice as much.
    for worker in range(3):
        several.use(worker, "new", 90)
    several.round()
    assert several.whole.top.names == ["shop.new"]
    before = several.counted()
    assert before == {"other": 370}
    several.use(2, "new")
    several.use(2, "old")
    assert several.counted() == {"shop.new": 1, "other": 371}
    lately, seconds = several.whole.top.lately()
    assert (lately["shop.new"]["query"][0], seconds) == (270, 2 * ROUND)


def test_nothing_is_told_where_nothing_is_new() -> None:
    several = Together(2, most=2)
    several.use(0, "a")
    for _ in range(5):
        several.round()
    assert several.telling == 1


def test_a_worker_that_is_gone_leaves_no_names_behind() -> None:
    worker = Telemetry("1")
    naming = Naming(worker, 2)
    use(worker, "a", 3)
    use(worker, "b", 4)
    gone = Merged()
    gone.add(plain(worker.of_namespaces()), lasting=True)
    gone.keep("namespace", naming.top.names, "another")
    gone.keep("namespace", ["shop.b"], "")
    assert counts(gone) == {"shop.b": 4, "other": 3}
    gone.keep("namespace", [], "")
    assert counts(gone) == {"other": 7}


async def test_off_nothing_is_done() -> None:
    naming = Naming(Telemetry("1"), 0)
    await naming.run()


def test_rows_say_how_much_how_slow_and_what_of_late() -> None:
    telemetry = Telemetry("1")
    naming = Naming(telemetry, 1)
    use(telemetry, "a", 20)
    use(telemetry, "b", 5)
    naming.look()
    samples: list[Sample] = [
        one for family in plain(telemetry.of_namespaces()) for one in family[3]
    ]
    rows: dict[str, Any] = {
        row["namespace"]: row for row in namespace_rows(samples, *naming.top.lately())
    }
    assert rows["shop.a"] == {
        "namespace": "shop.a",
        "kind": "query",
        "requests": 20,
        "errors": 0,
        "received_bytes": 0,
        "sent_bytes": 200,
        "seconds": 0.2,
        "mean_seconds": 0.01,
        "p95_seconds": 0.00975,
        "per_second": 2.0,
        "lately_errors": 0,
        "lately_mean_seconds": 0.01,
    }
    assert rows["other"]["requests"] == 5
    assert "per_second" not in rows["other"]
    assert namespace_rows([], {}, 0.0) == []
