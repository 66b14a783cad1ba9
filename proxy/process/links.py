"""What the supervisor has of each worker: its channel, its connections, and listeners for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from proxy.process.channel import AnswerError, Channel, ChannelClosedError
from proxy.upstream.members import MemberListeners
from proxy.wire.replies import read_reply

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.net.listeners import Listener
    from proxy.wire.replies import Reply


#: Seconds between two looks whether a worker still answers, and for its answer.
_LOOK: Final = 5.0
_SILENCE: Final = 60.0


@dataclass(eq=False, slots=True)
class Link:
    """A worker that runs. ``connections`` is how many it has, by what it told last."""

    slot: int
    channel: Channel
    #: Set when it hears of sessions and takes orders, and when it can have clients.
    hears: bool = False
    ready: trio.Event = field(default_factory=trio.Event)
    connections: int = 0
    #: What it could not begin for.
    problems: list[str] = field(default_factory=list)
    #: The latest of what it has to be told once it hears.
    _late: dict[str, tuple[object, ...]] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        """Whether it can have clients, as far as one knows."""
        return self.ready.is_set() and not self.channel.closed

    def tell(self, what: str, *arguments: object) -> None:
        """Tell it what holds from now on: as soon as it hears, where it is coming up."""
        if self.hears:
            self.channel.tell(what, *arguments)
        else:
            self._late[what] = arguments

    def can_hear(self) -> None:
        """It has come up so far."""
        self.hears = True
        for what, arguments in self._late.items():
            self.channel.tell(what, *arguments)
        self._late.clear()

    async def hangs(self) -> str:
        """Wait until it does not answer any more although it runs; says in what way."""
        with contextlib.suppress(ChannelClosedError, trio.TooSlowError):
            while True:
                with trio.fail_after(_SILENCE):
                    await self.channel.ask("alive")
                await trio.sleep(_LOOK)
        if not self.channel.closed:
            return f"it has not answered for {_SILENCE:g} seconds"
        # It has ended, as a rule, and nobody need say so.
        await trio.sleep(_SILENCE)
        return "it has stopped listening"


async def end(process: trio.Process, channel: Channel, replaced: bool, grace: float) -> None:
    """See to it that a worker ends, within ``grace`` seconds: it does when it is told twice, or
    nobody tells it more. ``replaced`` says that the program has a successor."""
    if process.returncode is None:
        channel.tell("stop", replaced)
        channel.tell("stop", replaced)
        with trio.CancelScope(shield=True), trio.move_on_after(grace):
            await process.wait()
    if process.returncode is None:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
    channel.close()


class HandedListeners(MemberListeners):
    """Listeners that are opened here and accept elsewhere."""

    hand: Callable[[Listener], None]
    withdraw: Callable[[Address], None]

    def _accept(self, listener: Listener, _nursery: trio.Nursery) -> None:
        self.hand(listener)

    def _passed(self, listener: Listener) -> None:
        self.hand(listener)

    def accepting(self) -> list[Listener]:
        """Those that accept by now."""
        return list(self._open.values()) if self._accepting else []

    async def reconcile(self) -> None:
        before = set(self._open)
        await super().reconcile()
        for upstream in before - set(self._open):
            self.withdraw(upstream)


class RemoteAsker:
    """A connection of a worker's that can put a question to its upstream."""

    def __init__(
        self,
        nursery: trio.Nursery,
        link: Link,
        connection: int,
        owner: bytes,
    ) -> None:
        self.speaks_for: bytes | None = owner
        self._nursery = nursery
        self._link = link
        self._connection = connection
        self._owner = owner

    def ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        """Send a command (BSON); ``handler`` gets the reply, if one comes."""
        self._nursery.start_soon(self._ask, question, handler)

    async def _ask(self, question: bytes, handler: Callable[[Reply, float], None]) -> None:
        with contextlib.suppress(ChannelClosedError, AnswerError):
            answer = await self._link.channel.ask("ask as", self._connection, self._owner, question)
            if answer is not None:
                handler(read_reply(answer), trio.current_time())
