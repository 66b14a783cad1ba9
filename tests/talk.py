"""Conversations written down as transcripts.

    (
        Talk()
        .client(PING)  # the client sends a frame …
        .upstream_gets(PING)  # … and this is what goes upstream
        .upstream(PONG)  # upstream sends bytes …
        .client_gets(PONG)  # … and this is what the client gets
        .quiet()  # nothing else went anywhere
    )

What goes out has to be expected before the next bytes come in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import bson

from proxy.conversation.conversation import Conversation
from proxy.conversation.desk import Desk
from proxy.conversation.exchange import Presentation
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.finished import Finished
from proxy.conversation.handlers import HANDLERS
from proxy.conversation.rule import Decision, Mode, Overdue, Rule, Rules
from proxy.conversation.sharing import Sessions
from proxy.counting import Usage
from proxy.errors import CommandError
from proxy.observe.namespaces import Namespaces
from proxy.session.identity import CONNECTION_STATUS, Identity
from proxy.session.records import InFlight
from proxy.session.store import SessionStore
from proxy.wire.messages import read_request
from proxy.wire.opcodes import OP_MSG
from tests.build import reply

UPSTREAM = "upstream:1"


class Watching:
    """An observer that writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        #: Digests of users whose own connections could be asked something.
        self.has_connections_of: set[bytes] = set()
        self.slow_seconds = math.inf
        self.traces = False
        self.namespaces: Namespaces | None = None
        #: What was to be done later.
        self.waiting: list[Callable[[float], None]] = []

    @property
    def meter(self) -> Watching:
        return self

    def request(self, command: str, count: int = 1) -> None:
        self.seen += [("request", command)] * count

    def replied(
        self, command: str, seconds: float, ok: bool, usage: Usage | None = None, sent: int = 0
    ) -> bool:
        self.seen.append(("replied", command, seconds, ok))
        return seconds >= self.tells_from

    def replied_again(
        self, command: str, seconds: float, ok: bool, usage: Usage | None, sent: int
    ) -> bool:
        self.seen.append(("replied again", command, seconds, ok))
        return seconds >= self.tells_from

    @property
    def tells_from(self) -> float:
        return 0.0 if self.traces else self.slow_seconds

    def traced(self, request: Finished) -> None:
        self.seen.append(("traced", request))

    def slow(self, request: Finished, now: float) -> None:
        self.seen.append(("slow", request))

    def violation(self, kind: str) -> None:
        self.seen.append(("violation", kind))

    def identified(self, identity: Identity) -> None:
        self.seen.append(("identified", identity.name))

    def later(self, seconds: float, what: Callable[[float], None]) -> None:
        self.seen.append(("later", seconds))
        self.waiting.append(what)

    def foreign(self, side: str, protocol: str, problem: str) -> None:
        self.seen.append(("foreign", side, protocol, problem))

    def unknown_member(self) -> None:
        self.seen.append(("unknown member",))

    def another_process(self) -> None:
        self.seen.append(("another process",))

    def interrupt(self, operation: InFlight) -> None:
        self.seen.append(("interrupt", operation))

    def ask_as(self, owner: bytes, upstream: str, question: bytes) -> bool:
        self.seen.append(("ask as", owner, upstream, bson.decode(question)))
        return owner in self.has_connections_of

    # ------------------------------------------------------------------ and a recorder

    def failed(self, code: int | None, source: str) -> None:
        self.seen.append(("failed", code, source))

    def malformed(
        self,
        error: CommandError,
        command: str,
        now: float,
        desk: Desk,
        decision: str,
        lsid: object = None,
    ) -> None:
        self.seen.append(("malformed", error.code))

    def surprised(self, error: CommandError, command: str, first: bool, desk: Desk) -> None:
        self.seen.append(("surprised", error.code, command, first))

    def incident(self, kind: str, now: float, desk: Desk, suspicion: object) -> None:
        self.seen.append(("incident", kind))

    def trespassed(
        self, error: CommandError, command: str, now: float, desk: Desk, lsid: object
    ) -> None:
        self.seen.append(("trespassed", command, error.session))

    def login_failed(self, command: str, claimed: str, reason: str, desk: Desk) -> None:
        self.seen.append(("login failed", command, claimed, reason))

    def crowded(self, error: CommandError, now: float, desk: Desk) -> None:
        self.seen.append(("crowded", error.code))

    def killed(self, own: int, others: int) -> None:
        self.seen.append(("killed", own, others))

    def ruled(
        self, decision: Decision, command: str, now: float, desk: Desk, lsid: object = None
    ) -> None:
        self.seen.append(("ruled", decision.rule, command))

    def control(
        self,
        command: str,
        decision: str,
        targets: int,
        reason: str,
        desk: Desk,
        refusal: object = None,
    ) -> None:
        self.seen.append(("control", command, decision, targets, reason))

    def look(self, now: float) -> None:
        pass

    def late(self, overdue: Overdue, decision: str, code: int | None, now: float) -> None:
        self.seen.append(("late", overdue.txn_number, decision, code))

    def gave_up(self, overdue: Overdue, code: int | None, now: float) -> None:
        self.seen.append(("gave up", overdue.txn_number, code))

    def only(self, kind: str) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.seen if entry[0] == kind]


