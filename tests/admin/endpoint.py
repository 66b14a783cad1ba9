"""The admin endpoint with a store of one's own behind it, and a client for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import h11
import trio

from policies.session_budget import SessionBudget
from proxy import admin
from proxy.admin.http import Token
from proxy.conversation.facts import UpstreamFacts
from proxy.observe.history import History
from proxy.observe.namespaces import Uses
from proxy.observe.telemetry import Telemetry
from proxy.session.identity import EVERYBODY, user_digest
from proxy.session.ids import LogicalSessionId, Origin
from proxy.session.records import CursorId, InFlight, Session
from proxy.session.store import SessionStore
from proxy.wire.opcodes import OP_MSG
from proxy.wire.replies import Reply, plain_reply, read_reply

IP = "127.0.0.1"
TOKEN = "0123456789abcdef"
AUTHORIZED = {"authorization": f"Bearer {TOKEN}"}
UPSTREAM = "db:27017"


def uuid(number: int) -> bytes:
    return UUID(int=number).bytes


def reply(document: Mapping[str, Any]) -> Reply:
    return read_reply(plain_reply(OP_MSG, 1, 1, document))


class FakeAsker:
    """A connection whose upstream answers ``answers`` in turn, the last one for ever."""

    def __init__(self, *answers: Mapping[str, Any] | None) -> None:
        self.asked: list[bytes] = []
        self.speaks_for: bytes | None = None
        self.busy = False
        self._answers = list(answers) or [{"ok": 1.0}]

    def ask(self, question: bytes, handler: Any) -> None:
        self.asked.append(question)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if answer is not None:
            handler(reply(answer), trio.current_time())


class FakeState:
    """A running proxy as the endpoint sees it."""

    def __init__(self) -> None:
        self.store = SessionStore()
        self.is_ready = (True, "")
        self.is_draining = False
        #: Further connections beside the one in ``asking``, by upstream and owner.
        self.others: dict[tuple[str, bytes], list[FakeAsker]] = {}
        #: Those of them that may kill anybody's sessions.
        self.for_everybody: list[FakeAsker] = []
        self.rows: Iterable[dict[str, Any]] = ()
        self.per_user, self.per_application = 0, 0
        self.lately: tuple[Uses, float] = {}, 0.0
        self.asking: dict[str, dict[bytes, FakeAsker]] = {}
        self.known = UpstreamFacts(authorization=True)
        self.audited: list[dict[str, Any]] = []
        self.counted: list[tuple[str, int]] = []
        self.ended: list[InFlight] = []
        #: Rows of connections by number, which are gone when they are interrupted or closed.
        self.open: dict[int, dict[str, Any]] = {}
        self.cut: list[tuple[int, int]] = []
        #: Brings what other processes have not told yet; None where there are none.
        self.untold: Callable[[], object] | None = None

    def namespaces_lately(self) -> tuple[Uses, float]:
        return self.lately

    def add(
        self,
        number: int,
        user: str = "alice@admin",
        *,
        age: float = 0.0,
        application: str = "shop",
        driver: str = "PyMongo",
        client: str = "10.0.0.1",
        command: str = "",
        cursor: int = 0,
    ) -> Session:
        """A session whose id is ``number``, with a command in flight or a cursor if named."""
        name, _, database = user.partition("@")
        lsid = LogicalSessionId(uuid(number), user_digest(name, database))
        origin = Origin(client, application, driver, "4.20")
        now = trio.current_time() - age
        started = self.store.operation_started(
            lsid,
            now,
            user=user,
            origin=origin,
            connection=7,
            request_id=number,
            command=command,
            upstream=UPSTREAM,
        )
        assert started is not None
        if cursor:
            self.store.cursor_opened(
                CursorId(UPSTREAM, cursor), started.session, "shop.orders", now
            )
        if not command:
            self.store.operation_finished(started, now)
        return started.session

    async def catch_up(self) -> bool:
        if self.untold is not None:
            self.untold()
        return self.untold is not None

    async def connection_rows(self) -> list[dict[str, Any]]:
        return list(self.rows)

    async def upstream_rows(self) -> list[dict[str, Any]]:
        return [{"upstream": UPSTREAM, "role": "primary", "up": True, "listener": "127.0.0.1:1"}]

    def rules(self) -> list[dict[str, Any]]:
        row = {"rule": "ownership", "name": "ownership", "mode": "enforce", "settings": {}}
        return [row | {"about": "Owns."}]

    def about(self) -> dict[str, Any]:
        return {"version": "1.2.3"}

    def budget(self) -> SessionBudget:
        return SessionBudget(SessionBudget.Settings(self.per_user, self.per_application))

    def ready(self) -> tuple[bool, str]:
        return self.is_ready

    def draining(self) -> bool:
        return self.is_draining

    async def askers(self) -> dict[str, dict[bytes, list[FakeAsker]]]:
        found: dict[str, dict[bytes, list[FakeAsker]]] = {}
        for upstream, connections in self.asking.items():
            for owner, asker in connections.items():
                known = found.setdefault(upstream, {}).setdefault(owner, [])
                for one in (asker, *self.others.get((upstream, owner), ())):
                    one.speaks_for = None if one.busy else owner
                    known.append(one)
                    if one in self.for_everybody:
                        found[upstream].setdefault(EVERYBODY, []).append(one)
        return found

    def facts(self, upstream: str) -> UpstreamFacts:
        return self.known

    def end_operation(self, operation: InFlight) -> None:
        self.ended.append(operation)

    async def connection(self, number: int) -> dict[str, Any] | None:
        return self.open.get(number)

    async def interrupt(self, number: int, request_id: int) -> bool:
        self.cut.append((number, request_id))
        row = self.open.get(number)
        return row is not None and row["operation"] == request_id and bool(self.open.pop(number))

    async def hang_up(self, number: int) -> bool:
        return self.open.pop(number, None) is not None

    def audit(self, **what: Any) -> None:
        self.audited.append(what)

    def count_kill(self, decision: str, sessions: int) -> None:
        self.counted.append((decision, sessions))


class Client:
    """One HTTP connection to the endpoint."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def ask(
        self, target: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        if self.http.our_state is h11.DONE:
            self.http.start_next_cycle()
        fields = {"host": IP} | ({"content-length": str(len(body))} if body else {})
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = h11.Request(method=method, target=target, headers=list(fields.items()))
        sent = self.http.send(request)
        if body:
            sent += self.http.send(h11.Data(data=body))
        await self.stream.send_all(sent + self.http.send(h11.EndOfMessage()))
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = 0, {}, b""
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.stream.receive_some())
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, headers, body
            elif not isinstance(event, h11.InformationalResponse):
                raise AssertionError(event)

    async def kill(self, document: object, **headers: str) -> tuple[int, Any]:
        """POST /kill with the token; what is not JSON comes back as text."""
        return await self.act("kill", document, **headers)

    async def act(self, action: str, document: object, **headers: str) -> tuple[int, Any]:
        """As :meth:`kill`, another action."""
        sent = {"content_type": "application/json"} | AUTHORIZED | headers
        status, _, body = await self.ask(
            f"/{action}", "POST", json.dumps(document).encode(), **sent
        )
        return status, json.loads(body) if body.startswith(b"{") else body.decode()

    async def rows(self, target: str) -> Any:
        """The document of a page that is there."""
        status, _, body = await self.ask(target)
        assert status == 200, body
        return json.loads(body)


@asynccontextmanager
async def endpoint(
    state: FakeState, address: str = f"{IP}:0", token: Token = TOKEN
) -> AsyncIterator[int]:
    telemetry = Telemetry("1.2.3")
    overview = admin.Process(state, telemetry, executes=token is not None)
    overview.remembered = admin.Remembered(History(trio.current_time, 1, 1 << 20))
    table = admin.pages(overview)
    async with trio.open_nursery() as nursery:
        where = await nursery.start(admin.serve, address, table, token)
        yield int(where.rpartition(":")[2])
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Client]:
    async with await trio.open_tcp_stream(IP, port) as stream:
        yield Client(stream)


@asynccontextmanager
async def asking(state: FakeState, token: Token = TOKEN) -> AsyncIterator[Client]:
    async with endpoint(state, token=token) as port, connected(port) as client:
        yield client


async def get(state: FakeState, target: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with asking(state) as client:
        return await client.ask(target, **headers)
