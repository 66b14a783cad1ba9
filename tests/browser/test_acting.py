"""What operators do on the page, each after a preview; it has a scene of its own to change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.scene import TOKEN, scene
from tests.browser.window import ROWS, Window


@pytest.fixture(scope="module")
def own() -> Iterator[str]:
    with scene() as pages:
        yield pages


@pytest.fixture
def page(window: Window, own: str) -> Window:
    window.start(own)
    return window


def test_sessions_are_killed_after_a_preview_and_with_the_token(page: Window) -> None:
    page.run("show('sessions', {application: 'leaky-importer'})")
    page.wait("document.querySelector('#kill').innerText.includes('matching')")
    page.click("#kill")
    page.wait("document.querySelector('#act-dialog').open")
    page.wait("!document.querySelector('#act-do').disabled")
    page.click("#act-do")
    page.wait("document.querySelector('#act-note').innerText.includes('Enter the token')")
    page.type("#act-token", "wrong-token-0123456789")
    page.wait("document.querySelector('#act-note').innerText.includes('Wrong token')")
    # Whoever goes on at once has it refused twice.
    page.run("document.querySelector('#act-token').value = 'wrong-again-0123456789'")
    page.run("return Promise.all([preview(), act()])")
    assert "Wrong token" in page.text("#act-note")
    page.run("document.querySelector('#act-token').focus()")
    page.type("#act-token", TOKEN)
    page.wait("document.querySelector('#act-preview').innerText.includes('transactions')")
    page.wait("document.activeElement.id === 'act-do'")
    preview = page.text("#act-preview")
    assert "0 open transactions" in preview
    assert "leaky-importer" in page.text("#act-list")
    page.click("#act-do")
    page.wait("document.querySelector('#act-preview').innerText.includes('killed')")
    assert page.text("#act-preview").startswith(preview.partition(" session")[0])
    assert ", 0 unreachable, 0 failed." in page.text("#act-preview")
    # The button that was pressed is gone, as the field was in which the token stood.
    assert page.run("return document.activeElement.id") == "act-close"
    page.press("Enter")
    page.wait("document.querySelector('tbody').innerText.includes('killed')")


def act(page: Window, words: str) -> str:
    """Go on with what the dialog shows, with the token; returns what it shows and what came of it,
    which has these words in it."""
    page.wait("!document.querySelector('#act-do').disabled")
    shown = page.text("#act-preview")
    if page.run("return document.querySelector('#act-token').offsetParent"):
        page.type("#act-token", TOKEN)
        page.wait("!document.querySelector('#act-do').disabled")
    page.click("#act-do")
    page.wait("document.querySelector('#act-preview').innerText.includes(arguments[0])", words)
    page.click("#act-close")
    return shown


def test_one_transaction_is_aborted_and_its_session_lives(page: Window) -> None:
    page.run("show('transactions', {application: 'monthly-reports'})")
    page.wait(f"{ROWS}.length === 1 && view.name === 'transactions'")
    assert page.text("tbody button") == "Abort…"
    session = page.run(f"return {ROWS}[0].row.session")
    page.click("tbody button")
    shown = act(page, "Aborted")
    assert "olivia@admin · monthly-reports" in shown
    assert "2 open cursors" in shown
    # Its row is gone, and there is no other.
    page.wait(f"{ROWS}.length === 0")
    assert page.run("return document.activeElement.innerText") == "Transactions"
    page.run("show('sessions', {session: arguments[0]})", session)
    page.wait("document.querySelector('tbody').innerText.includes('aborted')")


def test_an_operation_is_interrupted_and_a_connection_closed(page: Window) -> None:
    page.run("show('connections', {application: 'stock-keeper', state: 'requests'})")
    page.wait(f"{ROWS}.length === 1 && {ROWS}[0].innerText.includes('count')")
    page.click("tbody td")
    assert page.run(
        "return [...document.querySelectorAll('#detail-acts button')].map((one) => one.innerText)"
    ) == ["Close…", "Interrupt…"]
    page.click("#detail-acts button:nth-child(2)")
    assert "count on connection" in act(page, "Interrupted")
    page.run("show('connections', {application: 'shop-frontend', state: 'requests'})")
    page.wait("rowsShown.length > 0 && rowsShown[0].application === 'shop-frontend'")
    count = page.run(f"return {ROWS}.length")
    page.click("tbody button")
    assert "shop-frontend" in act(page, "closed")
    page.wait(f"{ROWS}.length === arguments[0]", count - 1)
