from __future__ import annotations

import pytest

from proxy.admin.narrowing import narrowed
from proxy.admin.query import QueryError
from tests.admin.endpoint import FakeState, asking

ROWS = [
    {"user": "eve@app", "kind": "foreign_uid", "rule": None, "session": "1a2b - d=", "count": 3},
    {"user": "alice@app", "kind": "refused", "rule": "stmt_ids", "session": None, "cluster": "web"},
]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [0, 1]),
        ({"user": "EVE*"}, [0]),
        ({"user": "eve"}, []),
        ({"rule": ""}, [0]),
        ({"session": "1a2b"}, [0]),
        ({"session": "1a2b - other="}, [0]),
        ({"session": ""}, [1]),
        ({"cluster": "web", "text": "STMT"}, [1]),
        ({"text": "app", "kind": "refused"}, [1]),
        ({"text": "3"}, []),
    ],
)
def test_rows_that_match_all_of_it(query: dict[str, str], found: list[int]) -> None:
    assert narrowed("incidents", ROWS, query) == [ROWS[one] for one in found]


def test_what_there_was_before_an_incident_is_found_too() -> None:
    row = {**ROWS[0], "before": [{"session": "9f8e - d=", "reason": "too many"}]}
    for query in ({"text": "too m"}, {"session": "9f8e"}, {"session": "1a2b"}):
        assert narrowed("incidents", [row], query) == [row]


def test_a_filter_that_there_is_not_widens_nothing() -> None:
    with pytest.raises(QueryError, match=r"^usr: no such filter; there are cluster, kind, rule"):
        narrowed("incidents", ROWS, {"usr": "eve"})


async def test_pages_that_come_whole_are_narrowed() -> None:
    async with asking(FakeState()) as client:
        assert len((await client.rows("/upstream?role=primary"))["upstream"]) == 1
        assert (await client.rows("/upstream?role=arbiter"))["upstream"] == []
        for page in ("upstream", "rules", "incidents"):
            status, _, body = await client.ask(f"/{page}?limit=5")
            assert (status, body[:22]) == (400, b"limit: no such filter;")
