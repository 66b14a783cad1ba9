"""Several connections under one session, in one line each.

    "a>insert#1=x a| b>insert#1=x b<"

``a>`` sends a command on connection a: ``#`` is its txnNumber, with ``t`` a transaction's and with
``t!`` its first; ``=`` is what is written. ``a<`` answers the first request of a that waits, with
an error's code where there is one, and ``a|`` is the end of the connection.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from bson import Binary, Int64

from proxy.conversation.conversation import Conversation
from proxy.conversation.desk import Desk
from proxy.conversation.exchange import Presentation
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.handlers import HANDLERS
from proxy.conversation.rule import Mode, Rule, Rules
from proxy.conversation.sharing import Sessions
from proxy.session.store import SessionStore
from tests.build import command, reply
from tests.talk import Watching

STEP = re.compile(r"(\w)([>|<])(\w*)(?:#(-?\d+))?(t!?)?(?:=(\w*))?$")
OPEN = UpstreamFacts(authorization=False, has_transactions=True, wire_version=21)

#: What is in the place of what is written.
FIELDS = {
    "insert": "documents",
    "update": "updates",
    "delete": "deletes",
    "find": "filter",
    "findAndModify": "query",
}


def hello(
    application: str = "shop",
    driver: str = "PyMongo",
    version: str = "4.20",
    platform: str = "CPython 3.11",
    **more: Any,
) -> dict[str, Any]:
    system = {"type": "Linux", "architecture": "x86_64"}
    named = {"application": {"name": application}, "driver": {"name": driver, "version": version}}
    return {"hello": 1, "client": {**named, "os": system, "platform": platform}, **more}


class Told(Watching):
    """A recorder that keeps what it is told of incidents."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    def incident(self, kind: str, now: float, desk: Any, suspicion: Any) -> None:
        super().incident(kind, now, desk, suspicion)
        self.reasons.append(suspicion.reason)


class Connection:
    """One client connection. ``upstream`` is the member that it leads to."""

    def __init__(
        self,
        sessions: Sessions,
        number: int,
        facts: UpstreamFacts,
        greeting: dict[str, Any] | None,
        client: str,
        upstream: str,
    ) -> None:
        desk = self.desk = Desk(sessions, number, client, upstream, lambda: facts)
        self.conversation = Conversation(Presentation(), Watching(), desk, HANDLERS)
        self._waiting: deque[int] = deque()
        self._number = 0
        if greeting is not None:
            self.send(greeting)
            self.answer({"ok": 1.0})

    def send(self, document: dict[str, Any], **how: Any) -> None:
        self._number += 1
        frame = command({**document, "$db": "app"}, self._number, **how)
        self.conversation.on_request(frame, 1.0)
        if self.conversation.to_upstream:
            self._waiting.append(self._number)
        self.conversation.to_upstream.clear()
        self.conversation.to_client.clear()

    def answer(self, document: dict[str, Any]) -> None:
        self.conversation.on_upstream(reply(document, self._waiting.popleft()), 2.0)

    def gone(self) -> None:
        self.conversation.closed(3.0)


class Sequence:
    """Connections by one letter each; those that are not named are the same process's."""

    def __init__(
        self,
        facts: UpstreamFacts = OPEN,
        rules: tuple[tuple[Rule, Mode], ...] = (),
        refuse_early: bool = False,
        **greetings: Any,
    ) -> None:
        self.told = Told()
        self._facts = facts
        self._sessions = Sessions(
            Rules(rules), self.told, SessionStore(), refuse_early=refuse_early
        )
        self._greetings = greetings
        self._connections: dict[str, Connection] = {}

    def connection(self, name: str) -> Connection:
        if name not in self._connections:
            how = dict(self._greetings.get(name, {}))
            client, upstream = how.pop("client", "10.0.0.1"), how.pop("upstream", "one:1")
            greeting = None if how.pop("silent", False) else hello(**how)
            number = len(self._connections) + 1
            self._connections[name] = Connection(
                self._sessions, number, self._facts, greeting, client, upstream
            )
        return self._connections[name]

    def play(self, steps: str, session: int = 0) -> Sequence:
        for step in steps.split():
            found = STEP.match(step)
            assert found is not None, step
            name, what, named, number, transaction, value = found.groups()
            one = self.connection(name)
            if what == "|":
                one.gone()
            elif what == "<":
                one.answer({"ok": 0.0, "code": int(named)} if named else {"ok": 1.0})
            else:
                one.send(self._document(named, number, transaction, value or "x", session))
        return self

    @property
    def kinds(self) -> list[str]:
        return [kind for (kind,) in self.told.only("incident")]

    @staticmethod
    def _document(
        named: str, number: str | None, transaction: str | None, value: str, session: int
    ) -> dict[str, Any]:
        document: dict[str, Any] = {named: Int64(7) if named == "getMore" else "c"}
        document["lsid"] = {"id": Binary(bytes(15) + bytes((session,)), 4)}
        if number is not None:
            document["txnNumber"] = Int64(number)
        if transaction:
            document["autocommit"] = False
            if transaction == "t!":
                document["startTransaction"] = True
        field = FIELDS.get(named)
        if field is not None:
            written = {"v": value}
            document[field] = [written] if field.endswith("s") else written
        return document