def converse(
    observer: Watching,
    *,
    facts: UpstreamFacts = UpstreamFacts(),  # noqa: B008 - frozen
    rules: Iterable[tuple[Rule, Mode]] = (),
    store: SessionStore | None = None,
    refuse_early: bool = False,
    sign_refusals: bool = False,
    enabled: bool = True,
    clock: float = 0.0,
    **presentation: Any,
) -> Conversation:
    """A conversation with nothing said yet; ids that it makes up are zero."""
    sessions = Sessions(
        Rules(rules),
        observer,
        store if store is not None else SessionStore(),
        refuse_early=refuse_early,
        sign_refusals=sign_refusals,
        enabled=enabled,
        random=lambda: bytes(16),
        wall_clock=lambda: clock,
    )
    desk = Desk(sessions, 1, "client", UPSTREAM, lambda: facts)
    return Conversation(Presentation(**presentation), observer, desk, HANDLERS)


def identity(conversation: Conversation) -> Identity:
    """Who is authenticated, as far as the proxy knows."""
    return conversation.desk.identity


class Talk:
    """One conversation, driven and checked step by step; its clock stands unless moved."""

    def __init__(self, **how: Any) -> None:
        self.observer = Watching()
        self.conversation = converse(self.observer, **how)
        self.now = 0.0
        self._asked = 0

    def client(self, *frames: bytes) -> Talk:
        """The client sends whole frames; the relay would not hand over any while blocked."""
        for frame in frames:
            assert not self.conversation.blocked, "no request is handed over now"
            self._expected_all()
            self.conversation.on_request(frame, self.now)
        return self

    def upstream(self, *chunks: bytes) -> Talk:
        """Upstream sends bytes, cut anywhere."""
        for chunk in chunks:
            self._expected_all()
            self.conversation.on_upstream(chunk, self.now)
        return self

    def upstream_gets(self, *frames: bytes) -> Talk:
        assert b"".join(self._taken("to_upstream")) == b"".join(frames)
        return self

    def client_gets(self, *frames: bytes) -> Talk:
        assert b"".join(self._taken("to_client")) == b"".join(frames)
        return self

    def client_is_told(self, request: bytes, document: dict[str, Any]) -> Talk:
        """The client gets a reply that the proxy made, with this document."""
        [frame] = self._taken("to_client")
        asked = read_request(request)
        assert asked.opcode == OP_MSG
        made = bson.decode(frame[21:])
        assert frame[8:12] == request[4:8], "responseTo"
        assert made == document
        return self

    def upstream_is_asked(self, **more: Any) -> Talk:
        """The proxy asks upstream who is authenticated."""
        [frame] = self._taken("to_upstream")
        question = read_request(frame)
        assert bson.decode(question.body_bytes()) == {**CONNECTION_STATUS, **more}
        assert question.flags == 0
        assert question.frame is question.message
        assert not question.sequences
        self._asked = question.request_id
        assert self.conversation.blocked
        return self

    def upstream_is_sent(self, *documents: dict[str, Any]) -> Talk:
        """The proxy sends upstream commands of its own, one after the other."""
        sent = []
        for frame in self._taken("to_upstream"):
            request = read_request(frame)
            self._asked = request.request_id
            sent.append(bson.decode(request.body_bytes()))
        assert sent == list(documents)
        return self

    def upstream_says(self, document: dict[str, Any]) -> Talk:
        """Upstream answers the proxy's question."""
        return self.upstream(reply(document, self._asked))

    def quiet(self) -> Talk:
        """Nothing more goes anywhere and the connection lives on."""
        self._expected_all()
        assert (self.conversation.ending, self.conversation.close) == ("", "")
        return self

    def idle(self) -> Talk:
        """As :meth:`quiet`, and nothing is due."""
        self.quiet()
        assert self.conversation.in_flight == 0
        assert not self.conversation.blocked
        assert not self.conversation.streaming
        assert self.conversation.idle
        return self

    def closes(self, kind: str) -> Talk:
        """The connection closes now, for a reason that begins so."""
        self._expected_all()
        assert self.conversation.close.startswith(kind), self.conversation.close
        return self

    def ends(self, kind: str) -> Talk:
        """No request is read any more, but replies are still due."""
        self._expected_all()
        assert self.conversation.ending.startswith(kind)
        assert not self.conversation.close
        return self

    @property
    def identity(self) -> Identity:
        return identity(self.conversation)

    def at(self, now: float) -> Talk:
        self.now = now
        return self

    def _taken(self, queue: str) -> list[bytes]:
        taken: list[bytes] = getattr(self.conversation, queue)
        frames = taken.copy()
        taken.clear()
        return frames

    def _expected_all(self) -> None:
        assert self._taken("to_upstream") == []
        assert self._taken("to_client") == []


def connection_status(*users: tuple[str, str], actions: tuple[str, ...] = ()) -> dict[str, Any]:
    """A reply to connectionStatus with these users and actions on the cluster."""
    return {
        "authInfo": {
            "authenticatedUsers": [{"user": user, "db": database} for user, database in users],
            "authenticatedUserRoles": [],
            "authenticatedUserPrivileges": [
                {"resource": {"cluster": True}, "actions": list(actions)}
            ],
        },
        "ok": 1.0,
    }
