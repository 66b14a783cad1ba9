"""Clients that wait for nothing: many requests under way on a few connections at once, logins and
session commands among them, and an upstream that reads by the model and keeps its own books.

What one request means depends on those before it: on who is logged in when upstream comes to it.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import bson
from bson import Binary

from proxy.conversation.conversation import Conversation
from proxy.conversation.facts import UpstreamFacts
from proxy.session.identity import NO_OWNER, user_digest
from proxy.session.ids import LogicalSessionId
from proxy.session.store import SessionStore
from proxy.wire.compression import deflate
from proxy.wire.messages import read_request
from tests import build
from tests.reading.comparing import VERSIONS, answer_to, is_own
from tests.reading.model import HELLO, SESSION_CONTROL, Reading, read
from tests.reading.mutations import framed, mutated
from tests.reading.seeds import seeds
from tests.talk import Watching, connection_status, converse

USERS = (("alice", "app"), ("bob", "app"), ("root", "admin"))
ROOT = USERS[2]
_MEMBERS = {"raw.example:1": "shown.example:2"}
_LATER = {"ok": 0.0, "code": 462, "errmsg": "later", "errorLabels": ["SystemOverloadedError"]}
_SPECULATION = {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b"x", "db": "app"}
_LOGINS: tuple[dict[str, Any], ...] = (
    {"hello": 1, "speculativeAuthenticate": _SPECULATION},
    {"saslStart": 1, "mechanism": "SCRAM-SHA-1", "payload": b"x"},
    {"saslContinue": 1, "conversationId": 1, "payload": b"x"},
    {"logout": 1},
)


class Upstream:
    """One connection of upstream's: what it would carry out, and for whom."""

    def __init__(self, random: Random, version: int, authorization: bool) -> None:
        self._random = random
        self._version = version
        self._authorization = authorization
        self.users: tuple[tuple[str, str], ...] = ()
        self.closed = False
        self.recorded: list[LogicalSessionId] = []
        self.faults: list[str] = []
        self._number = 5000

    def answers(self, frame: bytes, decided_for: tuple[tuple[str, str], ...]) -> bytes:
        """The reply to a frame, b"" for none. ``decided_for`` is who asks in the proxy's eyes."""
        reading = read(frame, self._version)
        if reading.outcome == "closed":
            self.closed = True
            return b""
        if is_own(frame) and reading.command in SESSION_CONTROL:
            self._judge(bson.decode(read_request(frame).body_bytes()), decided_for)
        document = self._carried_out(reading, is_own(frame))
        self._number += 1
        return answer_to(frame, bson.encode(document), self._number) if reading.answered else b""

    def _own(self) -> bytes | None:
        if not self._authorization:
            return NO_OWNER
        return user_digest(*self.users[0]) if self.users else None

    def _judge(self, command: dict[str, Any], decided_for: tuple[tuple[str, str], ...]) -> None:
        """Whether what the proxy sends in a client's stead is for who is logged in here."""
        if not self._authorization:
            return
        name, listed = next(iter(command.items()))
        if decided_for != self.users or not self.users:
            self.faults.append(f"{name} decided for {decided_for}, carried out for {self.users}")
        elif self.users != (ROOT,) and (
            name.startswith("killAll")
            or any(bytes(entry.get("uid", self._own())) != self._own() for entry in listed)
        ):
            self.faults.append(f"{command} for {self.users}")
        if name.startswith("kill") and "lsid" in command:
            self.faults.append(f"{command}: with an lsid")

    def _carried_out(self, reading: Reading, own: bool) -> dict[str, Any]:
        if reading.outcome == "refused":
            return {"ok": 0.0, "code": reading.code or 1, "errmsg": "refused"}
        if reading.command == b"connectionStatus":
            return self._status() if self._random.random() < 0.95 else _LATER
        if reading.command in SESSION_CONTROL and reading.help != "yes":
            if not own and (self.users or not self._authorization):
                self.faults.append(f"{reading.command!r} passed as it came")
            return {"ok": 1.0} if self._random.random() < 0.8 else self._unauthorized("not you")
        if reading.is_login and reading.help != "yes":
            return self._login(reading)
        if reading.is_hello:
            return {"ok": 1.0, "hosts": ["raw.example:1"]}
        return self._ordinary(reading)

    def _status(self) -> dict[str, Any]:
        actions = ("killAnySession", "impersonate") if self.users == (ROOT,) else ()
        return connection_status(*self.users, actions=actions)

    def _login(self, reading: Reading) -> dict[str, Any]:
        chance = self._random.random()
        step: dict[str, Any] = {"conversationId": 1, "payload": b""}
        by_hello = reading.command in HELLO
        if reading.command == b"logout":
            self.users = ()
        elif chance < 0.5:
            self.users = (self._random.choice(USERS),)
            step["done"] = True
        elif chance < 0.75:
            step["done"] = False
        elif by_hello:
            step = {}
        else:
            return {"ok": 0.0, "code": 18, "errmsg": "AuthenticationFailed"}
        if not by_hello:
            return {**step, "ok": 1.0}
        more = {"speculativeAuthenticate": step} if step else {}
        return {"ok": 1.0, "hosts": ["raw.example:1"], **more}

    def _ordinary(self, reading: Reading) -> dict[str, Any]:
        session = reading.session
        if reading.command == b"nothingOfThis":
            return {"ok": 0.0, "code": 59, "errmsg": "no such command: 'nothingOfThis'"}
        if session is None or reading.recorded == "no":
            return {"ok": 1.0}
        own = self._own()
        if own is None:
            return self._unauthorized("there are no users authenticated")
        uid = session.uid or own
        if self._authorization and uid != own and self.users != (ROOT,):
            return self._unauthorized("Unauthorized to set user digest in LogicalSessionId")
        if reading.recorded == "yes" and reading.help == "no":
            self.recorded.append(LogicalSessionId(session.id, uid))
        return {"ok": 1.0}

    def _unauthorized(self, text: str) -> dict[str, Any]:
        return {"ok": 0.0, "code": 13, "errmsg": text, "codeName": "Unauthorized"}


