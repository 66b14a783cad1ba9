"""Several proxies as the one that commands ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proxy.terminal.client import Endpoint, Trouble
from proxy.terminal.merging import Document, killed, merged
from proxy.terminal.places import Place, resolved

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

#: Proxies that are asked at the same time.
_AT_ONCE: Final = 32
#: Seconds until names are looked up again.
_LOOK_UP: Final = 10.0
#: Rows of groups that are asked for, so that those of all proxies can be added up.
_GROUPS: Final = 5_000


class Several:
    """As an :class:`~proxy.terminal.client.Endpoint`, of all proxies that some places are.

    Those that do not answer are named under ``problems``, unless none does.
    """

    def __init__(self, places: Sequence[Place], token: str | None = None) -> None:
        self._places = places
        self._token = token
        self._looked_up = 0.0
        self._endpoints: dict[str, Endpoint] = {}

    @property
    def address(self) -> str:
        """What is asked, in words."""
        found = self._all()
        return next(iter(found)) if len(found) == 1 else f"{len(found)} proxies"

    @property
    def proxies(self) -> tuple[str, ...]:
        """The addresses that rows have as ``proxy``."""
        return tuple(self._all())

    def at(self, proxy: str | None) -> Endpoint | Several:
        """The endpoint of the proxy of that address; all of them where it is that of none."""
        return self._all().get(proxy or "", self)

    def trust(self, token: str) -> None:
        """Show another token from now on, to all."""
        self._token = token
        for one in self._endpoints.values():
            one.trust(token)

    def _all(self) -> dict[str, Endpoint]:
        """By its address, each proxy that there is."""
        now = time.monotonic()
        if not self._endpoints or now >= self._looked_up + _LOOK_UP:
            self._looked_up = now
            known = self._endpoints
            self._endpoints = {
                str(one): known.get(str(one)) or Endpoint(one, self._token)
                for place in self._places
                for one in resolved(place)
            }
        return self._endpoints

    def _ask(self, what: Callable[[Endpoint], T]) -> tuple[dict[str, T], dict[str, Trouble]]:
        """What each answers, by its address, and who does not."""

        def one(endpoint: Endpoint) -> T | Trouble:
            try:
                return what(endpoint)
            except Trouble as trouble:
                return trouble

        found = self._all()
        said = dict(zip(found, _at_once(one, list(found.values())), strict=True))
        troubles = {name: one for name, one in said.items() if isinstance(one, Trouble)}
        return (
            {name: one for name, one in said.items() if not isinstance(one, Trouble)},
            troubles,
        )

    def _together(
        self,
        what: Callable[[Endpoint], Document],
        put_together: Callable[[Mapping[str, Document]], Document],
        *,
        strict: bool = False,
    ) -> Document:
        """What all answer; where ``strict``, no answer if one says that the question is wrong."""
        answers, troubles = self._ask(what)
        wrong = next((one for one in troubles.values() if one.status == 2), None)
        if wrong is not None and (strict or not answers):
            raise wrong
        if not answers:
            raise _all_of(troubles)
        if len(self._all()) == 1:
            return next(iter(answers.values()))
        document = put_together(answers)
        if troubles:
            document["problems"] = [
                text if (text := str(one)).startswith(name) else f"{name}: {text}"
                for name, one in troubles.items()
            ]
            if "ready" in document:
                document["ready"] = False
                parts = [document["reason"], *document["problems"]]
                document["reason"] = "; ".join(filter(None, parts))
        return document

    def rows(self, name: str, fields: Mapping[str, Any], limit: int | None) -> Document:
        """A listing's document with up to ``limit`` rows; None: all that there are."""
        most = _GROUPS if name == "groups" and limit is not None else limit
        more = {} if limit is None else {"limit": limit}
        return self._together(
            lambda one: one.rows(name, fields, most),
            lambda found: merged(name, found, {**fields, **more}),
        )

    def get(self, path: str, fields: Mapping[str, Any] | None = None) -> Document:
        """A page's document."""
        asked = dict(fields or {})
        if path == "groups":
            asked["limit"] = _GROUPS
        return self._together(
            lambda one: one.get(path, asked), lambda found: merged(path, found, fields or {})
        )

    def ready(self) -> None:
        """Return if clients are served by all of them."""
        _, troubles = self._ask(Endpoint.ready)
        if troubles:
            raise _all_of(troubles)

    def post(self, path: str, document: Mapping[str, Any]) -> Document:
        """What comes of sending a document: a kill to all, anything else to whom it is about."""
        if path == "kill":
            return self._kill(document)
        if len(self._all()) == 1:
            return next(iter(self._all().values())).post(path, document)
        if "conn" in document:
            raise Trouble("CONN: each proxy has its own numbers: say which one by --admin", 2)
        seen, troubles = self._ask(lambda one: one.post(path, {**document, "dry_run": True}))
        if len(seen) > 1:
            raise Trouble(f"{', '.join(seen)} all have it: say which one by --admin", 2)
        if not seen:
            raise _most_telling(troubles)
        [(name, preview)] = seen.items()
        if document.get("dry_run", True):
            return {"proxy": name, **preview}
        return {"proxy": name, **self._all()[name].post(path, document)}

    def _kill(self, document: Mapping[str, Any]) -> Document:
        if len(self._all()) > 1 and "sessions" in document:
            # The beginning of an id may be that of another one on another proxy.
            preview = {**document, "dry_run": True}
            seen = self._together(lambda one: one.post("kill", preview), killed, strict=True)
            for given in document["sessions"]:
                begins = str(given["session"] if isinstance(given, dict) else given).lower()
                ids = {row["session"] for row in seen["sessions"]}
                found = sorted(one for one in ids if _digits(one).startswith(_digits(begins)))
                if len(found) > 1:
                    text = f"several ids begin so: {', '.join(found)}; give more of it"
                    raise Trouble(f"{begins}: {text}", 2)
            if document.get("dry_run", True):
                return seen
        return self._together(lambda one: one.post("kill", document), killed)


def _at_once(ask: Callable[[Endpoint], T], endpoints: Sequence[Endpoint]) -> list[T]:
    """What comes of asking them, in their order."""
    waiting: SimpleQueue[int] = SimpleQueue()
    for at in range(len(endpoints)):
        waiting.put(at)
    done: SimpleQueue[Exception | None] = SimpleQueue()
    answers: dict[int, T] = {}

    def work() -> None:
        with suppress(Empty):
            while True:
                at = waiting.get_nowait()
                try:
                    answers[at] = ask(endpoints[at])
                    done.put(None)
                except Exception as error:
                    done.put(error)

    for _ in endpoints[:_AT_ONCE]:
        # Not waited for at the end: one that hangs must not hold who wants to leave.
        Thread(target=work, daemon=True).start()
    for _ in endpoints:
        error = done.get()
        if error is not None:
            raise error
    return [answers[at] for at in range(len(endpoints))]


def _digits(session: str) -> str:
    return session.replace("-", "")


def _all_of(troubles: Mapping[str, Trouble]) -> Trouble:
    # Each begins with its proxy's address.
    return Trouble("; ".join(dict.fromkeys(map(str, troubles.values()))))


def _most_telling(troubles: Mapping[str, Trouble]) -> Trouble:
    """Of what proxies say of something that none has, what says more than that."""
    told = sorted(troubles.values(), key=lambda one: str(one).endswith("no such session"))
    return told[0]
