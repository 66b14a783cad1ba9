"""What a reader of the page does is not undone by the next answer."""

from __future__ import annotations

from tests.browser.window import ROWS, Window


def focused(page: Window) -> str:
    return str(page.run("return document.activeElement.outerHTML"))


def test_a_row_keeps_its_focus_and_its_element(page: Window) -> None:
    page.run(f"const row = {ROWS}[3]; row.mark = 'mine'; row.focus()")
    session = page.run("return document.activeElement.row.session")
    page.refreshed()
    assert page.run("return document.activeElement.mark") == "mine"
    assert page.run("return document.activeElement.row.session") == session


def test_focus_stays_with_the_session_when_the_order_is_turned_round(page: Window) -> None:
    page.run("show('sessions', {}, 'session')")
    page.refreshed(1)
    page.run(f"{ROWS}[0].querySelector('button').focus()")
    session = page.run("return document.activeElement.row.session")
    page.run("show('sessions', {}, '-session')")
    page.wait(f"{ROWS}.at(-1).row.session === arguments[0]", session)
    assert page.run("return document.activeElement.row.session") == session
    sorted_by = f"{ROWS}.map((row) => row.row.session)"
    assert page.run(f"const s = {sorted_by}; return s.join() === [...s].sort().reverse().join()")


def test_selected_text_stays(page: Window) -> None:
    page.run(f"getSelection().selectAllChildren({ROWS}[0].cells[1])")
    name = page.run("return getSelection().toString()")
    assert "@admin" in name
    page.refreshed()
    assert page.run("return getSelection().toString()") == name


def test_places_stay_scrolled_to(page: Window) -> None:
    page.size(400, 500)
    try:
        page.run("pick(['Owner', 'Application', 'Driver', 'Client', 'Age', 'Session'])")
        page.refreshed(1)
        page.run("document.querySelector('.table').scrollLeft = 60; scrollTo(0, 300)")
        page.refreshed()
        where = "[document.querySelector('.table').scrollLeft, Math.round(scrollY)]"
        assert page.run(f"return {where}") == [60, 300]
    finally:
        page.run("pick(null)")
        page.size(1500, 950)


def test_views_headings_and_what_needs_attention_keep_the_focus(page: Window) -> None:
    for selector in ("#views a", "th button", "#attention a:not([hidden])", "#cards a"):
        page.wait("document.querySelector(arguments[0])", selector)
        page.run("document.querySelector(arguments[0]).focus()", selector)
        before = focused(page).partition(">")[0]
        page.refreshed(1)
        assert focused(page).partition(">")[0] == before, selector


def test_focus_goes_to_the_next_row_when_its_own_is_gone(page: Window) -> None:
    page.run(f"{ROWS}[1].focus(); const [one, , ...rest] = rowsShown; drawRows([one, ...rest])")
    assert page.run("return document.activeElement.row.session === rowsShown[1].session")


def test_what_is_typed_is_left_alone(page: Window) -> None:
    page.click("input[name=owner]")
    page.press("a", "l", "i")
    page.wait("location.hash.includes('owner=*ali*')")
    page.refreshed()
    assert page.run("return document.activeElement.value") == "ali"
    page.press("c")
    page.wait("location.hash.includes('owner=*alic*')")
