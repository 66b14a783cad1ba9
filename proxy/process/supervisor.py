"""The process that several workers serve clients for: one program to whoever started it.

It has the listeners, the view of upstream they follow from, the admin endpoint and all sessions
(:mod:`proxy.session.hub`), but no clients. Workers are processes of their own, each with the same
listening sockets. One that dies is replaced, and the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from proxy.errors import ConfigError
from proxy.process.channel import RENEWED, AnswerError, ChannelClosedError
from proxy.process.links import Link, end
from proxy.process.server import Server
from proxy.process.together import Together
from proxy.process.whole_cluster import WholeCluster
from proxy.process.worker import TELLING, Orders, settings_for, start
from proxy.session.records import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.conversation.rule import Rules
    from proxy.observe.telemetry import Telemetry
    from proxy.process.beginnings import Beginnings
    from proxy.process.channel import Handler
    from proxy.session.counts import Told
    from proxy.settings.config import Config

#: Seconds that a worker may take until it serves, and for an answer.
_STARTING: Final = 60.0
_ANSWER: Final = 5.0

#: Seconds before a worker that died is replaced: the first time at once, then longer and longer
#: where each new one lives for less than a while.
_PAUSES: Final = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
_A_WHILE: Final = 30.0

#: Seconds beyond the drain's own for which a worker may go on before it is ended.
_GRACE: Final = 5.0

#: Numbers of connections that a new worker leaves out behind those it has heard of.
_LEFT_OUT: Final = 100_000


class Supervisor(Server):
    """The process of several that is the proxy's own."""

    clusters: Sequence[WholeCluster]

    def __init__(
        self,
        config: Config,
        workers: int,
        reload: Callable[[], Config] | None = None,
        beginnings: Beginnings | None = None,
        successor: Sequence[str] | None = None,
    ) -> None:
        self._workers = workers
        self._links: dict[int, Link] = {}
        #: By slot: where the numbers of its next worker's connections begin.
        self._first = {slot: slot + 1 for slot in range(workers)}
        self._services: trio.Nursery | None = None
        self._news = trio.Event()
        #: While workers drain, and who comes up then has nothing to begin with.
        self._drains = False
        #: Whether it was said that the program's files were replaced.
        self._renewed = False
        self.restarts = 0
        super().__init__(config, reload, beginnings, successor)

    # ------------------------------------------------------------------ what it does otherwise

    def _make_cluster(self, name: str, config: Config) -> WholeCluster:
        return WholeCluster(self.common, name, config, self)

    def _make_traces(self, _endpoint: str) -> None:
        """The workers have the requests."""

    def _make_scraping(self, clusters: Mapping[str, Telemetry]) -> Together:
        self._together = Together(self.telemetry, clusters, self.clusters, self.ask_each)
        return self._together

    async def _begin(self, services: trio.Nursery, serving: trio.Nursery) -> None:
        self._services = services
        services.start_soon(self._pass_on)
        async with trio.open_nursery() as starting:
            for slot in range(self._workers):
                starting.start_soon(serving.start, self._keep, slot)

    def about(self) -> dict[str, Any]:
        return super().about() | {"workers": len(self._links)}

    def _connections(self) -> int:
        return sum(link.connections for link in self._links.values())

    def workers(self) -> tuple[int, int]:
        ready = sum(link.ready.is_set() for link in self._links.values())
        return ready, self.restarts

    def stop(self) -> None:
        again = self._stop.is_set()
        super().stop()
        if again:
            self.tell("stop", self._handover.done)

    def _drain(self, serving: trio.Nursery) -> None:
        """The workers drain, each its own clients, and end by themselves."""
        super()._drain(serving)
        serving.cancel_scope.deadline += _GRACE
        self._drains = True
        serving.start_soon(self._see_off)

    async def _see_off(self) -> None:
        """Have the workers drain in step: who is let go by one finds no other one of them."""
        await self.ask_each("leave")
        self.tell("stop", self._handover.done)
        if self._handover.done:
            async with trio.open_nursery() as nursery:
                for cluster in self.clusters:
                    nursery.start_soon(cluster.let_go_in_calm)

    def _number_from(self, first: int) -> None:
        super()._number_from(first)
        for slot, before in self._first.items():
            # Which worker has a connection is told by its number.
            own = first + (slot + 1 - first) % self._workers
            self._first[slot] = max(before, own + self._workers * _LEFT_OUT)
        self._tell_for_good("numbers", first)

    def _next_number(self) -> int:
        return max(self._first.values())

    def _take_over(self, config: Config, rules: Mapping[str, Rules]) -> None:
        super()._take_over(config, rules)
        self._tell_for_good("settings", settings_for(config, self._workers))

    def reload(self) -> None:
        super().reload()
        self._tell_for_good("certificates")

    def _tell_for_good(self, what: str, *arguments: object) -> None:
        """Tell all workers, those that are coming up too."""
        for link in self._links.values():
            link.tell(what, *arguments)

    # ------------------------------------------------------------------ speaking to workers

    @property
    def services(self) -> trio.Nursery:
        """For what goes on behind an answer."""
        assert self._services is not None
        return self._services

    def hurry(self) -> None:
        """There is news that has to be told at once."""
        self._news.set()

    def any_ready(self) -> bool:
        """Whether a worker can have clients."""
        return any(link.ready.is_set() for link in self._links.values())

    def links(self) -> list[Link]:
        """Of all workers that run."""
        return list(self._links.values())

    def counts(self, cluster: str) -> list[Told]:
        """What workers have counted of a cluster's sessions, those that are gone included."""
        return self._together.counts(cluster)

    def named(self) -> None:
        """Other namespaces have names from now on."""
        self._together.named()

    def end_operation(self, operation: InFlight) -> None:
        """Have whoever has its connection end an operation."""
        self.tell_whose(operation, "end operation", tuple(operation))

    def tell_whose(self, operation: InFlight, what: str, *arguments: object) -> None:
        """Tell the worker that has an operation's connection."""
        link = self._whose(operation.connection)
        if link is not None:
            link.channel.tell(what, *arguments)

    def _whose(self, connection: int) -> Link | None:
        """The worker that numbers its connections so, if it runs."""
        return self._links.get(self._slot(connection))

    def _slot(self, connection: int) -> int:
        return (connection - 1) % self._workers

    def tell(self, what: str, *arguments: object, but: Link | None = None) -> None:
        """Tell all workers that listen."""
        for link in self._links.values():
            if link.hears and link is not but:
                link.channel.tell(what, *arguments)

    async def ask_each(self, what: str, *arguments: object) -> list[tuple[Link, Any]]:
        """What all workers answer, and who has answered; without those that do not in time."""
        answers: list[tuple[Link, Any]] = []
        async with trio.open_nursery() as nursery:
            for link in list(self._links.values()):
                if link.ready.is_set():
                    nursery.start_soon(self._ask, link, answers, what, *arguments)
        return sorted(answers, key=lambda pair: pair[0].slot)

    async def ask_whose(self, connection: int, what: str, *arguments: object) -> Any:  # noqa: ANN401
        """What the worker that has a connection of this number answers; None for no answer."""
        answers: list[tuple[Link, Any]] = []
        link = self._whose(connection)
        if link is not None and link.ready.is_set():
            await self._ask(link, answers, what, *arguments)
        return answers[0][1] if answers else None

    async def _ask(
        self, link: Link, answers: list[tuple[Link, Any]], what: str, *arguments: object
    ) -> None:
        try:
            with trio.fail_after(_ANSWER):
                answers.append((link, await link.channel.ask(what, *arguments)))
        except (ChannelClosedError, AnswerError, trio.TooSlowError) as error:
            if self._drains and isinstance(error, ChannelClosedError):
                return  # it has no clients any more
            self.log.warning("no answer", worker=link.slot, what=what, problem=repr(error))

    async def _pass_on(self) -> None:
        """Tell everybody what need not be told at once, and what an operator has done."""
        while True:
            with trio.move_on_after(TELLING):
                await self._news.wait()
            self._news = trio.Event()
            for cluster in self.clusters:
                cluster.pass_on()
                while cluster.pass_on_some():
                    await trio.lowlevel.checkpoint()

    # ------------------------------------------------------------------ being told by workers

    def _handlers(self, link: Link) -> dict[str, Handler]:
        clusters = {cluster.name: cluster for cluster in self.clusters}

        def connections(number: int, last: int) -> None:
            link.connections = number
            self._leave_out(link.slot, last)
            self._count_connections()

        return {
            "ready": lambda: self._admit(link),
            "lost": lambda _, where: clusters[where[0]].give_again(link, where[1]),
            "failed": link.problems.extend,
            "sessions": lambda cluster, told: clusters[cluster].heard_sessions(link, told),
            "users": lambda cluster, told: clusters[cluster].heard_users(link, told),
            "crowds": lambda cluster, told: clusters[cluster].heard_crowds(link, told),
            "namespaces": lambda cluster, *told: clusters[cluster].whole_naming.hear(*told),
            "look again": lambda cluster: clusters[cluster].look_again(link),
            "reached": lambda cluster, upstream: clusters[cluster].hear_of(upstream),
            "connections": connections,
            "end operation": lambda operation: self.end_operation(InFlight(*operation)),
            "history": lambda *told: self._remember(link, *told),
            "bye": lambda metrics: self._together.keep(link.slot, *metrics),
        }

    def _remember(self, link: Link, *told: Any) -> None:  # noqa: ANN401 - see Remembering.hear
        if self.remembering is not None:
            self.remembering.hear(link.slot, *told)

    def _leave_out(self, slot: int, last: int) -> None:
        """Connections are numbered up to ``last`` there, and perhaps some further."""
        self._first[slot] = max(self._first[slot], last + self._workers * _LEFT_OUT)

    def _count_connections(self) -> None:
        everywhere = sum(link.connections for link in self._links.values())
        for link in self._links.values():
            if link.ready.is_set():
                link.channel.tell("elsewhere", everywhere - link.connections)

    async def _admit(self, link: Link) -> None:
        """A worker can begin: tell it all there is to know, and what to accept on."""
        link.can_hear()
        if self._drains:
            link.channel.tell("stop", self._handover.done)
            return
        for cluster in self.clusters:
            await cluster.introduce(link)
        link.ready.set()
        self._count_connections()
        for cluster in self.clusters:
            cluster.give_listeners(link)

    # ------------------------------------------------------------------ keeping workers

    async def _keep(
        self, slot: int, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Have a worker in this place until the proxy ends."""
        deaths = 0
        first = True
        while not self._stop.is_set() or first:
            started = trio.current_time()
            ended = await self._work(slot, task_status if first else None)
            first = False
            if self._stop.is_set():
                return
            lived = trio.current_time() - started
            deaths = 1 if lived > _A_WHILE else deaths + 1
            pause = _PAUSES[min(deaths, len(_PAUSES)) - 1]
            self.restarts += 1
            if self.remembering is not None:
                self.remembering.gone(slot, **ended)
            self.log.error("worker died", worker=slot, **ended, pause_seconds=pause)
            with trio.move_on_after(pause):
                await self._stop.wait()

    async def _work(self, slot: int, task_status: trio.TaskStatus[None] | None) -> dict[str, Any]:
        """Run one worker until it ends; says how, and what went with it.

        Raises:
            ConfigError: the first one in its place could not begin.
        """
        renewed = self._handover.due()
        if renewed and not self._renewed:
            self._renewed = True
            self.log.warning("workers of another version", problem=RENEWED)
        try:
            process, channel = await start(renewed=renewed)
        except OSError as error:
            # Without descriptors, processes or memory: the other workers go on meanwhile.
            problem = f"a worker could not be started: {error}"
            if task_status is not None:
                raise ConfigError([problem]) from error
            return {"problems": [problem]}
        self._links[slot] = link = Link(slot, channel)
        link.problems += [RENEWED] if renewed else []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.run, self._handlers(link))
                first = self._first[slot]
                # It may die before it has told of any connection.
                self._leave_out(slot, first)
                mark = self.common.mark
                settings = settings_for(self.config, self._workers)
                orders = Orders(settings, slot, first, self._workers, mark)
                channel.tell("begin", orders)
                nursery.start_soon(self._look_after, link, process, task_status)
                await process.wait()
                with trio.move_on_after(1.0):
                    # What it has said arrives although it has ended.
                    await channel.ended.wait()
                nursery.cancel_scope.cancel()
        finally:
            await end(process, channel, self._handover.done, _GRACE)
            del self._links[slot]
            operations = sum(cluster.lost(slot) for cluster in self.clusters)
            self._together.lost(slot)
            self._count_connections()
        if not link.ready.is_set() and task_status is not None:
            if self._stop.is_set():
                # It is no news that it does not serve.
                task_status.started()
                return {}
            status = f"it ended with status {process.returncode}"
            raise ConfigError(link.problems or [f"a worker could not be started: {status}"])
        return {
            "status": process.returncode,
            "connections_lost": link.connections,
            "operations_lost": operations,
            "problems": link.problems,
        }

    async def _look_after(
        self, link: Link, process: trio.Process, task_status: trio.TaskStatus[None] | None
    ) -> None:
        """Have one that does not come up, or hangs later, end: there are others to be had."""
        with trio.move_on_after(_STARTING):
            await link.ready.wait()
        if not link.hears:
            link.problems.append(f"it was not ready within {_STARTING:g} seconds")
            process.kill()
            return
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def await_ready() -> None:
                await link.ready.wait()
                if task_status is not None:
                    task_status.started()

            # It may hang while it is told all there is to know, too.
            link.problems.append(await link.hangs())
            process.kill()
            nursery.cancel_scope.cancel()
