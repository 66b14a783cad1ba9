"""One of several processes that serve clients on the same listeners, under a supervisor.

It is the server that one process alone would be, but is handed its listeners, asks and tells the
others through the supervisor, and does what that says: signals are not for it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy import logs, memory
from proxy.addresses import Address  # noqa: TC001
from proxy.errors import ConfigError
from proxy.net.listeners import Listener, accept
from proxy.observe import gauges
from proxy.observe.scraping import own_part
from proxy.process.channel import Channel, ChannelClosedError
from proxy.process.connection import by_owner
from proxy.process.draining import Draining
from proxy.process.reloading import read_certificates, take_over
from proxy.process.server import Server
from proxy.session.known import SharedUsers
from proxy.session.records import InFlight
from proxy.session.replica import SharedStore
from proxy.settings.config import restored
from proxy.settings.rules import make_rules
from proxy.upstream.members import announce

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.net.inherited import Inherited, Placed
    from proxy.observe.families import Page
    from proxy.observe.merging import Family
    from proxy.process.channel import Handler
    from proxy.process.server import Running
    from proxy.session.counts import Told
    from proxy.settings.listen import Listen
    from proxy.upstream.topology import Topology
    from proxy.wire.replies import Reply

#: Seconds between two tellings of what has happened to sessions; what is done to them is told at
#: once.
TELLING: Final = 0.1

#: What each process's store counts for itself.
SUMMED: Final = ("untracked", "vague_origins")

#: Seconds that upstream may take for what is asked in a supervisor's stead.
_PATIENCE: Final = 10.0


class SharedClock(trio.abc.Clock):
    """Times that all processes of a machine agree on, since they tell them each other."""

    def start_clock(self) -> None:
        """Nothing has to be done for it."""

    def current_time(self) -> float:
        """Seconds since the machine started."""
        return monotonic()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """How long it is until then."""
        return deadline - monotonic()


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker has to know to begin.

    ``config`` is plain. It numbers its connections ``first``, ``first + stride`` and so on, so that
    no two in any worker ever have the same number.
    """

    config: dict[str, Any]
    slot: int
    first: int
    stride: int


#: What a worker has to say for the metrics: its families, and what its store has counted.
Part = tuple["list[Family]", "Told", dict[str, int]]