class _Connection:
    def __init__(
        self, random: Random, store: SessionStore, facts: UpstreamFacts, version: int
    ) -> None:
        self.observer = Watching()
        self.conversation: Conversation = converse(
            self.observer,
            facts=facts,
            store=store,
            own="shown.example:2",
            addresses=lambda: _MEMBERS,
        )
        self.upstream = Upstream(random, version, facts.authorization is True)
        self.asks = deque(_request(random) for _ in range(random.randrange(1, 15)))
        self.under_way: deque[bytes] = deque()
        self.handed_over: list[bytes] = []
        self.told: list[bytes] = []

    def moves(self) -> list[str]:
        """What could happen next: handed over like the relay does, and answered in order."""
        conversation = self.conversation
        if conversation.close or self.upstream.closed:
            return []
        if conversation.unfinished:
            return ["go on"]
        asks = self.asks and not conversation.blocked and not conversation.ending
        return ["ask"] * bool(asks) + ["answer"] * bool(self.under_way)

    def move(self, what: str) -> None:
        conversation = self.conversation
        if what == "ask":
            self.handed_over.append(self.asks.popleft())
            conversation.on_request(self.handed_over[-1], 0.0)
        elif what == "go on":
            conversation.go_on(0.0)
        else:
            frame = self.under_way.popleft()
            reply = self.upstream.answers(frame, conversation.desk.identity.users)
            if reply:
                conversation.on_upstream(reply, 0.0)
        while self.observer.waiting:
            self.observer.waiting.pop()(0.0)
        self.under_way += conversation.to_upstream
        self.told += conversation.to_client
        conversation.to_upstream.clear()
        conversation.to_client.clear()

    def faults(self) -> list[str]:
        found = list(self.upstream.faults)
        conversation = self.conversation
        over = bool(conversation.close or conversation.ending or self.upstream.closed)
        asked = [
            one for one in map(read_request, self.handed_over[:-1] if over else self.handed_over)
        ]
        wanted = [one.request_id for one in asked if one.expects_reply]
        got = [int.from_bytes(frame[8:12], "little") for frame in self.told]
        if got[: len(wanted)] != wanted[: len(got)] or (not over and len(got) != len(wanted)):
            found.append(f"replies to {got} where {wanted} asked")
        if not over and self.asks:
            found.append("requests wait for ever")
        if any(b"raw.example" in frame for frame in self.told):
            found.append("an address of upstream's is shown")
        return found


def _lsid(random: Random) -> dict[str, Any]:
    uid = {"uid": Binary(user_digest(*random.choice(USERS)))} if random.random() < 0.15 else {}
    return {"id": Binary(bytes(15) + bytes([random.randrange(4)]), 4), **uid}


def _request(random: Random) -> bytes:
    if random.random() < 0.1:
        return framed(mutated(random, random.choice(seeds())))
    number = random.randrange(1, 2**30)
    command: dict[str, Any] = random.choice(
        (
            *({"find": "c"}, {"insert": "c", "documents": [{}]}, {"ping": 1}, {"nothingOfThis": 1}),
            *_LOGINS,
            *({"startSession": 1}, {"endSessions": [_lsid(random)]}, {"killAllSessions": []}),
            *({"killSessions": random.choice(([], [_lsid(random)]))}, {"find": "c"}),
            *({"refreshSessions": [_lsid(random)]}, {"count": "c"}),
            {"killAllSessions": [{"user": "alice", "db": "app"}]},
            {"killAllSessionsByPattern": random.choice(([], [{"lsid": _lsid(random)}]))},
        )
    )
    if random.random() < 0.8:
        command = {**command, "lsid": _lsid(random)}
    if random.random() < 0.05:
        command = {**command, "help": random.choice((True, 1, False, None))}
    if random.random() < 0.12:
        frame = build.op_query(
            random.choice(("app.$cmd", "admin.$cmd")), command, request_id=number
        )
    else:
        flags = 2 if random.random() < 0.12 else 0
        there = {**command, "$db": "admin"}
        frame = build.command(there, number, flags=flags, checksum=random.random() < 0.1)
    return deflate(frame, 2) if random.random() < 0.2 else frame


def episode(seed: int) -> list[str]:
    """What went wrong while three clients asked for some things, in an order of their own."""
    random = Random(seed)
    version = random.choice(VERSIONS)
    facts = UpstreamFacts(
        authorization=random.random() < 0.7,
        has_transactions=True,
        wire_version=random.choice((version, None)),
    )
    store = SessionStore()
    connections = [_Connection(random, store, facts, version) for _ in range(3)]
    while ready := [(one, what) for one in connections for what in one.moves()]:
        one, what = random.choice(ready)
        one.move(what)
    faults = [fault for one in connections for fault in one.faults()]
    for one in connections:
        faults += [
            f"{key} is upstream's and not known"
            for key in one.upstream.recorded
            if key not in store
        ]
    return faults
