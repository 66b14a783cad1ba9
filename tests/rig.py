"""A relay between a client and an upstream that the test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from proxy.counting import Distribution
from proxy.net.gone import PeerGoneError
from proxy.net.limits import BufferBudget, Share
from proxy.net.relay import Relay
from proxy.net.transport import Transport
from proxy.observe.telemetry import BUCKETS, LEGS
from proxy.settings.limits import Limits
from proxy.wire.opcodes import MORE_TO_COME
from tests.build import body, command, op_msg, reply
from tests.fakes import FakeTransport
from tests.talk import Watching, converse

PING = {"ping": 1, "$db": "admin"}
OK = {"ok": 1.0}
ONE, TWO = (command(PING, number) for number in (1, 2))
FIRST, SECOND = (reply(OK, number, 1000 + number) for number in (1, 2))
SILENT = op_msg(body({"insert": "c", "$db": "t"}), flags=MORE_TO_COME)
LIMITS = Limits(handshake_seconds=20, frame_seconds=30, half_close_seconds=10)


class Rig:
    """A relay between a client and an upstream that the test plays."""

    def __init__(
        self,
        *,
        room: int | None = None,
        fails: str = "",
        budget: int = 1 << 30,
        since: float | None = None,
        **presentation: Any,
    ) -> None:
        self.client = FakeTransport(room)
        self.upstream = FakeTransport()
        self.dialled = 0
        self.fails = fails
        self.observer = Watching()
        self.conversation = converse(self.observer, **presentation)
        self.budget = BufferBudget(budget)
        self.share = Share(self.budget)
        legs = {leg: Distribution(BUCKETS) for leg in LEGS}
        self.relay = Relay(
            self.client, self._dial, self.conversation, LIMITS, self.share, legs, since
        )
        self.finished = trio.Event()
        self.nursery: trio.Nursery

    async def _dial(self, _first: bytes) -> Transport:
        self.dialled += 1
        await trio.lowlevel.checkpoint()
        if self.fails:
            raise PeerGoneError(self.fails)
        return self.upstream

    async def run(self) -> None:
        await self.relay.run()
        assert self.client.closed
        assert self.upstream.closed or not self.relay.connected
        assert self.share.held == 0
        self.finished.set()

    async def says(self, *chunks: bytes) -> bytes:
        """The client sends; returns what upstream then has got."""
        self.client.feed(*chunks)
        await wait_all_tasks_blocked()
        return self.upstream.take()

    async def answers(self, *chunks: bytes) -> bytes:
        """Upstream sends; returns what the client then has got."""
        self.upstream.feed(*chunks)
        await wait_all_tasks_blocked()
        return self.client.take()

    async def ended(self, reason: str) -> None:
        await wait_all_tasks_blocked()
        assert self.finished.is_set(), "still running"
        assert self.relay.reason.startswith(reason)

    async def running(self) -> None:
        await wait_all_tasks_blocked()
        assert not self.finished.is_set(), self.relay.reason


@asynccontextmanager
async def rigged(**how: Any) -> AsyncIterator[Rig]:
    rig = Rig(**how)
    async with trio.open_nursery() as nursery:
        rig.nursery = nursery
        nursery.start_soon(rig.run)
        await wait_all_tasks_blocked()
        yield rig
        nursery.cancel_scope.cancel()
