"""How far a conversation has come when something goes wrong, and an upstream that can be stopped.

A stage brings a fresh connection to one point and leaves it there: upstream has got what it waits
for, and answers no more of it until a fault lets it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final
from uuid import uuid4

import bson
import trio

from proxy.process.server import Running
from proxy.wire.opcodes import EXHAUST_ALLOWED, MORE_TO_COME
from tests.build import command, reply
from tests.running import Client
from tests.upstreams import RecordingUpstream, Seen, answered, document, echo

#: Longer than what is collected before it is passed on.
LONG: Final = bytes(400_000)

_marks = count(1)


@dataclass
class Scene:
    """The proxy, its upstream, and what the stages need of them."""

    upstream: RecordingUpstream
    running: Running
    #: How a client gets in, where that takes more than a socket.
    connect: Callable[[], Awaitable[Client]] | None = None

    def __post_init__(self) -> None:
        self.upstream.answer = self._answer
        #: Connections of which upstream answers nothing any more but what says so itself.
        self._silent: set[Seen] = set()

    def _answer(self, seen: Seen, frame: bytes) -> Sequence[bytes] | None:
        asked = document(frame)
        what, name = asked.get("do"), next(iter(asked), "")
        if seen in self._silent:
            return ()
        if what == "silence":
            self._silent.add(seen)
            return ()
        if what == "login":
            # Whom it let in is asked next, and stays without an answer.
            self._silent.add(seen)
            done = {"conversationId": 1, "done": True, "payload": b"", "ok": 1.0}
            return (answered(frame, done),)
        if what == "half":
            self._silent.add(seen)
            return (answered(frame, {"ok": 1.0, "long": LONG})[:300_000],)
        if what == "stream":
            self._silent.add(seen)
            first = answered(frame, {"ok": 1.0, "n": 1}, 501, flags=MORE_TO_COME)
            return (first, reply({"ok": 1.0, "n": 2}, 501, 502, flags=MORE_TO_COME))
        if name == "killSessions":
            self._silent.add(seen)
            return ()
        return echo(seen, frame)

    async def arrive(self, **asked: Any) -> tuple[Client, Seen]:
        """A new connection that upstream knows, with a request sent on it."""
        connect = self.connect or partial(Client.connect, self.running)
        client = await connect()
        mark = f"mark {next(_marks)}"
        await client.ping(mark)
        seen = self.upstream.with_mark(mark)
        if asked:
            flags = asked.pop("flags", 0)
            asked.setdefault("$db", "admin")
            await client.send(command(asked, 77, flags=flags))
        return client, seen


async def last(seen: Seen, field: str) -> None:
    """Wait until the last that upstream has got is what has this field; questions of the proxy's
    own may come before it."""
    while field not in document(seen.frames[-1]):
        await seen.got.wait()


def lsid() -> dict[str, Any]:
    return {"id": bson.Binary(uuid4().bytes, 4)}


Stage = Callable[[Scene], Awaitable[tuple[Client, Seen]]]


async def accepted(scene: Scene) -> tuple[Client, Seen]:
    """Connected, and nothing asked that has no answer yet."""
    return await scene.arrive()


async def hello(scene: Scene) -> tuple[Client, Seen]:
    client, seen = await scene.arrive(hello=1, do="silence")
    await seen.frame_count(2)
    return client, seen


async def login(scene: Scene) -> tuple[Client, Seen]:
    """Upstream has let the client in, and was asked who it is."""
    client, seen = await scene.arrive(saslStart=1, mechanism="PLAIN", payload=b"x", do="login")
    await seen.frame_count(3)
    assert next(iter(document(seen.frames[-1]))) == "connectionStatus"
    return client, seen


async def request(scene: Scene) -> tuple[Client, Seen]:
    """An operation of a session is in flight."""
    client, seen = await scene.arrive(find="c", lsid=lsid(), do="silence", **{"$db": "shop"})
    await last(seen, "do")
    return client, seen


async def in_reply(scene: Scene) -> tuple[Client, Seen]:
    """Half of a long reply has arrived at the client."""
    client, seen = await scene.arrive(find="c", lsid=lsid(), do="half", **{"$db": "shop"})
    assert await client.stream.receive_some(1_000)
    return client, seen


async def exhaust(scene: Scene) -> tuple[Client, Seen]:
    """Two replies of a stream have come, and more are announced."""
    client, seen = await scene.arrive(hello=1, do="stream", flags=EXHAUST_ALLOWED)
    for number in (1, 2):
        frame = await client.receive()
        assert frame is not None
        assert document(frame)["n"] == number
    return client, seen


async def transaction(scene: Scene) -> tuple[Client, Seen]:
    """The second statement of an open transaction is in flight."""
    client, seen = await scene.arrive()
    about = {"lsid": lsid(), "txnNumber": bson.Int64(1), "autocommit": False, "$db": "shop"}
    begun = await client.ask(command({"find": "c", "startTransaction": True, **about}, 76))
    assert begun is not None
    await client.send(command({"find": "c", "do": "silence", **about}, 77))
    await last(seen, "do")
    return client, seen


async def kill(scene: Scene) -> tuple[Client, Seen]:
    """A kill has been decided and is upstream's to carry out."""
    client, seen = await scene.arrive(killSessions=[lsid()])
    await last(seen, "killSessions")
    return client, seen


async def unacknowledged(scene: Scene) -> tuple[Client, Seen]:
    """A write without a reply has gone upstream, and half of another message has been sent."""
    client, seen = await scene.arrive(
        insert="c", documents=[{}], lsid=lsid(), flags=MORE_TO_COME, **{"$db": "shop"}
    )
    await client.send(command({"ping": 1, "$db": "admin"})[:21])
    await last(seen, "insert")
    return client, seen


STAGES: Final[dict[str, Stage]] = {
    "accept": accepted,
    "hello": hello,
    "login": login,
    "request": request,
    "reply": in_reply,
    "exhaust": exhaust,
    "transaction": transaction,
    "kill": kill,
    "unacknowledged": unacknowledged,
}


async def read_to_the_end(client: Client) -> None:
    """Whatever there is for the client, until the proxy closes."""
    try:
        while await client.stream.receive_some(65_536):
            pass
    except trio.BrokenResourceError:
        return
