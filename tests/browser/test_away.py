"""What the page says when it is not answered, or not let in."""

from __future__ import annotations

from tests.browser.scene import TOKEN, scene
from tests.browser.window import ROWS, Window


def test_what_is_old_is_greyed_and_has_its_time(window: Window) -> None:
    with scene() as pages:
        window.start(pages)
        window.run("location.hash = '#history'")
        window.wait("document.querySelectorAll('#past-rows tr').length > 0")
        window.run("location.hash = '#sessions'")
        window.wait("rowsShown.length > 0")
    window.refreshed(1)
    assert window.text("#status") == "the proxy does not answer"
    assert "what is shown is of " in window.text("#about")
    assert window.run(f"return {ROWS}.length") > 0
    window.wait("getComputedStyle(document.querySelector('#both')).opacity !== '1'")  # in a moment
    opacity = "getComputedStyle(document.querySelector(arguments[0])).opacity"
    for old in ("#past-lines", "#own .table"):
        window.wait(f"{opacity} !== '1'", old)
    assert window.run("return document.querySelector('#kill').disabled")
    assert window.run(f"return {ROWS}[0].querySelector('button').disabled")


def test_a_wrong_token_is_called_so_where_none_is_needed_to_look(page: Window) -> None:
    page.click("#key")
    page.type("#token", "wrong-token-0123456789")
    page.press("Enter")
    page.wait("document.querySelector('#token-problem').innerText.startsWith('Wrong token')")
    page.type("#token", TOKEN)
    page.press("Enter")
    page.wait("document.querySelector('#key').innerText === 'Token: in use'")
    page.refreshed(1)
    assert not page.run("return document.querySelector('#token-dialog').open")
