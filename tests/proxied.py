"""The embedded server with a conversation of the proxy's in front of it, without sockets."""

from __future__ import annotations

from typing import Any

from proxy.addresses import Address
from proxy.conversation.conversation import Conversation
from proxy.conversation.desk import Desk
from proxy.conversation.exchange import Presentation
from proxy.conversation.handlers import HANDLERS
from proxy.conversation.sharing import Sessions
from proxy.embedded.connection import Step
from proxy.embedded.node import Node
from proxy.settings.rules import RuleTables, make_rules
from proxy.upstream.facts import PROBE, SECOND_PROBE, Upstreams, process_of
from proxy.wire.replies import command_frame
from tests.embedded.support import NOW, Client
from tests.talk import Watching

UPSTREAM = Address("upstream", 27017)


class Proxy:
    """What connections through one proxy to one server share; ``tables`` configure the rules."""

    def __init__(self, server: Node, tables: Any = None, native: bool | None = None) -> None:
        self.server = server
        self.recorder = Observing(self)
        self.sessions = Sessions(make_rules(tables or RuleTables()), self.recorder)
        self.upstreams = Upstreams(native=native)
        self.look()
        self.clients: list[ProxiedClient] = []

    def look(self) -> None:
        """Find out about upstream as the watcher does."""
        asking = Client(self.server)
        hello = asking.run("isMaster")
        self.upstreams.hello(UPSTREAM, hello)
        answers = asking.ask(dict(PROBE)), asking.ask(dict(SECOND_PROBE))
        self.upstreams.probed(UPSTREAM, *answers, process_of(hello))

    def connect(self, now: float = NOW) -> ProxiedClient:
        client = ProxiedClient(self, len(self.clients) + 1, now)
        self.clients.append(client)
        return client


class Observing(Watching):
    """An observer that finds other connections through the same proxy."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def ask_as(self, owner: bytes, upstream: str, question: bytes) -> bool:
        for client in self._proxy.clients:
            conversation = client.conversation
            if conversation.quiet and conversation.desk.caller.digest == owner:
                conversation.ask_between([question], lambda _number, _reply, _now: None, client.now)
                client.carry()
                return True
        return False


class ProxiedClient(Client):
    """One client connection through the proxy."""

    def __init__(self, proxy: Proxy, number: int, now: float) -> None:
        super().__init__(proxy.server, now)
        self.proxy = proxy
        desk = Desk(
            proxy.sessions,
            number,
            "127.0.0.1",
            "upstream:27017",
            lambda: proxy.upstreams.of(UPSTREAM),
        )
        self.conversation = Conversation(Presentation(), proxy.recorder, desk, HANDLERS)

    def send(self, frame: bytes) -> list[bytes]:
        """Hand over one frame and carry everything to and fro; what the client then gets."""
        self.conversation.on_request(frame, self.now)
        self.carry()
        got = list(self.conversation.to_client)
        self.conversation.to_client.clear()
        return got

    def carry(self) -> None:
        """Bring upstream what is meant for it, and its replies back."""
        conversation = self.conversation
        while conversation.to_upstream:
            frames = list(conversation.to_upstream)
            conversation.to_upstream.clear()
            for one in frames:
                for reply in self.connection.receive(one, self.now).frames:
                    conversation.on_upstream(reply, self.now)
        assert not conversation.close, conversation.close

    def step(self, body: dict[str, Any]) -> Step:
        self._request_id += 1
        return Step(self.send(command_frame(self._request_id, body)))
