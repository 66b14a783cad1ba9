"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.patience import PATIENCE

#: No traffic of the browser's own.
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


#: The table's rows, in a script.
ROWS = "[...document.querySelectorAll('tbody tr')]"


class Window:
    """One page of a browser."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._complaints: list[str] = []
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(message.text)

    def open(self, url: str) -> None:
        self._page.goto(url)

    def start(self, url: str) -> None:
        """Open the web page anew, and wait until there is something in its table."""
        self.open("about:blank")
        self._complaints.clear()
        self.open(url)
        self.wait(f"{ROWS}.length > 0")

    def back(self) -> None:
        self._page.go_back()

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's ``return``; ``arguments`` are its own."""
        function = f"(given) => (function () {{ {script} }}).apply(null, given)"
        return self._page.evaluate(function, list(arguments))

    def wait(self, script: str, *arguments: Any) -> Any:
        """The first value of ``return script`` that is true."""
        function = f"(given) => (function () {{ return {script} }}).apply(null, given)"
        found = self._page.wait_for_function(function, arg=list(arguments), polling=50)
        return found.json_value()

    def text(self, selector: str) -> str:
        return self._page.locator(selector).first.inner_text()

    def click(self, selector: str) -> None:
        self._page.locator(selector).first.click()

    def press(self, *keys: str) -> None:
        """Keys, for whatever has the focus."""
        for key in keys:
            self._page.keyboard.press(key)

    def refreshed(self, times: int = 2) -> None:
        """Have so many answers more drawn."""
        for _ in range(times):
            self.run("return loop()")

    def type(self, selector: str, text: str) -> None:
        field = self._page.locator(selector).first
        field.fill(text)
        field.dispatch_event("change")

    def barriers(self, axe: Path) -> list[str]:
        """What axe-core, in this file, finds in what is shown now: rules and where they fail."""
        self._page.evaluate(axe.read_text(encoding="utf-8"))
        found = self._page.evaluate("async () => (await axe.run()).violations")
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    def complaints(self) -> list[str]:
        """What the console says: refused by the page's own headers, failed, or thrown."""
        return self._complaints

    def in_the_dark(self, dark: bool) -> None:
        """What the system prefers, as the page is told."""
        self._page.emulate_media(color_scheme="dark" if dark else "light")

    def size(self, width: int, height: int) -> None:
        self._page.set_viewport_size({"width": width, "height": height})

    def shoot(self, path: Path) -> None:
        self._page.screenshot(path=path)


@contextmanager
def window(browser: str, width: int = 1500, height: int = 950) -> Iterator[Window]:
    """A page of the browser with this path and an empty profile, ended with the block."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=list(_FLAGS))
        try:
            yield Window(running.new_page(viewport={"width": width, "height": height}))
        finally:
            running.close()
