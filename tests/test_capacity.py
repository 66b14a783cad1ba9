"""That the tables of docs/capacity.md follow from the figures that it says are planned with."""

from __future__ import annotations

import math
import re
from pathlib import Path

TEXT = (Path(__file__).parent.parent / "docs" / "capacity.md").read_text()

#: Of a proxy: workers, connections.
WORKERS = 8
CONNECTIONS = 25_000


def rows(after: str) -> list[list[str]]:
    """The cells of the first table behind this heading."""
    lines = TEXT.partition(f"\n## {after}\n")[2].splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("|"))
    found = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def number(text: str) -> float:
    found = re.search(r"[\d.,]+", text)
    assert found is not None
    return float(found[0].replace(",", ""))


PLANNED = {name: number(planned) for name, _, planned in rows("What was measured")}


def planned(*words: str) -> float:
    [found] = [value for name, value in PLANNED.items() if all(word in name for word in words)]
    return found


def test_connections_take_what_was_measured_for_each():
    memory = [planned("memory", tls) for tls in ("no TLS", "both legs")]
    descriptors = planned("descriptors")
    table = rows("Connections")
    assert [number(row[0]) for row in table] == [10_000, 100_000, 1_000_000]
    for row in table:
        connections, *found = map(number, row)
        gib = [round(connections * each / 2**20, 1) for each in memory]
        assert found == [*gib, connections * descriptors, math.ceil(connections / CONNECTIONS)]


def test_requests_take_what_was_measured_for_each():
    share = planned("share of a core") / 100
    micros = [planned("each request", tls) for tls in ("no TLS", "both legs")]
    table = rows("Requests")
    assert [number(row[0]) for row in table] == [50_000, 500_000, 5_000_000]
    for row in table:
        requests, *found = map(number, row)
        cores = [math.ceil(requests * each / 1e6 / share) for each in micros]
        assert found == [*cores, *(math.ceil(each / WORKERS) for each in cores)]


def test_what_is_planned_is_no_less_than_what_was_measured():
    for name, measured, value in rows("What was measured"):
        highest = [float(one) for one in re.findall(r"\d+(?:\.\d+)?", measured.partition(",")[0])]
        assert not highest or number(value) >= max(highest), name
