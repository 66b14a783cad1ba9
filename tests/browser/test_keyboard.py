"""Everything that the page can do is done without a mouse, and is told to those who do not see."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.window import ROWS, Window
from tests.needs import lacking

AXE = Path(__file__).parents[1] / "clients/.build/axe/node_modules/axe-core/axe.min.js"

FOCUSED = "document.activeElement"


def test_rows_are_walked_chosen_and_looked_into(page: Window) -> None:
    page.run(f"{ROWS}[0].focus()")
    page.press("ArrowDown", "ArrowDown", "ArrowUp")
    assert page.run(f"return {ROWS}.indexOf({FOCUSED})") == 1
    page.press("Space")
    assert page.text("#kill") == "Kill 1 chosen session…"
    page.press("Enter")
    assert page.run(f"return {FOCUSED}.id") == "detail-title"
    session = page.run(f"return {ROWS}[1].row.session")
    assert session in page.text("#facts")
    page.press("Escape")
    assert page.run(f"return {ROWS}.indexOf({FOCUSED})") == 1
    assert page.run("return document.querySelector('#detail').hidden")
    page.press("End")
    assert page.run(f"return {FOCUSED} === {ROWS}.at(-1)")


def test_an_arrow_leads_to_the_rows(page: Window) -> None:
    page.press("ArrowDown")
    assert page.run(f"return {ROWS}.indexOf({FOCUSED})") == 0
    page.press("/", "ArrowDown", "ArrowDown")
    assert page.run(f"return {ROWS}.indexOf({FOCUSED})") == 1
    for above in ("#views a", "#cards a", "#attention a"):
        page.run("document.querySelector(arguments[0]).focus()", above)
        page.press("ArrowDown")
        assert page.run(f"return {ROWS}.indexOf({FOCUSED})") == 1, above


def test_one_row_at_a_time_is_in_the_order_of_tab(page: Window) -> None:
    inside = "[...document.querySelectorAll('tbody :is(tr, input, button)')]"
    assert page.run(f"return {inside}.filter((one) => one.tabIndex === 0).length") == 3
    page.run(f"{ROWS}[4].focus()")
    page.press("Tab")
    assert page.run(f"return {FOCUSED}.matches('input') && {FOCUSED}.closest('tr') === {ROWS}[4]")
    page.press("Tab")
    assert page.run(f"return {FOCUSED}.innerText") == "Kill…"
    page.press("Tab")
    assert page.run(f"return {FOCUSED}.closest('tbody') === null")


def test_a_session_is_killed_from_its_row(page: Window) -> None:
    page.run(f"{ROWS}[2].focus()")
    session = page.run(f"return {ROWS}[2].row.session")
    page.press("Tab", "Tab", "Enter")
    page.wait("document.querySelector('#act-dialog').open")
    page.wait("document.querySelector('#act-list').innerText.includes(arguments[0])", session[:8])
    page.press("Escape")
    page.wait("!document.querySelector('#act-dialog').open")
    assert page.run(f"return {FOCUSED}.innerText") == "Kill…"


def test_single_keys_search_and_help(page: Window) -> None:
    page.press("/")
    assert page.run(f"return {FOCUSED}.name") == "text"
    page.press("?")
    page.wait("document.querySelector('[name=text]').value === '?'")
    page.run("document.activeElement.blur()")
    page.press("?")
    page.wait("document.querySelector('#help-dialog').open")
    page.press("Escape")


def test_columns_are_chosen_and_remembered(page: Window, url: str) -> None:
    page.run("document.querySelector('#columns summary').focus()")
    page.press("Enter", "Tab", "Tab", "Space")
    page.wait("!document.querySelector('thead').innerText.includes('Application')")
    page.press("Escape")
    assert page.run(f"return {FOCUSED}.innerText") == "Columns"
    page.start(url)
    assert "Application" not in page.text("thead")
    page.run("pick(null)")
    page.wait("document.querySelector('thead').innerText.includes('Application')")


OPENED = {
    "a row": f"{ROWS}[0].click()",
    "a kill": "document.querySelector('#kill').click()",
    "the token": "document.querySelector('#key').click()",
    "the help": "document.querySelector('#help').click()",
    "the columns": "document.querySelector('#columns').open = true",
}


@pytest.fixture
def axe() -> Path:
    return AXE if AXE.exists() else lacking("axe-core")


def test_there_are_no_barriers_in_a_view(page: Window, axe: Path) -> None:
    for name in page.run("return Object.keys(VIEWS)"):
        page.run("show(arguments[0], {})", name)
        page.wait("document.querySelector('tbody').innerText || !rowsShown.length")
        assert page.barriers(axe) == [], name


@pytest.mark.parametrize("width", [400, 800])
def test_every_view_can_be_seen_to_be_there(page: Window, axe: Path, width: int) -> None:
    page.size(width, 900)
    try:
        page.run("show('incidents', {})")
        page.wait("rowsShown.length > 0")
        out = """return [document.documentElement, ...document.querySelectorAll('#views a')]
            .filter((one) => one.getBoundingClientRect().right > innerWidth).length"""
        assert page.run(out) == 0
        assert page.barriers(axe) == []
    finally:
        page.size(1500, 950)


@pytest.mark.parametrize(("width", "dark"), [(400, True), (1280, False)])
def test_there_are_no_barriers_in_what_opens(
    page: Window, axe: Path, url: str, width: int, dark: bool
) -> None:
    page.size(width, 900)
    page.in_the_dark(dark)
    try:
        for opened, script in OPENED.items():
            page.start(url)
            page.run(script)
            assert page.barriers(axe) == [], opened
    finally:
        page.size(1500, 950)
        page.in_the_dark(False)
