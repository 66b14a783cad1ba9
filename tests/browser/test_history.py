"""What happened, as the page draws and lists it."""

from __future__ import annotations

import pytest

from tests.browser.scene import HOSTILE
from tests.browser.window import Window

LIST = "document.querySelector('#past-rows').innerText"
STRETCH = "past.plots[0].setSelect({left: 5, width: 200, top: 0, height: 50}, true)"


def test_what_happened_is_drawn_and_listed(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait("document.querySelectorAll('#past-lines canvas').length === 4")
    page.wait(f"{LIST}.includes('session started')")
    lines = "return [...document.querySelectorAll('#past-lines [role=img]')].map(o => o.ariaLabel)"
    assert [one.partition(":")[0] for one in page.run(lines)] == [
        *("Sessions", "Open transactions", "Operations a second", "Refusals")
    ]
    assert "proxy started" in page.text("#past-marks")
    assert page.complaints() == []


def test_names_that_clients_chose_are_text(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait(f"{LIST}.includes(arguments[0])", HOSTILE[:28])
    assert page.run("return document.querySelectorAll('#own img, #own script').length") == 0


def test_a_link_narrows_it(page: Window, url: str) -> None:
    page.start(url + "#history?since=1h&application=leaky-importer&event=session_started")
    page.wait(f"{LIST}.includes('leaky-importer')")
    rows = "return [...document.querySelectorAll('#past-rows tr')].map(o => o.cells[4].innerText)"
    assert set(page.run(rows)) == {"leaky-importer"}
    assert page.run("return document.querySelector('#past-event').value") == "session_started"


def test_a_session_leads_to_all_that_is_remembered_of_it(page: Window, url: str) -> None:
    page.start(url + "#history?application=leaky-importer&event=session_started")
    page.wait(f"{LIST}.includes('leaky-importer')")
    page.click("#past-rows a")
    page.wait("location.hash.includes('session=')")
    page.wait(
        "new Set([...document.querySelectorAll('#past-rows a')].map(o => o.title)).size === 1"
    )


def test_a_stretch_that_is_chosen_lists_what_was_in_it(page: Window, url: str) -> None:
    page.start(url + "#history?since=1h")
    page.wait("past.plots.length === 4")
    page.run(STRETCH)
    page.wait("!document.querySelector('#past-stretch').hidden")
    assert page.text("#past-stretch span").startswith("From ")
    page.wait("document.querySelector('#past-sum').innerText.startsWith('0 events')")
    page.click("#past-stretch button:last-child")
    page.wait("document.querySelector('#past-stretch').hidden")
    page.wait(f"{LIST}.includes('session started')")
    page.click("#past-marks button")
    page.wait("!document.querySelector('#past-stretch').hidden")
    page.wait(f"{LIST}.includes('started')")
    page.click("#past-stretch button")
    page.wait("location.hash.includes('until=')")


def test_a_minute_is_chosen_by_a_click_and_a_time_of_day_by_its_digits(
    page: Window, url: str
) -> None:
    page.start(url + "#history")
    page.wait("past.plots.length === 4")
    page.click("#past-lines .u-over")
    page.wait("!document.querySelector('#past-stretch').hidden")
    assert page.run("return past.stretch[1] - past.stretch[0]") == 60
    page.run("const field = document.querySelector('#past-around'); field.focus()")
    page.type("#past-around", "03:12")
    page.wait("location.hash.includes('until=')")
    assert page.run("return past.stretch") is None
    around = "return aroundTime('03:12', new Date(2026, 2, 2, arguments[0], 15))"
    [late, early] = [page.run(around, hour) for hour in (9, 1)]
    begins = "return new Date(arguments[0]).toLocaleString('sv')"
    assert page.run(begins, late["since"]) == "2026-03-02 03:02:00"
    assert page.run(begins, early["until"]) == "2026-03-01 03:22:00"
    assert page.complaints() == []


def test_of_very_much_it_lists_what_is_rare_the_latest_first(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait(f"{LIST}.includes('session started')")
    page.run(
        """const asks = askPast;
        askPast = async (asked) => {
          const answer = await asks({...asked, limit: asked.points === 1 ? 2 : asked.limit});
          return asked.event || asked.points > 1 ? answer : {...answer, matched: 12_345};
        };
        past.rests = 0;
        """
    )
    page.refreshed(1)
    assert page.text("#past-sum").startswith("12,345 events: ")
    assert "Listed is what is rare, of that the latest 2: " in page.text("#past-sum")
    assert "session started" not in page.text("#past-rows")
    times = page.run(
        "return [...document.querySelectorAll('#past-rows tr')].map(r => r.cells[0].innerText)"
    )
    assert times == sorted(times, reverse=True)
    counts = {"refused": 1, "reported": 2, "login_failed": 3, "worker_died": 1}
    said = page.run("return countsOf(arguments[0])", counts)
    assert said == "1 refusal, 2 would be refused, 3 failed logins, 1 worker died"


def test_the_proxy_is_not_asked_again_and_again_for_what_takes_long(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait("past.plots.length === 4")
    page.run(
        """clearTimeout(timer); turn++;
        window.asks = 0;
        const real = askPast;
        askPast = (asked) => { window.asks++; return real(asked); };
        past.rests = Date.now() + 1e6;
        """
    )
    page.refreshed(2)
    assert page.run("return window.asks") == 0
    page.run("go({event: 'kill'}); clearTimeout(timer)")
    page.wait("window.asks > 0")
    page.wait("past.rests < Date.now() + 1e5")


def test_nothing_else_waits_for_it(page: Window, url: str) -> None:
    page.run("askPast = () => new Promise(() => {}); location.hash = '#history'")
    page.wait("past.built")
    page.run("say($('#about'), '')")
    page.run("loop()")
    page.wait("$('#about').innerText.includes(', up ')")


def test_times_can_be_read_whole(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait("past.plots.length === 4")
    # Nothing of a field's own is wider than it, such as AM or PM.
    fields = "[...document.querySelectorAll('#past-bar input')]"
    assert (
        page.run(f"return {fields}.filter((one) => one.scrollWidth > one.clientWidth).length") == 0
    )


@pytest.mark.parametrize("width", [400, 800])
def test_there_is_room_for_the_list(page: Window, url: str, width: int) -> None:
    page.size(width, 900)
    try:
        page.start(url + "#history")
        page.wait(f"{LIST}.includes('session started')")
        room = """const box = document.querySelector('#own .table');
            return box.scrollWidth - box.clientWidth"""
        assert page.run(room) <= 0
    finally:
        page.size(1500, 950)


def test_other_views_are_as_before(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait(f"{LIST}.includes('session started')")
    page.run("location.hash = '#groups'")
    page.wait("document.querySelector('#own').hidden")
    page.wait("document.querySelector('tbody').innerText.includes('leaky-importer')")


def test_lines_stand_beside_each_other_however_wide_the_window_is(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait("past.plots.length === 4")
    try:
        for width in (400, 1000, 1500, 2600):
            page.size(width, 900)
            page.wait(
                """past.plots.every(({root}) => {
                  const [column] = getComputedStyle(root.parentNode).gridTemplateColumns.split(" ");
                  const room = parseFloat(column) - root.offsetWidth;
                  return 0 <= room && room < 2;
                })"""
            )
    finally:
        page.size(1500, 950)


def test_of_several_clusters_it_says_which(page: Window, url: str) -> None:
    page.start(url + "#history")
    page.wait("document.querySelectorAll('#past-rows tr').length > 0")
    head = (
        "[...document.querySelectorAll('#own th')].filter(o => o.offsetWidth).map(o => o.innerText)"
    )
    assert page.run(f"return {head}")[:2] == ["Time", "What"]
    event = """{time: "2026-03-01T10:00:00.000Z", event: "kill", user: "", application: "",
        client: "127.0.0.1", operator: "ann", command: "kill", kind: "done", targets: 2,
        reason: "2 places freed",
        meant: {patterns: [{owner: "a@b", application: "my shop"}]}, cluster: "web"}"""
    shown = page.run(f"""summary.clusters = [{{cluster: "shop"}}, {{cluster: "web"}}];
        drawPastList({{events: [{event}], open_meanwhile: [], counts: {{}}, matched: 1,
            since: "2026-03-01T09:00:00.000Z", until: "2026-03-01T11:00:00.000Z"}});
        const cells = document.querySelector('#past-rows tr').cells;
        return [{head}, [...cells].map(o => o.innerText)]""")
    assert shown[0][:3] == ["Time", "Cluster", "What"]
    assert shown[1][1:4] == [
        "web",
        'kill by operator ann done: 2 sessions, meant were owner=a@b application="my shop"'
        ": 2 places freed",
        "",
    ]
