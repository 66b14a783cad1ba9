"""``top``: the live table, drawn anew every few seconds and on every key."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from proxy.terminal.arguments import filters, order
from proxy.terminal.client import Trouble
from proxy.terminal.screen import Screen, Seen, look
from proxy.terminal.tables import table
from proxy.terminal.views import VIEWS

if TYPE_CHECKING:
    import argparse

    from proxy.terminal.client import Endpoint
    from proxy.terminal.several import Several

#: Rows that are asked for where nothing says how many can be seen.
_ROWS: Final = 50

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_REST: Final = "\x1b[J"

#: What arrows and their like send (ECMA-48 control sequences, and SS3).
_FUNCTION_KEY: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.)")


def top(endpoint: Endpoint | Several, options: argparse.Namespace) -> int:
    """Show the live table until a key, a signal or ``--count`` ends it."""
    view = VIEWS[options.view]
    screen = Screen(
        endpoint.address, view, order(options, view.sort) if view.sort else "", filters(options)
    )
    if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _print(endpoint, screen, options)
    # The first look may fail: then there is nothing to show it in.
    screen.seen = _look(endpoint, screen, _ROWS)
    with _terminal() as keyboard:
        _live(endpoint, screen, options, keyboard)
    return 0


def _look(endpoint: Endpoint | Several, screen: Screen, rows: int) -> Seen:
    return look(
        endpoint.get("summary"),
        endpoint.get("groups", {"limit": 20}),
        endpoint.get("transactions", {"sort": "-idle", "limit": 1}),
        endpoint.get("incidents"),
        endpoint.get(screen.view.name, screen.fields(rows)),
        screen.view,
    )


def _print(endpoint: Endpoint | Several, screen: Screen, options: argparse.Namespace) -> int:
    count = options.count or (None if options.json else 1)
    done = 0
    while count is None or done < count:
        if done:
            time.sleep(options.interval)
        seen = screen.seen = _look(endpoint, screen, _ROWS)
        if options.json:
            print(json.dumps({**seen.summary, screen.view.name: seen.rows}), flush=True)
        else:
            print(*screen.summary(), "", sep="\n")
            print(*table(screen.view, seen.rows, sort=screen.sort), sep="\n", flush=True)
        done += 1
    return 0


def _live(
    endpoint: Endpoint | Several, screen: Screen, options: argparse.Namespace, keyboard: int
) -> None:
    looks = 1
    due = time.monotonic() + options.interval
    while not screen.ended:
        size = shutil.get_terminal_size()
        _draw(screen.lines(size.columns, size.lines, datetime.now().astimezone()))
        asked = screen.view, screen.sort, dict(screen.filters)
        if _readable(keyboard, max(0.0, due - time.monotonic())):
            for key in _keys(keyboard):
                screen.key(key)
            if asked == (screen.view, screen.sort, screen.filters):
                continue
        elif screen.paused or screen.typing is not None:
            due = time.monotonic() + options.interval
            continue
        elif options.count is not None and looks >= options.count:
            return
        try:
            screen.seen = _look(endpoint, screen, size.lines)
            screen.problem = ""
        except Trouble as trouble:
            screen.problem = str(trouble)
            if asked[0] is not screen.view and screen.seen is not None:
                screen.seen.rows = ()
        looks += 1
        due = time.monotonic() + options.interval


def _draw(lines: list[str]) -> None:
    # Over what is there, without clearing first: no flicker.
    text = f"{_CLEAR_LINE}\r\n".join(lines)
    sys.stdout.write(f"{_HOME}{text}{_CLEAR_LINE}{_CLEAR_REST}")
    sys.stdout.flush()


def _readable(keyboard: int, seconds: float) -> bool:
    ready, _, _ = select.select([keyboard], [], [], seconds)
    return bool(ready)


def _keys(keyboard: int) -> Iterator[str]:
    """The keys that wait; what arrow keys and their like send is passed over."""
    data = os.read(keyboard, 1024)
    if not data:
        yield "q"
    yield from _FUNCTION_KEY.sub("", data.decode("utf-8", "ignore"))


@contextmanager
def _terminal() -> Iterator[int]:
    """The keyboard's descriptor, with keys as they come and the screen to be drawn on."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        sys.stdout.write(_ENTER)
        yield keyboard
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
