"""One of several processes that serve clients on the same listeners, under a supervisor.

It is the server that one process alone would be, but is handed its listeners, asks and tells the
others through the supervisor, and does what that says: signals are not for it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy import logs, memory
from proxy.errors import ConfigError
from proxy.process.channel import AnswerError, Channel, ChannelClosedError
from proxy.process.reloading import read_certificates, rules_of, take_over
from proxy.process.remembering import Remembering
from proxy.process.server import Server
from proxy.process.worker_cluster import WorkerCluster
from proxy.processors import processors
from proxy.session.records import InFlight
from proxy.settings.admin import Admin
from proxy.settings.config import plain, restored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from proxy.observe.history import History
    from proxy.observe.merging import Family
    from proxy.process.calm import Seen
    from proxy.process.channel import Handler
    from proxy.process.reads import Origins
    from proxy.process.worker_cluster import Counted
    from proxy.settings.config import Config
    from proxy.wire.replies import Reply

#: Seconds between two tellings of what has happened to sessions; what is done to them is told at
#: once.
TELLING: Final = 0.1

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

    ``config`` is plain, ``mark`` the proxy's (:mod:`proxy.upstream.ways`). It numbers its
    connections ``first``, ``first + stride`` and so on, so that no two in any worker ever have the
    same number.
    """

    config: dict[str, Any]
    slot: int
    first: int
    stride: int
    mark: str


