"""The web page, tried in a real browser in front of real drivers' sessions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.browser.scene import BUDGET, TOKEN, scene
from tests.browser.window import ROWS, Window


def rows(page: Window, count: str) -> str:
    """The table's text once it has so many rows."""
    page.wait(f"{ROWS}.length {count}")
    return page.text("tbody")


def test_sessions_are_there_without_a_word_of_explanation(page: Window) -> None:
    table = rows(page, f">= {BUDGET}")
    for word in ("alice@admin", "shop-frontend", "leaky-importer", "PyMongo", "127.0.0.1"):
        assert word in table
    # It is under way when the scene is set, or a moment later.
    page.wait(f"{ROWS}[1].innerText.includes('count')")
    first, second = page.run(f"return {ROWS}.slice(0, 2).map((row) => row.innerText)")
    assert "monthly-reports" in first
    assert "open" in first
    assert "count" in second
    heads = page.text("thead")
    for head in ("Owner", "Application", "Driver", "Age", "Idle", "Transaction", "Cursors"):
        assert head in heads
    assert "Transactions\n1\n" in page.text("#cards")
    assert page.text("#status") == "ready"


def test_what_needs_attention_is_named_by_user_application_and_driver(page: Window) -> None:
    page.wait("document.querySelectorAll('#attention li').length >= 2")
    attention = page.text("#attention")
    assert "bob@admin · leaky-importer · PyMongo" in attention
    assert "90 % of the session budget" in attention
    assert "mallory@admin" in attention
    assert "tried a session of " in attention
    # Who did it, and not whose session that was.
    theft = """{kind: "foreign_uid", user: "eve@app", owner: "alice@app", application: "shop",
        driver: "PyMongo", rule: null}"""
    said = page.run(f"return whose({theft}) + ': ' + incident({theft})")
    assert said == "eve@app · shop · PyMongo: tried a session of alice@app (foreign uid)"


def test_one_line_for_each_says_if_there_is_more_of_theirs(page: Window) -> None:
    eve = {"user": "eve@app", "application": "shop", "driver": "PyMongo", "age_seconds": 5}
    refused = [{**eve, "kind": "refused", "rule": rule} for rule in ("stmt_ids", "kill_guard")]
    bob = {**eve, "user": "bob@app", "kind": "shared", "rule": None}
    found = attention(page, [], [], [*refused, bob])
    assert [one["text"] for one in found] == [
        "bob@app · shop · PyMongo: used one session from two client processes, 5.0 s ago.",
        "eve@app · shop · PyMongo: refused by the rule stmt_ids, 5.0 s ago; 1 other incident of"
        " theirs.",
    ]
    assert [one["href"] for one in found] == ["#incidents?text=bob@app", "#incidents?text=eve@app"]


def attention(page: Window, groups: Any, transactions: Any, incidents: Any) -> Any:
    state = {"ready": True, "sessions": 0, "sessions_limit": 9}
    crowds = {"sessions": [], "budget_used": groups}
    given = ", ".join(json.dumps(one) for one in (state, crowds, transactions, incidents, []))
    return page.run(f"return attention({given})")


def test_what_somebody_has_several_of_is_said_once(page: Window) -> None:
    eve = {"owner": "eve@app", "driver": "PyMongo"}
    budget = {"budget_used": 1.0, "used": 40, "limit": 40, "bound": "per_user"}
    groups = [{**eve, **budget, "application": name} for name in ("shop", "export")]
    late = [{**eve, "application": "shop", "session": str(n), "idle_seconds": 60} for n in (1, 2)]
    found = attention(page, groups, late, [])
    assert [(one["text"], one["href"]) for one in found] == [
        (
            "eve@app · shop · PyMongo and 1 other group: 100 % of the session budget used"
            " (40 of 40, per_user).",
            "#groups?owner=eve@app",
        ),
        (
            "eve@app · shop · PyMongo: 2 transactions have been idle, the longest for 1 m 0 s."
            " They hold locks and old data until they end.",
            "#transactions?owner=eve@app&application=shop&sort=-idle",
        ),
    ]


def test_who_is_down_is_said_with_its_time(page: Window) -> None:
    down = {"upstream": "db2:27017", "up": False, "since_seconds": 7200, "problem": "refused"}
    state = {"ready": True, "sessions": 0, "sessions_limit": 9}
    found = page.run(
        "return attention(arguments[0], {sessions: [], budget_used: []}, [], [], [arguments[1]])",
        state,
        down,
    )
    begin = page.run("return since(7200)")
    assert [one["text"] for one in found] == [
        f"db2:27017 has been down since {begin}, for 2 h 0 m: refused."
    ]


def test_all_that_needs_attention_can_be_seen(page: Window) -> None:
    page.run(
        """clearTimeout(timer); turn++;
        needed = [...Array(9)].map((_, at) => ({level: "bad", key: String(at),
        text: "Problem " + at, label: "Rules", href: "#rules"})); drawNeeded()"""
    )
    assert "And 4 more." in page.text("#attention")
    assert "Problem 5" not in page.text("#attention")
    page.run("document.querySelector('#attention button').focus()")
    page.press("Enter")
    assert "Problem 8" in page.text("#attention")
    assert page.run("return document.activeElement.innerText") == "Fewer"
    page.press("Enter")
    assert "Problem 8" not in page.text("#attention")


