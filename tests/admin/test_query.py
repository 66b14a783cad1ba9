from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.query import QueryError, Selecting, position, read_query
from proxy.listing import Listing, session_listing
from proxy.session.ids import LogicalSessionId
from proxy.session.store import SessionStore

Item = dict[str, Any]

ITEMS: Listing[Item] = Listing(
    name="items",
    texts={"name": lambda item: item["name"], "kind": lambda item: item.get("kind", "")},
    words=lambda item: [item.get("word", "")],
    states={"big": lambda item: item["size"] > 5, "small": lambda item: item["size"] <= 5},
    orders={"name": lambda item: item["name"], "size": lambda item: item["size"]},
    identity=lambda item: item["name"].encode(),
    default_order="name",
    ages={"min_age": lambda item, now: now - item["since"]},
)


def select(items: list[Item], **fields: str) -> tuple[list[str], str | None, int]:
    query = read_query(ITEMS, fields, 100.0)
    selecting = Selecting(query)
    for item in items:
        selecting.feed([item])
    found, ranks, more = selecting.result()
    after = position(query.sort, ranks[-1]) if more else None
    return [item["name"] for item in found], after, selecting.matched


def item(name: str, size: int = 1, since: float = 0.0, **more: Any) -> Item:
    return {"name": name, "size": size, "since": since, **more}


def test_a_session_is_found_as_incidents_say_it() -> None:
    store = SessionStore()
    session = store.use(LogicalSessionId(bytes(16), bytes(32)), 0.0)
    begun = ("00000000*", "0000000000000*", "00000000-0000-0*")
    for said in (str(session.key), str(session.key)[:36], "0" * 32, *begun):
        [test] = read_query(session_listing(store), {"session": said}, 0.0).tests
        assert test(session)


FEW = [
    item("ant", 1, kind="insect", word="six legs"),
    item("bee", 2, kind="insect", since=50.0),
    item("cat", 7, kind="mammal", since=99.0),
]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["ant", "bee", "cat"]),
        ({"name": "b*"}, ["bee"]),
        ({"kind": "insect", "name": "*e*"}, ["bee"]),
        ({"kind": ""}, []),
        ({"state": "big"}, ["cat"]),
        ({"state": "big,small"}, ["ant", "bee", "cat"]),
        ({"state": " big , small "}, ["ant", "bee", "cat"]),
        ({"min_age": "50"}, ["ant", "bee"]),
        ({"min_age": "0"}, ["ant", "bee", "cat"]),
        ({"min_age": "1e2"}, ["ant"]),
        ({"text": "INSECT"}, ["ant", "bee"]),
        ({"text": "legs"}, ["ant"]),
        ({"text": "*"}, ["ant", "bee", "cat"]),
        ({"text": ""}, ["ant", "bee", "cat"]),
        ({"text": "dog"}, []),
        ({"sort": "-size"}, ["cat", "bee", "ant"]),
        ({"sort": "size", "limit": "2"}, ["ant", "bee"]),
    ],
)
def test_filters_and_orders(fields: dict[str, str], names: list[str]) -> None:
    found, _, matched = select(FEW, **fields)
    assert found == names
    assert matched == len(names) or "limit" in fields


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"nmae": "x"}, "nmae: no such filter; there are name, kind, min_age, state, text"),
        ({"name": "x" * 1001}, "name: longer than 1000 characters"),
        ({"state": "huge"}, "state: 'huge' is none of big, small"),
        ({"state": ""}, "state: '' is none of"),
        ({"min_age": "x"}, "min_age: should be a number of seconds"),
        ({"min_age": "-1"}, "min_age:"),
        ({"min_age": "nan"}, "min_age:"),
        ({"min_age": "inf"}, "min_age:"),
        ({"sort": "colour"}, "sort: 'colour' is none of name, size"),
        ({"sort": "--name"}, "sort: '-name' is none"),
        *(
            ({"limit": value}, "limit: has to be a number from 1 to 5000")
            for value in ("0", "-1", "x", "", "5001", "1e3", "9" * 30, "²")
        ),
        *(
            ({"after": value}, "after:")
            for value in ("", "x", "é", "W10=", "bnVsbA==", "[" * 100_000)
        ),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(QueryError) as caught:
        select(FEW, **fields)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    "token",
    [
        ["-name", "a", "00"],
        ["name", None, "00"],
        ["name", ["a"], "00"],
        ["name", "a", "0"],
        ["name", "a", 7],
        ["name", 7, "00"],
    ],
)
def test_a_page_of_another_listing_is_refused(token: list[Any]) -> None:
    after = urlsafe_b64encode(json.dumps(token).encode()).decode()
    with pytest.raises(QueryError, match="after:"):
        select(FEW, after=after)


@given(
    st.lists(st.integers(0, 5), max_size=60),
    st.integers(1, 7),
    st.sampled_from(["name", "-name", "size", "-size"]),
)
def test_pages_together_are_the_whole_in_order(sizes: list[int], limit: int, sort: str) -> None:
    items = [item(f"{at:02}", size) for at, size in enumerate(sizes)]
    order = sort.removeprefix("-")
    whole = sorted(items, key=lambda one: (one[order], one["name"]), reverse=sort[0] == "-")
    seen: list[str] = []
    fields = {"limit": str(limit), "sort": sort}
    while True:
        names, after, matched = select(items, **fields)
        assert matched == len(items)
        assert len(names) == limit or after is None
        seen += names
        if after is None:
            break
        fields["after"] = after
    assert seen == [one["name"] for one in whole]


def test_what_is_kept_does_not_grow_with_what_is_looked_at() -> None:
    selecting = Selecting(read_query(ITEMS, {"limit": "3"}, 0.0))
    for start in range(0, 9_000, 1_000):
        selecting.feed(item(f"{n:05}") for n in range(start, start + 1_000))
        assert len(selecting._kept) <= 2_006
    assert [one["name"] for one in selecting.result()[0]] == ["00000", "00001", "00002"]


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"sort": "ownr"}, "; did you mean owner?"),
        ({"state": "idel"}, "; did you mean idle?"),
        ({"ownr": "x"}, "; did you mean owner?"),
        ({"zzz": "x"}, "text"),
        ({"cluster": "x"}, "cluster: there is but one, which has no name"),
    ],
)
def test_what_was_probably_meant_is_asked(fields: dict[str, str], hint: str) -> None:
    with pytest.raises(QueryError) as caught:
        read_query(session_listing(SessionStore()), fields, 0.0)
    assert str(caught.value).endswith(hint)
