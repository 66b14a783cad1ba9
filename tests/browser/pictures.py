"""Takes the documentation's pictures of the running program:

python -m tests.browser.pictures docs/images
"""

from __future__ import annotations

import html
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.browser.scene import proxied, traffic
from tests.browser.window import window
from tests.terminal.terminals import on_terminal

#: Long enough for a transaction to count as idle.
_WAIT = 75
_WIDTH = 1440


def main(folder: Path) -> None:
    """Write ``sessions.png`` and ``top.png``."""
    trio.run(_main, folder)


async def _main(folder: Path) -> None:
    async with proxied() as running:
        assert running.admin is not None
        await trio.to_thread.run_sync(_take, folder, running.addresses[0], running.admin)


def _take(folder: Path, address: str, admin: str) -> None:
    with (
        traffic(address, "curious-script"),
        tempfile.TemporaryDirectory() as scratch,
        window(shutil.which("chromium") or "chromium-browser", _WIDTH, 860) as page,
    ):
        time.sleep(_WAIT)
        page.open(f"http://{admin}/")
        page.wait("document.querySelectorAll('tbody tr').length > 0")
        page.shoot(folder / "sessions.png")
        shown = Path(scratch) / "top.html"
        shown.write_text(_html(_top(admin)), encoding="utf-8")
        page.open(shown.as_uri())
        page.size(_WIDTH, page.run("return document.querySelector('pre').offsetHeight"))
        page.shoot(folder / "top.png")


def _top(admin: str) -> str:
    """The last whole screen that ``top`` drew."""
    with on_terminal("top", "--admin", admin, columns=150, lines=24) as terminal:
        terminal.read_until("quit")
        terminal.output = ""
        terminal.read_until("\x1b[H")
        terminal.press("q")
        frame = ""
        while "\x1b[?2026l" not in terminal.output:
            terminal.read_more()
        frame = terminal.output.partition("\x1b[?2026l")[0]
    return frame.replace("\x1b[K", "").replace("\r", "")


#: Of the colours that top uses.
_STYLES = {
    "1": "font-weight:700",
    "2": "color:#8b98a5",
    "7": "background:#d5dbe1;color:#12181f",
    "31": "color:#ff7b72",
    "32": "color:#56d364",
    "33": "color:#e3b341",
}


def _style(codes: str) -> str:
    found = re.findall(r"\d+", codes)
    color = next((_STYLES[code] for code in found if code in ("31", "32", "33")), "")
    if "7" in found and color:
        return f"background:{color.partition(':')[2]};color:#12181f"
    return ";".join(_STYLES[code] for code in found)


def _html(frame: str) -> str:
    text = html.escape(frame)
    text = re.sub(r"\x1b\[0m", "</span>", text)
    text = re.sub(r"(?:\x1b\[\d+m)+", lambda m: f'<span style="{_style(m[0])}">', text)
    return (
        '<!doctype html><meta charset="utf-8"><body style="margin:0"><pre style="margin:0;'
        "padding:18px 20px;background:#12181f;color:#d5dbe1;font:15.3px/1.4 'DejaVu Sans Mono',"
        f'monospace">{text}</pre>'
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