def test_a_transaction_says_what_it_waits_for(page: Window) -> None:
    page.run("show('transactions', {})")
    assert "its client" in rows(page, ">= 1")
    busy = {"operations": [{"command": "insert", "seconds": 4}]}
    cell = "VIEWS.transactions.columns.find((one) => one.title === 'Waits for').cell(arguments[0])"
    assert page.run(f"return {cell}", busy) == "upstream: insert 4.0 s"


def test_a_rule_leads_to_its_incidents_and_says_its_bounds_in_words(page: Window) -> None:
    bound = {"users": [], "applications": ["etl-*"], "per_user": 0, "remembered": None}
    given = {"per_user": 40, "operators": ["root@admin"], "name": "", "bounds": [bound]}
    said = page.run("return settings(arguments[0])", {**given, "bounds": [bound]})
    assert said == (
        'per_user = 40, operators = root@admin, name = "";'
        " bounds[0] for applications etl-*: per_user = 0"
    )
    # One's own rule may have other bounds.
    assert page.run("return settings(arguments[0])", {"bounds": [1]}) == "bounds = [1]"
    own = {"rule": "some.where:ReadOnly", "name": "read_only"}
    [[_, incidents], [_, history]] = page.run("return VIEWS.rules.links(arguments[0])", own)
    assert incidents == "#incidents?text=read_only"
    assert history == "#history?text=read_only&since=1d"


def test_somebody_leads_to_what_they_did(page: Window) -> None:
    row = {"owner": "eve@app", "application": "shop"}
    ways = dict(page.run("return theirs(arguments[0])", row))
    assert ways["Their incidents"] == "#incidents?text=eve@app"
    assert ways["Their history"] == "#history?user=eve@app&application=shop"
    assert "Their history" not in dict(page.run("return theirs({owner: '', application: ''})"))


def test_hostile_names_are_text(page: Window) -> None:
    assert "<img src=x onerror=alert(1)>" in rows(page, "> 1")
    assert page.run("return document.querySelectorAll('main img, main script').length") == 0


def test_the_page_asks_nobody_else_and_is_refused_nothing(page: Window) -> None:
    rows(page, "> 1")
    asked = page.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert asked
    origin = page.run("return location.origin")
    assert all(one.startswith(origin) for one in asked)
    assert [text for text in page.complaints() if "[DOM]" not in text] == []
    refused = page.run(
        "try { document.body.innerHTML = '<b>'; return 'done' } catch (e) { return e.name }"
    )
    assert refused == "TypeError"


def test_filters_narrow_and_headings_sort(page: Window) -> None:
    page.type("input[name=application]", "shop")
    page.wait(f"{ROWS}.length === 2")
    assert "alice@admin" in page.text("tbody")
    page.type("input[name=application]", "nobody-has-this")
    page.wait("!document.querySelector('.empty').hidden")
    page.click("#clear")
    rows(page, f">= {BUDGET}")
    page.run(
        "[...document.querySelectorAll('th button')].find((b) => b.textContent === 'Owner').click()"
    )
    page.wait(f"{ROWS}[0].innerText.includes('alice@admin')")
    page.wait("document.querySelector('th[aria-sort=ascending]').innerText === 'Owner'")


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("groups", "leaky-importer"),
        ("transactions", "monthly-reports"),
        ("cursors", "shop.orders"),
        ("connections", "stock-keeper"),
        ("incidents", "mallory@admin"),
        ("namespaces", "shop.orders"),
        ("rules", "session_budget"),
    ],
)
def test_the_other_views_show_theirs(page: Window, name: str, word: str) -> None:
    page.run("show(arguments[0], {})", name)
    page.wait("document.querySelector('tbody').innerText.includes(arguments[0])", word)


def test_in_the_dark_the_page_is_dark(page: Window) -> None:
    def background() -> str:
        return str(page.run("return getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.in_the_dark(True)
    dark = background()
    page.in_the_dark(False)
    assert dark != light
    assert background() == light


def test_elsewhere_than_on_loopback_nothing_is_seen_without_the_token(window: Window) -> None:
    with scene("127.0.0.1:0", "0.0.0.0:0") as pages:
        port = pages.split("/")[2].rpartition(":")[2]
        window.open(f"http://127.0.0.1:{port}/")
        window.wait("document.querySelector('#token-dialog').open")
        assert window.text("#status") == "a token is needed"
        assert window.run(f"return {ROWS}.length") == 0
        window.press("Escape")
        window.refreshed()
        assert not window.run("return document.querySelector('#token-dialog').open")
        window.click("#key")
        window.type("#token", TOKEN)
        window.click("#token-dialog button[value=use]")
        window.wait(f"{ROWS}.length > 0")
        assert window.text("#status") == "ready"
