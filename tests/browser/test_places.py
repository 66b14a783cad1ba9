"""The address of the page is that of the view."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.browser.window import ROWS, Window

ALERTS = Path(__file__).parents[2] / "grafana" / "alerts.yml"


@pytest.mark.parametrize(
    ("place", "word"),
    [
        ("#transactions?sort=-idle", "monthly-reports"),
        ("#sessions?owner=alice@admin&application=stock*", "count"),
        ("#sessions?state=operation", "stock-keeper"),
        ("#cursors?namespace=shop.orders", "shop-frontend"),
        ("#connections?user=bob@admin", "leaky-importer"),
        ("#connections?state=monitor", "monitor"),
        ("#upstream", "primary"),
        ("#incidents?text=foreign", "mallory@admin"),
        ("#rules", "session_budget"),
    ],
)
def test_a_link_leads_to_a_view(page: Window, url: str, place: str, word: str) -> None:
    page.start(url + place)
    page.wait("document.querySelector('tbody').innerText.includes(arguments[0])", word)
    assert page.run("return location.hash") == place


def test_alerts_lead_to_views_that_there_are(page: Window) -> None:
    links = re.findall(r'page_url: "http://[^/]+/(#[^"]+)"', ALERTS.read_text(encoding="utf-8"))
    assert len(links) > 8
    for place in links:
        page.run("location.hash = arguments[0]", place)
        page.wait("location.hash === arguments[0]", place)
        page.refreshed(1)
        assert not page.text(".empty").startswith("This cannot be shown"), place
        assert page.run("return location.hash.slice(1).split('?')[0] === view.name"), place


def test_what_a_link_asks_for_is_seen_and_can_be_cleared(page: Window, url: str) -> None:
    page.start(url + "#sessions?owner=alice@admin&application=*shop*&min_age=0")
    field = "document.querySelector('[name={}]').value"
    for name, value in (("owner", '"alice@admin"'), ("application", "shop"), ("min_age", "0")):
        assert page.run(f"return {field.format(name)}") == value
    page.click("#clear")
    page.wait(f"{ROWS}.length > 5")
    assert page.run("return location.hash") == "#sessions"


def test_views_are_steps_that_one_can_go_back(page: Window) -> None:
    page.click("#views a[href='#groups']")
    page.wait("document.querySelector('[aria-current=page]').innerText === 'Groups'")
    page.wait(f"{ROWS}.length > 0")
    page.click("tbody a")
    page.wait("location.hash.startsWith('#sessions?owner=')")
    page.back()
    page.wait("document.querySelector('[aria-current=page]').innerText === 'Groups'")
    assert page.run("return document.title").endswith("Groups · mongo-session-proxy")


@pytest.mark.parametrize(
    "name", ["groups", "transactions", "cursors", "connections", "namespaces", "incidents"]
)
def test_details_lead_to_other_views(page: Window, name: str) -> None:
    page.run("show(arguments[0], {})", name)
    page.wait("rowsShown.length > 0")
    for at in range(page.run("return VIEWS[view.name].links(rowsShown[0]).length")):
        page.run("show(arguments[0], {})", name)
        page.wait("view.name === arguments[0] && rowsShown.length > 0", name)
        page.run(f"{ROWS}[0].focus()")
        page.press("Enter")
        page.run("document.querySelectorAll('#ways a')[arguments[0]].focus()", at)
        page.press("Enter")
        page.wait("location.hash.includes('?')")
        page.refreshed(1)
        assert page.text("#status") == "ready"
        if page.run("return view.name") != name:
            assert page.run("return document.querySelector('#detail').hidden")
            here = page.text("#views [aria-current]")
            assert page.run("return document.activeElement.innerText") == here
    assert [text for text in page.complaints() if "[DOM]" not in text] == []


@pytest.mark.parametrize(
    ("name", "called"), [("rules", "ownership"), ("namespaces", "shop.orders · ")]
)
def test_details_of_what_is_nobodys_have_its_name(page: Window, name: str, called: str) -> None:
    page.run("show(arguments[0], {})", name)
    page.wait("rowsShown.length > 0")
    page.run(f"{ROWS}.find(r => r.innerText.includes(arguments[0].slice(0, 9))).click()", called)
    assert called in page.text("#detail h2")


def test_what_comes_whole_is_sorted_too(page: Window, url: str) -> None:
    page.start(url + "#incidents?sort=-times")
    rows = [{"user": name, "count": count} for name, count in (("a", 2), ("b", 11), ("c", 9))]
    sorted_as = "return rowsIn(VIEWS.incidents, {incidents: arguments[0]}).map((one) => one.user)"
    assert page.run(sorted_as, rows) == ["b", "c", "a"]
    assert page.run("return document.querySelector('[aria-sort]').innerText") == "Times"
    page.click("[aria-sort] button")
    page.wait("location.hash === '#incidents?sort=times'")
    assert page.run(sorted_as, rows) == ["a", "c", "b"]
    page.run("show('incidents', {})")
    page.wait("view.sort === ''")
    assert page.run(sorted_as, rows) == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["incidents", "rules", "upstream"])
def test_beside_it_is_what_the_history_has_of_it(page: Window, name: str) -> None:
    page.run("show(arguments[0], {})", name)
    page.wait("!document.querySelector('#beside').hidden")
    page.run("document.querySelector('#beside').focus()")
    page.press("Enter")
    page.wait("view.name === 'history' && past.plots.length === 4")
    # It is one of those that there are to choose from.
    page.wait("document.querySelector('#past-event').selectedIndex > 0")
    assert page.run("return document.activeElement.innerText") == "History"


def test_the_order_is_part_of_it(page: Window) -> None:
    page.run(
        "[...document.querySelectorAll('th button')].find((b) => b.textContent === 'Age').click()"
    )
    page.wait("location.hash === '#sessions?sort=-age'")
    page.wait("document.querySelector('th[aria-sort=descending]').innerText === 'Age'")


def test_what_cannot_be_asked_for_is_said(page: Window, url: str) -> None:
    page.open("about:blank")
    page.open(url + "#sessions?shoe_size=44")
    page.wait("document.querySelector('.empty').innerText.includes('shoe_size: no such filter')")
    assert page.text("#status") == "ready"
    page.open("about:blank")
    page.start(url + "#nowhere")
    assert page.text("[aria-current=page]") == "Sessions"


def test_names_may_hold_anything(page: Window) -> None:
    strange = "a&b=c#d?e%41+ f\u00e9"
    page.run("show('sessions', {text: arguments[0]})", strange)
    page.wait("!document.querySelector('.empty').hidden")
    assert page.run("return view.filters") == {"text": strange}
