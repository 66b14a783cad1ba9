"""What ``top`` asks of the endpoint for the rows that are chosen."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.terminal import doing
from proxy.terminal.client import Endpoint
from proxy.terminal.places import place_of
from proxy.terminal.several import Several
from tests.terminal.rows import group, session, who
from tests.terminal.stand_in import standing_in
from tests.terminal.test_acting import CONNECTION, DONE, ID, SEEN, TRANSACTION
from tests.terminal.test_commands import PREVIEW

OPERATION = {"conn": 12, "command": "find", "seconds": 1.0, "upstream": "db:1"}
NAMED = {"session": ID, "uid": "ab" * 32}
OPEN = {"transaction": "in progress", "transaction_idle_seconds": 1.0, "transaction_seconds": 2.0}


@pytest.mark.parametrize(
    ("command", "view", "row", "body"),
    [
        ("kill", "sessions", session(), {"sessions": [NAMED]}),
        ("kill", "sessions", session(cluster="east"), {"cluster": "east", "sessions": [NAMED]}),
        ("kill", "cursors", who(session=ID), {"sessions": [{"session": ID}]}),
        ("kill", "incidents", who(session=ID), {"sessions": [{"session": ID}]}),
        ("kill", "groups", group(owner=""),
         {"patterns": [{"owner": "", "application": "shop", "driver": "PyMongo|c"}]}),
        ("abort", "sessions", session(**OPEN), NAMED),
        ("abort", "sessions", session(child_transactions=1), NAMED),
        ("abort", "transactions", TRANSACTION, {"session": ID, "txn_number": 7, "child": None}),
        ("interrupt", "sessions", session(operations=[OPERATION]), NAMED),
        ("interrupt", "connections", CONNECTION, {"conn": 12}),
        ("close", "connections", CONNECTION, {"conn": 12}),
    ],
)  # fmt: skip
def test_what_is_asked(command: str, view: str, row: dict[str, Any], body: dict[str, Any]) -> None:
    act = doing.act_on(command, view, [row])
    assert (act.command, act.body) == (command, body)
    assert command in doing.commands(view).values()


@pytest.mark.parametrize(
    ("command", "view", "rows", "why"),
    [
        ("abort", "sessions", [session()], "no transaction is open in session 11111111 of alice"),
        ("interrupt", "sessions", [session(owner="")], "nothing is in flight in .* of nobody"),
        ("interrupt", "connections", [CONNECTION | {"in_flight": 0}], "nothing is in flight on"),
        ("abort", "sessions", [session(**OPEN), session(**OPEN)], "one at a time"),
        ("kill", "sessions", [session(cluster="a"), session(cluster="b")], "several clusters"),
        ("kill", "groups", [group(application="a*")], "a name with a star"),
        ("kill", "incidents", [who(session=None)], "there is no session"),
        ("kill", "incidents", [who(session=ID, kind="foreign_uid")], "not of whoever did that"),
    ],
)
def test_what_cannot_be_done_is_said_without_asking(
    command: str, view: str, rows: list[dict[str, Any]], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        doing.act_on(command, view, rows)


def test_several_rows_are_killed_together_each_session_once() -> None:
    other = session(session="2" + ID[1:])
    act = doing.act_on("kill", "sessions", [session(), other, session()])
    assert [one["session"][:1] for one in act.body["sessions"]] == ["1", "2"]
    assert act.title == "Kill 2 sessions"


@pytest.mark.parametrize(
    ("action", "row", "view", "done"),
    [
        ("abort", TRANSACTION, "transactions", {"session": ID, "txn_number": 7, "child": None}),
        ("interrupt", CONNECTION, "connections", {"conn": 12, "operation": 55}),
        ("close", CONNECTION, "connections", {"conn": 12}),
    ],
)
def test_what_was_previewed_is_done_and_nothing_else(
    action: str, row: dict[str, Any], view: str, done: dict[str, Any]
) -> None:
    with standing_in({action: [SEEN[action], DONE[action]]}) as there:
        endpoint = Endpoint(there.address)
        seen = doing.preview(endpoint, doing.act_on(action, view, [row]))
        assert seen.act is not None
        assert any("alice@admin" in line for line in seen.text(80))
        text = doing.carry_out(endpoint, seen.act)
        asked = [body for _, _, _, body in there.asked]
    assert [body["dry_run"] for body in asked] == [True, False]
    assert asked[1] == done | {"dry_run": False}
    assert len(text(80)) == 1


def test_a_kill_of_many_says_first_how_many() -> None:
    rows = [session(session=f"{at:08}{ID[8:]}") for at in range(5)]
    with standing_in({"kill": PREVIEW | {"matched": 7, "reachable": 7, "sessions": rows}}) as there:
        act = doing.act_on("kill", "groups", [group()])
        seen = doing.preview(Endpoint(there.address), act)
    first, empty, heading, *_, last = seen.text(80)
    assert first.startswith("7 sessions with 1 command in flight")
    assert (empty, heading.split()[0], last) == ("", "OWNER", "… and 2 more")
    assert seen.question == "Kill these 7 sessions?"


def test_of_several_proxies_the_one_whose_row_it_is_is_asked() -> None:
    with standing_in({}) as other, standing_in({"close": SEEN["close"]}) as there:
        several = Several([place_of(other.address), place_of(there.address)], "t")
        act = doing.act_on("close", "connections", [CONNECTION | {"proxy": there.address}])
        doing.preview(several, act)
        assert (len(other.asked), len(there.asked)) == (0, 1)
        several.trust("u")
        doing.preview(several, act)
        assert there.asked[-1][2]["authorization"] == "Bearer u"
