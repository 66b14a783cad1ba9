"""Members of replica sets that answer hello as a script says and own up to nothing else.

    async with replica_set("a") as fake:    # a listens, and is the primary
        await fake.join("b")                # b listens, and is in the set from now on

Every member answers ``whoami`` with its name, takes writes only while it is the primary, and
names the members by the addresses that `Deployment.address` gives them, which nobody but the
proxy may ever see.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import bson
import trio

from proxy.upstream.places import ports
from proxy.wire.opcodes import HEADER, MORE_TO_COME, OP_MSG
from tests.build import reply
from tests.ports import free_port
from tests.upstreams import HELLO, RecordingUpstream, Seen, answered, document

NOT_PRIMARY = {
    "ok": 0.0,
    "errmsg": "not master",
    "code": 10107,
    "codeName": "NotMaster",
    "errorLabels": ["RetryableWriteError"],
}


@dataclass(eq=False)
class Member:
    """``role`` is "", "passive" (priority 0), "hidden" or "arbiter"; ``name`` is for the test."""

    name: str
    role: str
    upstream: RecordingUpstream
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    writes: int = 0
    #: Requests for hello that are answered again and again, with the last answer's id.
    streams: list[tuple[Seen, int]] = field(default_factory=list)
    #: The address it is configured under, if that is not where it listens.
    alias: str = ""

    @property
    def address(self) -> str:
        """What the set calls it."""
        return self.alias or f"127.0.0.1:{self.upstream.port}"


class Deployment:
    """The set's state, and its members by name in the order of the configuration."""

    def __init__(self, set_name: str = "rs", nursery: trio.Nursery | None = None) -> None:
        self.set_name = set_name
        self._nursery = nursery
        self.members: dict[str, Member] = {}
        self.primary: str | None = None
        self.term = 1
        self.version = 1
        self._counter = 1
        self._moved = trio.Event()

    async def add(
        self,
        name: str,
        role: str = "",
        *,
        port: int = 0,
        task_status: trio.TaskStatus[Member] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve one more member until it is removed."""
        upstream = RecordingUpstream()
        upstream.port = port or self._undisputed()
        member = Member(name, role, upstream)
        upstream.answer = lambda seen, frame: self._answer(member, seen, frame)
        with member.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(upstream.serve)
                nursery.start_soon(self._stream, member)
                self.members[name] = member
                self.changed(configured=True)
                task_status.started(member)

    async def join(self, name: str, role: str = "", port: int = 0) -> Member:
        """Have one more member, which is served as long as the set is."""
        assert self._nursery is not None
        member: Member = await self._nursery.start(partial(self.add, name, role, port=port))
        return member

    def remove(self, name: str) -> None:
        """Configure a member out and stop it."""
        self.members.pop(name).scope.cancel()
        self.changed(configured=True)

    def elect(self, name: str | None) -> None:
        """Make somebody the primary; None for nobody."""
        self.primary = name
        self.term += name is not None
        self.changed()

    def changed(self, configured: bool = False) -> None:
        self.version += configured
        self._counter += 1
        self._moved.set()
        self._moved = trio.Event()

    def _undisputed(self) -> int:
        """A port whose member has its listener where nobody else's has to move away for it."""
        others = self.addresses()
        while True:
            port = free_port()
            name = f"127.0.0.1:{port}"
            if ports(0, (*others, name)) == ports(0, others) | ports(0, [name]):
                return port

    def addresses(self) -> list[str]:
        return [member.address for member in self.members.values()]

    async def _stream(self, member: Member) -> None:
        while True:
            await self._moved.wait()
            for place, (seen, last) in enumerate(member.streams):
                told = self.hello(member)
                member.streams[place] = (seen, last + 1)
                await seen.stream.send_all(reply(told, last, last + 1, flags=MORE_TO_COME))

    def _answer(self, member: Member, seen: Seen, frame: bytes) -> Sequence[bytes]:
        request = document(frame)
        name = next(iter(request), "")
        if name in ("hello", "isMaster", "ismaster"):
            told = self.hello(member, legacy=name != "hello")
            if request.get("helloOk"):
                told["helloOk"] = True
            if HEADER.unpack_from(frame)[3] == OP_MSG and frame[18] & 1:  # exhaustAllowed
                member.streams.append((seen, 5000))
                return (answered(frame, told, flags=MORE_TO_COME),)
            return (answered(frame, told),)
        if name == "whoami":
            told = {"ok": 1.0, "name": member.name}
        elif name in ("insert", "update", "delete"):
            if self.primary == member.name:
                member.writes += 1
                told = {"ok": 1.0, "n": 1}
            else:
                told = dict(NOT_PRIMARY)
        elif name == "find":
            cursor = {"firstBatch": [{"_id": member.name}], "id": bson.Int64(0), "ns": "app.c"}
            told = {"ok": 1.0, "cursor": cursor}
        elif name == "refreshSessions":
            told = {"ok": 0.0, "code": 59, "codeName": "CommandNotFound", "errmsg": "no"}
        else:
            told = {"ok": 1.0}
        return (answered(frame, told),)

    def hello(self, member: Member, *, legacy: bool = False) -> dict[str, Any]:
        """What the member says; no ``topologyVersion``, so that drivers ask instead of waiting."""
        by_role: dict[str, list[str]] = {}
        for other in self.members.values():
            by_role.setdefault(other.role, []).append(other.address)
        is_primary = self.primary == member.name
        told: dict[str, Any] = {
            "setName": self.set_name,
            "setVersion": self.version,
            "ismaster" if legacy else "isWritablePrimary": is_primary,
            "secondary": not is_primary and member.role != "arbiter",
            "hosts": by_role.get("", []),
        }
        for role, key in (("passive", "passives"), ("arbiter", "arbiters")):
            if role in by_role:
                told[key] = by_role[role]
        if self.primary is not None:
            told["primary"] = self.members[self.primary].address
        if is_primary:
            told["electionId"] = bson.ObjectId(f"7fffffff{self.term:016x}")
        if member.role == "arbiter":
            told["arbiterOnly"] = True
        if member.role in ("hidden", "passive"):
            told["passive"] = True
        if member.role == "hidden":
            told["hidden"] = True
        told["me"] = member.address
        shared = {key: value for key, value in HELLO.items() if key != "ismaster"}
        return {**told, **shared}


@asynccontextmanager
async def replica_set(*members: str, **roles: str) -> AsyncIterator[Deployment]:
    """A set whose first member is the primary.

    Its members are there until the end, so that drivers which are closed before still find them: a
    driver that has lost them would look for them to end its sessions.
    """
    async with trio.open_nursery() as nursery:
        fake = Deployment(nursery=nursery)
        for name in members:
            await fake.join(name)
        for name, role in roles.items():
            await fake.join(name, role)
        fake.elect(next(iter(members), None))
        yield fake
        nursery.cancel_scope.cancel()