def settings_for(config: Config, workers: int) -> dict[str, Any]:
    """What one of several is to hold to: it has a share of the memory, stops when told, and
    keeps no processor awake that another one needs."""
    limits = config.limits.model_copy(
        update={
            "buffered_bytes": max(1, config.limits.buffered_bytes // workers),
            "drain_delay_seconds": 0.0,
        }
    )
    # Without the token: its file may be wrong by the time that a worker is replaced.
    admin = Admin(address=None)
    awake = config.process.busy_poll_seconds if workers <= processors() else 0.0
    process = config.process.model_copy(update={"pid_file": None, "busy_poll_seconds": awake})
    others = {"admin": admin, "process": process, "limits": limits, "embedded": None}
    return plain(config.model_copy(update=others))


#: What a worker has to say for the metrics: its families, and what its stores have counted.
Part = tuple["list[Family]", "dict[str, Counted]"]


class Worker(Server):
    """The server of one of several processes."""

    clusters: Sequence[WorkerCluster]

    def __init__(self, orders: Orders, channel: Channel) -> None:
        self._orders_given = orders
        self._replaced = False
        self._channel = channel
        self._news = trio.Event()
        self._told = (-1, -1)
        super().__init__(restored(orders.config))
        self.common.numbers = itertools.count(orders.first, orders.stride)

    # ------------------------------------------------------------------ what it does otherwise

    def _mark(self) -> str:
        return self._orders_given.mark

    def _make_cluster(self, name: str, config: Config) -> WorkerCluster:
        return WorkerCluster(self.common, name, config, self._channel, self._owns, self._hurry)

    def _make_remembering(self, history: History) -> Remembering:
        return Remembering(history, self.clusters, partial(self._channel.tell, "history"))

    def workers(self) -> tuple[int, int]:
        return 0, 0

    def _owns(self, connection: int) -> bool:
        orders = self._orders_given
        return (connection - orders.first) % orders.stride == 0

    def _announce(self, admin_address: str | None) -> None:
        """The supervisor says where the proxy is."""

    async def _begin(self, services: trio.Nursery, _serving: trio.Nursery) -> None:
        services.start_soon(self._tell_news)

    def _orders(self, _services: trio.Nursery) -> dict[int, Callable[[], object]]:
        """Signals are for the supervisor."""
        return {}

    def _number_from(self, _first: int) -> None:
        """The supervisor says where that is."""

    def _drain(self, serving: trio.Nursery) -> None:
        self.log.info("draining", connections=self._connections())
        for cluster in self.clusters:
            cluster.drain(serving, replaced=self._replaced)

    # ------------------------------------------------------------------ telling

    def _hurry(self) -> None:
        self._news.set()

    async def _tell_news(self) -> None:
        while True:
            for _ in self._telling():
                # There may be very much of it; clients have their turn in between.
                await trio.lowlevel.checkpoint()
            with trio.move_on_after(TELLING):
                await self._news.wait()
            self._news = trio.Event()

    async def farewell(self) -> None:
        """Tell the rest, and wait until it has arrived."""
        self._tell_all()
        with contextlib.suppress(ChannelClosedError, AnswerError):
            await self._channel.ask("bye", await self._metrics())

    def _tell_all(self) -> None:
        for _ in self._telling():
            pass

    def _telling(self) -> Iterator[None]:
        for cluster in self.clusters:
            yield from cluster.telling()
        latest = (next(reversed(one.open_connections), 0) for one in self.clusters)
        counts = self._connections(), max(latest) or self._orders_given.first
        if counts != self._told:
            self._told = counts
            self._channel.tell("connections", *counts)

    # ------------------------------------------------------------------ being asked and told

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """What the supervisor may ask and tell."""
        return {
            **self._of_clusters(),
            "alive": lambda: None,
            "elsewhere": self._elsewhere,
            "leave": self._close_listeners,
            "look": self._look,
            "catch up": self._tell_all,
            "stop": self._end,
            "numbers": self._renumber,
            "settings": self._settings,
            "certificates": partial(read_certificates, self),
            "end operation": self._end_operation,
            "metrics": self._metrics,
            "ask as": self._ask_as,
        }

    def _of_clusters(self) -> dict[str, Callable[..., Any]]:
        """What is asked and told of the cluster that is named first."""
        by_name = {cluster.name: cluster.handlers() for cluster in self.clusters}

        def of(what: str) -> Callable[..., Any]:
            return lambda cluster, *told, **more: by_name[cluster][what](*told, **more)

        return {what: of(what) for what in next(iter(by_name.values()))}

    def _look(self, cluster: str, resting: Origins) -> Seen:
        """As :meth:`proxy.process.draining.Draining.see`."""
        seen = next(one for one in self.clusters if one.name == cluster).see(resting)
        self._tell_all()
        return seen

    def _end_operation(self, operation: tuple[Any, ...]) -> None:
        for cluster in self.clusters:
            cluster.end_own(InFlight(*operation))

    def _end(self, replaced: bool) -> None:
        self._replaced = replaced
        self.stop()

    def _renumber(self, first: int) -> None:
        """Number connections from the next one behind ``first`` that is this worker's."""
        orders = self._orders_given
        first += (orders.first - first) % orders.stride
        self.common.numbers = itertools.count(first, orders.stride)

    def _elsewhere(self, connections: int) -> None:
        self.common.places.elsewhere = connections

    def _settings(self, plain: dict[str, Any]) -> None:
        """What the supervisor has read and found right."""
        config = restored(plain)
        take_over(self, config, rules_of(config))

    async def _metrics(self) -> Part:
        counted = {cluster.name: cluster.counted() for cluster in self.clusters}
        return await self.scraping.own_part(), counted

    async def _ask_as(self, connection: int, owner: bytes, question: bytes) -> bytes | None:
        """Upstream's answer to a question that this connection puts as ``owner``; None for none."""
        found = (cluster.open_connections.get(connection) for cluster in self.clusters)
        asker = next((one for one in found if one is not None), None)
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
        try:
            config = restored(begun[0].config)
            logs.configure(config.log.format, config.log.level, worker=begun[0].slot)
            worker = Worker(begun[0], channel)
        except Exception as error:
            if not isinstance(error, ConfigError) and not channel.renewed:
                raise
            problems = error.problems if isinstance(error, ConfigError) else [repr(error)]
            await channel.ask("failed", problems)
            nursery.cancel_scope.cancel()
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
    renewed = _RENEWED in sys.argv[3:]
    channel = Channel(socket.socket(fileno=int(sys.argv[1])), renewed=renewed)
    trio.run(_work, channel, clock=SharedClock())


#: Signals that mean the proxy, of which the supervisor says what is to be done. They come to all
#: processes at once from a terminal and from systemd.
_NOT_MEANT: Final = [
    int(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
]

#: The last word to one that is of another version than who has started it.
_RENEWED: Final = "renewed"

#: What is run in a new process: first of all it is deaf to those, and the modules are looked for
#: where they are looked for here.
_PROGRAM: Final = (
    f"import _signal as s;[s.signal(n,s.SIG_IGN) for n in {_NOT_MEANT}];"
    "import json,sys;sys.path[:]=json.loads(sys.argv[2]);"
    "from proxy.process.worker import main;main()"
)


def command(descriptor: int, *, renewed: bool = False) -> list[str]:
    """What starts a worker that has its end of the channel under this number.

    Whether it is of another version it hears in this way, which stays the same in all of them.
    """
    words = [sys.executable, "-c", _PROGRAM, str(descriptor), json.dumps(sys.path)]
    return [*words, _RENEWED] if renewed else words


async def start(*, renewed: bool = False) -> tuple[trio.Process, Channel]:
    """A new worker's process, and this one's end of what is said between the two. ``renewed`` says
    that it is of another version, as the program's files were replaced."""
    channel, theirs = Channel.pair(renewed=renewed)
    with theirs:
        try:
            process: trio.Process = await trio.lowlevel.open_process(
                command(theirs.fileno(), renewed=renewed),
                pass_fds=[theirs.fileno()],
                env=_environment(),
            )
        except BaseException:
            channel.close()
            raise
    return process, channel


def _environment() -> dict[str, str]:
    """A worker has nothing to say to the service manager."""
    spoken = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    return {name: value for name, value in os.environ.items() if name not in spoken}
