"""A rule behind a connection of the proxy's that has no network and a server that agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal

from bson import Binary, Int64

from proxy.conversation.conversation import Conversation
from proxy.conversation.desk import Desk
from proxy.conversation.exchange import Presentation
from proxy.conversation.facts import UpstreamFacts
from proxy.conversation.handlers import HANDLERS
from proxy.conversation.hello import ClientMetadata
from proxy.conversation.rule import Decision, Mode, Rules
from proxy.conversation.sharing import Sessions
from proxy.session.commands import SESSION_COMMANDS
from proxy.session.identity import Identity
from proxy.settings.loading import built
from proxy.testing.quiet import Quiet
from proxy.wire.messages import read_request
from proxy.wire.replies import command_frame, reply_frame

if TYPE_CHECKING:
    from proxy.conversation.rule import Rule
    from proxy.errors import CommandError

#: Where the clock stands at the beginning: noon of a Monday.
NOON: Final = datetime(2024, 1, 1, 12, tzinfo=UTC)

_UPSTREAM: Final = "upstream.example:27017"
#: maxWireVersion of a server 8.0.
_VERSION: Final = 25

Transaction = Literal["start", "continue"]


@dataclass(frozen=True)
class _Who:
    user: str
    roles: tuple[str, ...]
    actions: tuple[str, ...]
    application: str
    driver: str
    client: str

    def identity(self) -> Identity:
        users = (_pair(self.user),) if self.user else ()
        return Identity(users, tuple(map(_pair, self.roles)), frozenset(self.actions))


class Asking:
    """A rule, made with ``settings`` as the configuration would have them, that is asked about the
    commands with which this is called.

    ``now`` stands still unless it is set, or moved with :meth:`later`; ``wall_now`` too, which
    begins at noon of Monday, 2024-01-01, UTC. Sessions that commands use are known from then on.

    Raises:
        ConfigError: the class is no rule, or does not take these settings.
    """

    def __init__(self, rule: type[Rule] | str, /, **settings: object) -> None:
        self.rule: Final = built(rule, settings)
        #: Seconds on the proxy's clock.
        self.now = 1_000.0
        #: What people's clocks say.
        self.wall_now = NOON
        self._quiet = _Told()
        self._sessions = Sessions(
            Rules([(self.rule, Mode.ENFORCE)]),
            self._quiet,
            wall_clock=lambda: self.wall_now.timestamp(),
        )
        self._clients: dict[_Who, Conversation] = {}
        self._numbers = count(1)
        self._transactions: dict[object, int] = {}

    def __call__(
        self,
        command: Mapping[str, Any],
        *,
        user: str = "",
        roles: Sequence[str] = (),
        actions: Sequence[str] = (),
        application: str = "",
        driver: str = "",
        client: str = "127.0.0.1",
        session: int | None = 1,
        transaction: Transaction | None = None,
    ) -> CommandError | None:
        """What the rule has against a command, None where it goes on and is carried out.

        ``user`` is ``user@db``, "" for nobody on a server without authorization; ``roles`` are
        ``role@db`` and ``actions`` those on the cluster that upstream says the user has. The
        database is ``test`` unless ``$db`` says another. Sessions are numbers, each user's own;
        None is for no session. What the rule raises is raised here.
        """
        who = _Who(user, tuple(roles), tuple(actions), application, driver, client)
        conversation = self._clients.get(who)
        if conversation is None:
            conversation = self._clients[who] = self._connected(who)
        document = {**command}
        document.setdefault("$db", "test")
        name = next(iter(command))
        if session is not None and name not in SESSION_COMMANDS:
            document.setdefault("lsid", {"id": Binary(session.to_bytes(16, "big"), 4)})
        if transaction is not None:
            document |= self._transaction((user, session), transaction)
        decisions = self._quiet.decisions = []
        conversation.on_request(command_frame(next(self._numbers), document), self.now)
        self._carry(conversation, who)
        conversation.to_client.clear()
        for decision in decisions:
            if decision.failure is not None:
                raise decision.failure
            if decision.refused:
                return decision.error
        return None

    def later(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self.now += seconds
        self.wall_now += timedelta(seconds=seconds)

    def _transaction(self, whose: object, transaction: Transaction) -> dict[str, Any]:
        if transaction == "start":
            self._transactions[whose] = self._transactions.get(whose, 0) + 1
        fields = {"txnNumber": Int64(self._transactions.get(whose, 1)), "autocommit": False}
        return {**fields, "startTransaction": True} if transaction == "start" else fields

    def _connected(self, who: _Who) -> Conversation:
        facts = UpstreamFacts(
            authorization=bool(who.user), has_transactions=True, wire_version=_VERSION
        )
        number = len(self._clients) + 1
        desk = Desk(self._sessions, number, who.client, _UPSTREAM, lambda: facts)
        if who.user:
            desk.identified(who.identity())
        desk.introduced(ClientMetadata(who.application, who.driver, "", ""))
        return Conversation(Presentation(), self._quiet, desk, HANDLERS)

    def _carry(self, conversation: Conversation, who: _Who) -> None:
        """Answer all that goes upstream, until nothing does."""
        while conversation.to_upstream or conversation.unfinished:
            conversation.go_on(self.now)
            frames = list(conversation.to_upstream)
            conversation.to_upstream.clear()
            for frame in frames:
                request = read_request(frame)
                if request.expects_reply:
                    answer = _answer(request.command, who)
                    reply = reply_frame(request, next(self._numbers), answer)
                    conversation.on_upstream(reply, self.now)


class _Told(Quiet):
    """Keeps what rules say."""

    decisions: list[Decision]

    def ruled(self, *what: object, **_more: object) -> None:
        assert isinstance(what[0], Decision)
        self.decisions.append(what[0])


def _answer(command: str, who: _Who) -> dict[str, Any]:
    if command != "connectionStatus":
        return {"ok": 1.0}
    identity = who.identity()
    return {
        "authInfo": {
            "authenticatedUsers": [{"user": name, "db": db} for name, db in identity.users],
            "authenticatedUserRoles": [{"role": name, "db": db} for name, db in identity.roles],
            "authenticatedUserPrivileges": [
                {"resource": {"cluster": True}, "actions": sorted(identity.cluster_actions)}
            ],
        },
        "ok": 1.0,
    }


def _pair(name: str) -> tuple[str, str]:
    first, _, database = name.rpartition("@")
    return first, database
