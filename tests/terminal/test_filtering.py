from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.summary import GROUPS
from proxy.listing import CONNECTIONS, CURSORS, TRANSACTIONS, session_listing
from proxy.listing.namespaces import NAMESPACES
from proxy.session.store import SessionStore
from proxy.terminal import filtering
from proxy.terminal.arguments import STATES
from proxy.terminal.client import Trouble
from proxy.terminal.views import VIEWS


@pytest.mark.parametrize(
    ("line", "filters"),
    [
        ("", {}),
        ("shop", {"text": "shop"}),
        ("state=transaction,idle owner=alice@admin",
         {"state": "transaction,idle", "owner": "alice@admin"}),
        ('application="my shop*" two words', {"application": "my shop*", "text": "two words"}),
        ("min-age=5m Min_Idle=3", {"min_age": "5m", "min_idle": "3"}),
        ('"a=b"', {"text": "a=b"}),
        ("owner=", {"owner": ""}),
        ('owner="" "', {"owner": "", "text": '"'}),
        ("application=a=b", {"application": "a=b"}),
        ("session=1a2b", {"session": "1a2b*"}),
        ("session=*2b", {"session": "*2b"}),
    ],
)  # fmt: skip
def test_words_are_filters(line: str, filters: dict[str, str]) -> None:
    assert filtering.read(line) == filters
    assert filtering.read(filtering.written(filters)) == filters


_VALUE = st.text(st.characters(exclude_characters='"'), max_size=8)
_TEXT = st.text(st.characters(exclude_characters='"'), min_size=1, max_size=8)


@given(st.dictionaries(st.sampled_from(["owner", "state", "min_age"]), _VALUE), _TEXT | st.none())
def test_what_is_written_is_read(filters: dict[str, str], text: str | None) -> None:
    if text is not None:
        filters = {**filters, "text": text}
    assert filtering.read(filtering.written(filters)) == filters


def test_a_wrong_name_is_said() -> None:
    with pytest.raises(ValueError, match="aplication: no such filter; did you mean application"):
        filtering.read("aplication=x")


def test_filters_go_along_to_another_listing_as_far_as_it_has_them() -> None:
    given = {"owner": "a", "state": "transaction", "text": "x", "namespace": "n"}
    assert filtering.fitting(given, "connections") == {"user": "a", "text": "x"}
    assert filtering.fitting(given, "cursors") == given
    assert filtering.fitting({"user": "a"}, "groups") == {"owner": "a"}


def test_names_and_states_are_the_endpoints() -> None:
    sessions = session_listing(SessionStore())
    listings = (sessions, GROUPS, TRANSACTIONS, CURSORS, CONNECTIONS, NAMESPACES)
    known = {one.name: one for one in listings}
    for name, listing in known.items():
        ours = set(filtering.FILTERS[name]) - {"text", "state", "cluster"}
        assert ours <= {*listing.texts, *listing.ages}
        assert STATES[name] == tuple(listing.states)
    assert filtering.FILTERS.keys() == STATES.keys() == VIEWS.keys()


def test_incidents_are_narrowed_here() -> None:
    rows = [{"user": "alice@admin", "rule": "x.y", "client": None}, {"user": "bob", "count": 3}]
    for filters, found in (
        ({"user": "ALICE*"}, [0]), ({"text": "x.Y"}, [0]), ({"text": "3"}, [1]), ({}, [0, 1]),
        ({"user": "al"}, []), ({"client": ""}, [0, 1]),
    ):  # fmt: skip
        assert filtering.matching(rows, filters) == [rows[at] for at in found]


def test_what_there_was_before_an_incident_is_found_too() -> None:
    before = {"reason": "too many", "session": "1a2b3c4d-0000 - digest="}
    rows = [{"reason": "other", "session": "9f8e-11 - digest=", "before": [before]}, {"rule": "x"}]
    for filters, found in (
        ({"session": "1a2b*"}, [0]), ({"session": "9f8e-11"}, [0]), ({"session": "9f8e"}, []),
        ({"text": "TOO m"}, [0]), ({"rule": "x"}, [1]), ({"session": ""}, [1]),
    ):  # fmt: skip
        assert filtering.matching(rows, filters) == [rows[at] for at in found]


def test_a_cluster_that_there_is_not_is_no_empty_listing() -> None:
    summary = {"clusters": [{"cluster": "shop"}, {"cluster": "web"}]}
    for known in ("shop", "WEB", "*", "s*"):
        filtering.has_cluster(summary, known)
    filtering.has_cluster({}, "shop")
    with pytest.raises(Trouble, match=r"no such cluster; there are shop, web; did you mean shop\?"):
        filtering.has_cluster(summary, "shp")
