"""``top``: the live table, drawn anew every few seconds and on every key."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from proxy.terminal import doing
from proxy.terminal.arguments import filters, order
from proxy.terminal.client import NoTokenError, Trouble
from proxy.terminal.device import Device, device
from proxy.terminal.drawing import drawn, summary
from proxy.terminal.filtering import fitting
from proxy.terminal.printable import span
from proxy.terminal.screen import Place, Screen, Seen, Todo, look
from proxy.terminal.tables import table
from proxy.terminal.views import VIEWS

if TYPE_CHECKING:
    import argparse

    from proxy.terminal.client import Endpoint
    from proxy.terminal.several import Several

#: Rows that are asked for where nothing says how many can be seen.
_ROWS: Final = 50

#: Seconds after which an answer that does not come is worth a word, and how often.
_LATE: Final = 3.0
_TICK: Final = 1.0


def top(endpoint: Endpoint | Several, options: argparse.Namespace) -> int:
    """Show the live table until a key, a signal or ``--count`` ends it."""
    view = VIEWS[options.view]
    screen = Screen(
        endpoint.address,
        view,
        order(options, view.sort) if view.sort else "",
        fitting(filters(options), view.name),
    )
    if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _print(endpoint, screen, options)
    # The first look may fail: then there is nothing to show it in.
    screen.see(_look(endpoint, screen.place, screen.fields(_ROWS)))
    with device() as taken:
        _Live(endpoint, screen, options, taken).run()
    return 0


def _look(endpoint: Endpoint | Several, place: Place, fields: dict[str, Any]) -> Seen:
    return look(
        endpoint.get("summary"),
        endpoint.get("groups", {"limit": 20}),
        endpoint.get("transactions", {"sort": "-idle", "limit": 1}),
        endpoint.get("incidents"),
        endpoint.get(place.view.name, fields),
        place.view,
    )


def _print(endpoint: Endpoint | Several, screen: Screen, options: argparse.Namespace) -> int:
    count = options.count or (None if options.json else 1)
    done = 0
    while count is None or done < count:
        if done:
            time.sleep(options.interval)
        seen = _look(endpoint, screen.place, screen.fields(_ROWS))
        screen.see(seen)
        if options.json:
            print(json.dumps({**seen.summary, screen.view.name: seen.rows}), flush=True)
        else:
            print(*summary(screen), "", sep="\n")
            print(*table(screen.view, seen.rows, sort=screen.sort), sep="\n", flush=True)
        done += 1
    return 0


class _Live:
    """The screen on a terminal. One look is under way at a time, and keys are heeded meanwhile."""

    def __init__(
        self,
        endpoint: Endpoint | Several,
        screen: Screen,
        options: argparse.Namespace,
        taken: Device,
    ) -> None:
        self._endpoint = endpoint
        self._screen = screen
        self._interval: float = options.interval
        self._count: int | None = options.count
        self._device = taken
        self._looks = 1
        self._due: float = time.monotonic() + self._interval
        #: Since when a look is under way.
        self._since: float | None = None
        #: What was shown last that the proxy understood, and what is to be shown.
        self._understood = screen.place
        self._wanted = screen.place, screen.most, _ROWS

    def run(self) -> None:
        """Draw and heed keys until the end."""
        screen = self._screen
        while not screen.ended:
            columns, lines = self._device.size()
            self._late()
            self._device.draw(drawn(screen, columns, lines, datetime.now().astimezone()))
            for key in self._device.wait(self._patience()):
                screen.key(key)
            if screen.token is not None:
                self._endpoint.trust(screen.token)
                screen.token, self._due = None, 0.0
            if screen.todo is not None:
                self._do(screen.todo)
                screen.todo = None
            if self._since is None and not self._next(lines):
                return

    def _next(self, lines: int) -> bool:
        """Look again if it is time to, or something else is wanted; False at the end."""
        screen = self._screen
        wanted = screen.place, screen.most, max(lines, self._wanted[2])
        if wanted == self._wanted:
            if time.monotonic() < self._due:
                return True
            if screen.paused or screen.typing is not None:
                self._due = time.monotonic() + self._interval
                return True
            if self._count is not None and self._looks >= self._count:
                return False
        self._wanted = wanted
        self._since = time.monotonic()
        place, fields = screen.place, screen.fields(lines)
        self._device.start(
            lambda: _look(self._endpoint, place, fields), lambda seen: self._looked(place, seen)
        )
        return True

    def _looked(self, place: Place, seen: Seen | Exception) -> None:
        screen = self._screen
        self._since = None
        self._looks += 1
        self._due = time.monotonic() + self._interval
        if place != screen.place:
            # Something else is wanted by now.
            return
        if isinstance(seen, Seen):
            screen.see(seen)
            self._understood = place
        elif not isinstance(seen, Trouble):
            raise seen
        elif seen.status == 2 and not isinstance(seen, NoTokenError) and place != self._understood:
            screen.go_back(self._understood, str(seen).removeprefix("--"))
        else:
            screen.problem = str(seen)

    def _late(self) -> None:
        """Say that an answer does not come."""
        if self._since is not None and (waited := time.monotonic() - self._since) >= _LATE:
            self._screen.problem = f"{self._screen.address}: no answer for {span(int(waited))}"

    def _patience(self) -> float | None:
        if self._since is not None:
            return _TICK
        return max(0.0, self._due - time.monotonic())

    def _do(self, todo: Todo) -> None:
        def ask() -> Any:  # noqa: ANN401 - a preview, or what was done
            done = doing.preview if todo.stage == "preview" else doing.carry_out
            return done(self._endpoint, todo.act)

        def then(answer: Any) -> None:  # noqa: ANN401 - or what went wrong
            screen = self._screen
            if isinstance(answer, Trouble):
                text = str(answer)
                screen.failed(todo, text, token=isinstance(answer, NoTokenError))
            elif isinstance(answer, Exception):
                raise answer
            elif todo.stage == "preview":
                screen.previewed(todo, answer)
                self._device.forget_keys()
            else:
                screen.done(todo, answer)
                self._due = 0.0

        self._device.start(ask, then)