class GivenListeners:
    """Listeners that the supervisor has opened, and closes."""

    def __init__(
        self,
        topology: Topology,
        settings: Listen,
        take: Callable[[Listener, socket.socket, str], None],
        exhausted: Callable[[OSError], None],
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._take = take
        self._exhausted = exhausted
        self._open: dict[Address, Listener] = {}
        self._nursery: trio.Nursery | None = None

    def addresses(self) -> list[str]:
        return []

    async def open_seeds(self, _seeds: tuple[Address, ...], nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def accept(self) -> None:
        """They accept from the moment on when they are given."""

    async def reconcile(self) -> None:
        """That is the supervisor's task."""

    def placed(self) -> list[tuple[Placed, Listener]]:
        return []

    def leave(self) -> None:
        """They are nobody's but the supervisor's."""

    def close(self) -> None:
        for listener in self._open.values():
            listener.close()
        self._open.clear()

    def given(self, upstream: Address, address: Address, sockets: list[socket.socket]) -> None:
        """Accept on these, which listen on ``address`` for the member ``upstream``."""
        listener = Listener(address, upstream, sockets, own=False)
        nursery = self._nursery
        if nursery is None or nursery.cancel_scope.cancel_called:
            listener.close()
            return
        self.gone(upstream)
        self._open[listener.upstream] = listener
        announce(listener, self._topology, self._settings)
        for sock in sockets:
            sock.setblocking(False)
            nursery.start_soon(accept, sock, partial(self._take, listener), self._exhausted)

    def gone(self, upstream: Address) -> None:
        """Accept no more for this member."""
        listener = self._open.pop(upstream, None)
        if listener is not None:
            self._topology.closed(listener.upstream)
            listener.close()


class Worker(Server):
    """The server of one of several processes."""

    def __init__(self, orders: Orders, channel: Channel) -> None:
        self._orders_given = orders
        self._replaced = False
        self._channel = channel
        self._news = trio.Event()
        self._told = (-1, -1)
        super().__init__(restored(orders.config))
        self.log = self.log.bind(worker=orders.slot)
        self._numbers = itertools.count(orders.first, orders.stride)
        self._draining = Draining(self._open, self.store, alone=False)

    # ------------------------------------------------------------------ what it does otherwise

    def _make_store(self) -> SharedStore:
        sessions = self.config.sessions
        self._sessions = SharedStore(
            max_sessions=sessions.max_sessions, max_cursors=sessions.max_cursors
        )
        self._sessions.hurry = self._hurry
        self._sessions.ends_operations = lambda upstream: not self.facts(upstream).native
        self._sessions.end_operation = self.end_own
        return self._sessions

    def _make_known(self) -> SharedUsers:
        self._users = SharedUsers()
        return self._users

    def _make_listeners(self, _inherited: Inherited) -> GivenListeners:
        self._given = GivenListeners(self.topology, self.config.listen, self._take, self._exhausted)
        return self._given

    def _read_gauges(self, sources: gauges.Sources, page: Page) -> Iterator[None]:
        return gauges.read_own(sources, page)

    def workers(self) -> tuple[int, int]:
        return 0, 0

    def _owns(self, connection: int) -> bool:
        orders = self._orders_given
        return (connection - orders.first) % orders.stride == 0

    def _announce(self, running: Running) -> None:
        """The supervisor says where the proxy is."""

    async def _begin(self, services: trio.Nursery, _serving: trio.Nursery) -> None:
        services.start_soon(self._tell_news)

    def _orders(self, _services: trio.Nursery) -> dict[int, Callable[[], object]]:
        """Signals are for the supervisor."""
        return {}

    def _number_from(self, _first: int) -> None:
        """The supervisor says where that is."""

    def _drain(self, serving: trio.Nursery) -> None:
        self.log.info("draining", connections=len(self._open))
        self._draining.begin(serving, self.config.limits, replaced=self._replaced)

    def end_operation(self, operation: InFlight) -> None:
        if operation.connection in self._open:
            super().end_operation(operation)
        else:
            self._channel.tell("end operation", tuple(operation))

    # ------------------------------------------------------------------ telling

    def _hurry(self) -> None:
        self._news.set()

    async def _tell_news(self) -> None:
        while True:
            self._tell_all()
            with trio.move_on_after(TELLING):
                await self._news.wait()
            self._news = trio.Event()

    async def farewell(self) -> None:
        """Tell the rest, and wait until it has arrived."""
        self._tell_all()
        with contextlib.suppress(ChannelClosedError):
            await self._channel.ask("bye", await self._metrics())

    def _tell_all(self) -> None:
        while told := self._sessions.news():
            self._channel.tell("sessions", told)
        while users := self._users.news():
            self._channel.tell("users", users)
        last = self._orders_given.first if not self._open else max(next(reversed(self._open)), 0)
        counts = len(self._open), last
        if counts != self._told:
            self._told = counts
            self._channel.tell("connections", *counts)

    # ------------------------------------------------------------------ being asked and told

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """What the supervisor may ask and tell."""
        return {
            "listener": self._given.given,
            "no listener": self._given.gone,
            "sessions": self._sessions.take_in,
            "users": self._users.take_in,
            "elsewhere": self._elsewhere,
            "stop": self._end,
            "numbers": self._renumber,
            "settings": self._settings,
            "certificates": partial(read_certificates, self),
            "end operation": lambda operation: self.end_own(InFlight(*operation)),
            "connection rows": self.connection_rows,
            "incidents": self._incidents,
            "metrics": self._metrics,
            "askers": self._askers,
            "ask as": self._ask_as,
        }

    def end_own(self, operation: InFlight) -> None:
        """End an operation if it is in flight here."""
        if operation.connection in self._open:
            super().end_operation(operation)

    def _end(self, replaced: bool) -> None:
        self._replaced = replaced
        self.stop()

    def _renumber(self, first: int) -> None:
        """Number connections from the next one behind ``first`` that is this worker's."""
        orders = self._orders_given
        first += (orders.first - first) % orders.stride
        self._numbers = itertools.count(first, orders.stride)

    def _elsewhere(self, connections: int) -> None:
        self.places.elsewhere = connections

    def _settings(self, plain: dict[str, Any]) -> None:
        """What the supervisor has read and found right."""
        config = restored(plain)
        take_over(self, config, make_rules(config.policies))

    def _incidents(self) -> list[list[tuple[tuple[str, ...], float]]]:
        telemetry = self.telemetry
        recent = telemetry.session_incidents, telemetry.rule_incidents
        return [[(tuple(one), when) for one, when in some.items()] for some in recent]

    async def _metrics(self) -> Part:
        own = {name: getattr(self._sessions, name) for name in SUMMED}
        return await own_part(self.telemetry), self._sessions.counts.told(), own

    def _askers(self) -> dict[str, dict[bytes, list[tuple[int, bytes]]]]:
        return {
            upstream: {
                owner: [(one.id, who) for one in some if (who := one.speaks_for) is not None]
                for owner, some in owners.items()
            }
            for upstream, owners in by_owner(self._open.values()).items()
        }

    async def _ask_as(self, connection: int, owner: bytes, question: bytes) -> bytes | None:
        """Upstream's answer to a question that this connection puts as ``owner``; None for none."""
        asker = self._open.get(connection)
        if asker is None or asker.speaks_for != owner:
            return None
        answered = trio.Event()
        answers: list[bytes] = []

        def take(reply: Reply, _now: float) -> None:
            answers.append(bytes(reply.message))
            answered.set()

        asker.ask(question, take)
        with trio.move_on_after(_PATIENCE):
            await answered.wait()
        return answers[0] if answers else None


async def _work(channel: Channel) -> None:
    begun: list[Orders] = []
    ordered = trio.Event()

    def begin(orders: Orders) -> None:
        begun.append(orders)
        ordered.set()

    handlers: dict[str, Handler] = {"begin": begin}
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def listen() -> None:
            await channel.run(handlers)
            # Nobody is there any more who could say so.
            ordered.set()
            for one in workers:
                one.stop()

        workers: list[Worker] = []
        await ordered.wait()
        if not begun:
            return
        config = restored(begun[0].config)
        logs.configure(config.log.format, config.log.level)
        try:
            worker = Worker(begun[0], channel)
        except ConfigError as error:
            await channel.ask("failed", error.problems)
            return
        workers.append(worker)
        handlers |= worker.handlers()
        memory.settle()
        async with trio.open_nursery() as serving:
            await serving.start(worker.run)
            channel.tell("ready")
        await worker.farewell()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Work for whoever is at the other end of the socket that the argument names."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
        # They mean the proxy, and the supervisor says what is to be done.
        signal.signal(number, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    trio.run(_work, channel, clock=SharedClock())


#: What is run in a new process: the modules are looked for where they are looked for here.
_PROGRAM: Final = (
    "import json,sys;sys.path[:]=json.loads(sys.argv[2]);"
    "from proxy.process.worker import main;main()"
)


def command(descriptor: int) -> list[str]:
    """What starts a worker that has its end of the channel under this number."""
    return [sys.executable, "-c", _PROGRAM, str(descriptor), json.dumps(sys.path)]
