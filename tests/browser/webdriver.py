"""A real browser, driven through chromedriver's HTTP (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

#: No traffic of the browser's own.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
PATIENCE = 30.0


class Browser:
    """One browser window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def call(self, method: str, path: str, body: object = None) -> Any:
        return _call(method, self._session + path, body)

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's ``return``."""
        return self.call("POST", "/execute/sync", {"script": script, "args": arguments})

    def wait(self, script: str, *arguments: Any) -> Any:
        """The first value of ``return script`` that is true."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            value = self.run(f"return {script}", *arguments)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true: {script}; the page says: {self.text('body')}")

    def text(self, selector: str) -> str:
        found = self.run("return document.querySelector(arguments[0]).innerText", selector)
        return str(found)

    def click(self, selector: str) -> None:
        self.run("document.querySelector(arguments[0]).click()", selector)

    def type(self, selector: str, text: str) -> None:
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind))",
            selector,
            text,
        )

    def complaints(self) -> list[str]:
        """What the console says: refused by the page's own headers, failed, or thrown."""
        entries = self.call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def shoot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))


def _call(method: str, url: str, body: object = None) -> Any:
    data = None if method == "GET" else json.dumps({} if body is None else body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)["value"]


@contextmanager
def browser(profile: Path, width: int = 1500, height: int = 950, *flags: str) -> Iterator[Browser]:
    """A browser with an empty profile, ended with the block."""
    assert BROWSER is not None
    assert DRIVER is not None
    command = [DRIVER, "--port=0", "--allowed-ips=127.0.0.1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "started successfully" in line)
            port = line.rstrip().rstrip(".").rpartition(" ")[2]
            arguments = [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"]
            options = {
                "goog:chromeOptions": {"binary": BROWSER, "args": [*arguments, *flags]},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
            base = f"http://127.0.0.1:{port}"
            made = _call("POST", f"{base}/session", {"capabilities": {"alwaysMatch": options}})
            window = Browser(f"{base}/session/{made['sessionId']}")
            try:
                yield window
            finally:
                window.call("DELETE", "")
        finally:
            process.terminate()
