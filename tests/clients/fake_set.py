"""A replica set of several members that knows nothing but hello: for topology seen by drivers.

Every member listens on a port of its own and is known by that address. What hello says follows
from `FakeSet`'s fields: change them and call `changed`, as an election or a reconfiguration would.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import bson
import trio

from tests.replay import FrameStream, answered, document

NOT_PRIMARY = {
    "ok": 0.0,
    "errmsg": "not master",
    "code": 10107,
    "codeName": "NotMaster",
    "errorLabels": ["RetryableWriteError"],
}
LIMITS = {
    "maxBsonObjectSize": 16777216,
    "maxMessageSizeBytes": 48000000,
    "maxWriteBatchSize": 100000,
    "logicalSessionTimeoutMinutes": 30,
    "minWireVersion": 0,
    "maxWireVersion": 9,
    "ok": 1.0,
}


class FakeSet:
    """``ports`` are all members; the other sets, and ``primary``, say what some of them are."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._listeners: dict[int, trio.CancelScope] = {}
        self._process = {}
        self._moved = trio.Event()
        self.ports: list[int] = []
        self.passives: set[int] = set()
        self.arbiters: set[int] = set()
        self.hidden: set[int] = set()
        self.primary = 0
        self.term = 1
        self.version = 1
        self._counter = 1

    async def add(self) -> int:
        """One more member, not yet told to anybody; its port."""
        port = int(await self._nursery.start(self._serve))
        self._process[port] = bson.ObjectId()
        self.ports.append(port)
        return port

    async def remove(self, port: int) -> None:
        """A member leaves: it is configured out and stops."""
        self.ports.remove(port)
        self.version += 1
        self.changed()
        self._listeners.pop(port).cancel()

    def elect(self, port: int) -> None:
        self.primary = port
        self.term += 1
        self.changed()

    def changed(self) -> None:
        """Whoever waits for news in an awaitable hello gets it."""
        self._counter += 1
        self._moved.set()
        self._moved = trio.Event()

    async def _serve(self, task_status: trio.TaskStatus[int]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = int(listeners[0].socket.getsockname()[1])
        with trio.CancelScope() as scope:
            self._listeners[port] = scope
            async with trio.open_nursery() as nursery:
                handle = partial(self._handle, port)
                await nursery.start(trio.serve_listeners, handle, listeners)
                task_status.started(port)

    async def _handle(self, port: int, stream: trio.SocketStream) -> None:
        async with stream:
            frames = FrameStream(stream)
            try:
                while (frame := await frames.receive()) is not None:
                    reply = await self._reply(port, document(frame))
                    await frames.send(answered(frame, 1, reply))
            except (trio.BrokenResourceError, AssertionError):
                pass

    async def _reply(self, port: int, request: dict[str, Any]) -> dict[str, Any]:
        name = next(iter(request))
        if name in {"hello", "isMaster", "ismaster"}:
            known = request.get("topologyVersion")
            if known == self._topology_version(port):
                with trio.move_on_after(request["maxAwaitTimeMS"] / 1000):
                    await self._moved.wait()
            return self.hello(port, legacy=name != "hello")
        if name == "find":
            batch = [{"_id": port}]
            cursor = {"firstBatch": batch, "id": bson.Int64(0), "ns": f"{request['$db']}.c"}
            return {"cursor": cursor, "ok": 1.0}
        if name == "insert":
            if port == self.primary:
                return {"n": 1, "ok": 1.0}
            return NOT_PRIMARY | {"topologyVersion": self._topology_version(port)}
        if name == "connectionStatus":
            info: dict[str, Any] = {"authenticatedUsers": [], "authenticatedUserRoles": []}
            return {"authInfo": info | {"authenticatedUserPrivileges": []}, "ok": 1.0}
        return {"ok": 1.0}

    def _topology_version(self, port: int) -> dict[str, Any]:
        return {"processId": self._process[port], "counter": bson.Int64(self._counter)}

    def hello(self, port: int, *, legacy: bool) -> dict[str, Any]:
        plain = set(self.ports) - self.passives - self.arbiters - self.hidden
        reply: dict[str, Any] = {
            "topologyVersion": self._topology_version(port),
            "hosts": names(plain),
            "setName": "fake",
            "setVersion": self.version,
            "ismaster" if legacy else "isWritablePrimary": port == self.primary,
            "secondary": port != self.primary and port not in self.arbiters,
            "primary": name_of(self.primary),
            "me": name_of(port),
        }
        if self.passives:
            reply["passives"] = names(self.passives)
        if self.arbiters:
            reply["arbiters"] = names(self.arbiters)
        for flag, ports in (("arbiterOnly", self.arbiters), ("hidden", self.hidden)):
            if port in ports:
                reply[flag] = True
        if port in self.passives:
            reply["passive"] = True
        if port == self.primary:
            reply["electionId"] = bson.ObjectId(f"7fffffff{self.term:016x}")
        return reply | {"helloOk": True} | LIMITS


def name_of(port: int) -> str:
    return f"127.0.0.1:{port}"


def names(ports: set[int]) -> list[str]:
    return sorted(map(name_of, ports))
