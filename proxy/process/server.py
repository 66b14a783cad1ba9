"""The running proxy: listeners, their connections, signals, reload and drain."""

from __future__ import annotations

import itertools
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from proxy import admin, logs
from proxy.build import VERSION
from proxy.net import readiness
from proxy.net.limits import BufferBudget, Places, raise_descriptor_limit
from proxy.observe import gauges
from proxy.observe.audit import AuditLog
from proxy.observe.scraping import Scraping, watch_the_loop
from proxy.observe.telemetry import Telemetry
from proxy.process import pidfile, signals
from proxy.process.beginnings import Beginnings
from proxy.process.cluster import Cluster
from proxy.process.common import Common, together
from proxy.process.endpoint import Endpoint
from proxy.process.handover import Handover, relieve
from proxy.process.notify import Notifier
from proxy.process.reloading import read_certificates, read_settings, take_over
from proxy.process.remembering import Remembering, make_history
from proxy.process.successor import Left
from proxy.process.takeover import help_predecessor
from proxy.settings.rules import RULES
from proxy.upstream.ways import new_mark

if TYPE_CHECKING:
    from proxy.conversation.rule import Rules
    from proxy.observe.history import History
    from proxy.observe.traces import Traces
    from proxy.settings.config import Config


@dataclass(frozen=True, slots=True)
class Running:
    """What :func:`serve` tells when clients can connect.

    ``addresses`` are those of the first listeners, as clients on this machine dial them, and
    ``uri`` is what to paste; ``admin`` is the admin endpoint, None where it is off.
    """

    addresses: list[str]
    uri: str
    admin: str | None
    server: Server


async def serve(
    config: Config,
    reload: Callable[[], Config] | None = None,
    beginnings: Beginnings | None = None,
    successor: Sequence[str] | None = None,
    *,
    task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the proxy until SIGTERM or SIGINT (then it drains) or until cancelled.

    ``reload`` reads the configuration again when SIGHUP comes. ``beginnings`` is what there was
    before, and ``successor`` the command that SIGUSR2 starts to take over.

    Raises:
        OSError: a listener's address cannot be used; ``filename`` is the address.
        ConfigError: a certificate or a rule of one's own cannot be used.
    """
    await Server(config, reload, beginnings, successor).run(task_status)


class Server:
    """One proxy process. Create it and :meth:`run` it once."""

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config] | None = None,
        beginnings: Beginnings | None = None,
        successor: Sequence[str] | None = None,
    ) -> None:
        self.config = config
        self._beginnings = beginnings or Beginnings()
        self._reload = reload
        self.log = logs.logger()
        self.telemetry = Telemetry(VERSION, RULES)
        self.telemetry.reloaded(True, time.time())
        self._audit = AuditLog(
            config.audit.file, self.telemetry.audit_written, self.telemetry.audit_lost
        )
        self._started = 0.0
        self._notifier = Notifier()
        history = make_history(config)
        self._stop = trio.Event()
        self.common = Common(
            telemetry=self.telemetry,
            audit=self._audit,
            budget=BufferBudget(config.limits.buffered_bytes),
            places=Places(config.limits.connections),
            numbers=itertools.count(1),
            inherited=self._beginnings.inherited,
            reserved=config.ports(),
            mark=self._mark(),
            about=self.about,
            draining=self.draining,
            history=history,
            traces=self._make_traces(config.traces.endpoint),
        )
        self.clusters: Sequence[Cluster] = [
            self._make_cluster(one.name, one.config) for one in config.each()
        ]
        self.remembering = None if history is None else self._make_remembering(history)
        self._handover = Handover(
            successor, self._notifier, self._left, self._handed_over, self.common.found
        )
        self._endpoint = Endpoint(config.admin)
        sources = gauges.ProcessSources(
            telemetry=self.telemetry,
            budget=self.common.budget,
            config=lambda: self.config,
            draining=self.draining,
            lingered=lambda: readiness.current().lingered,
            workers=self.workers,
        )
        self.telemetry.process_present = partial(gauges.read_process, sources)
        self.scraping = self._make_scraping(
            {one.name: one.telemetry for one in self.clusters if one.name}
        )

    # ------------------------------------------------------------------ what others do otherwise

    def _mark(self) -> str:
        return new_mark()

    def _make_cluster(self, name: str, config: Config) -> Cluster:
        return Cluster(self.common, name, config)

    def _make_remembering(self, history: History) -> Remembering:
        return Remembering(history, self.clusters)

    def _make_scraping(self, clusters: Mapping[str, Telemetry]) -> Scraping:
        return Scraping(self.telemetry, clusters)

    def _make_traces(self, endpoint: str) -> Traces | None:
        if not endpoint:
            return None
        # With OpenTelemetry, where spans are wanted and nowhere else.
        from proxy.observe.traces import Traces

        return Traces(endpoint, self.telemetry.spans)

    def _make_overview(self, *, executes: bool) -> admin.Overview:
        views = {
            one.name: admin.Process(
                one, one.telemetry, self.scraping, executes=executes, cluster=one.name
            )
            for one in self.clusters
        }
        overview = views[""] if "" in views else admin.Several(self, views, self.scraping)
        if self.remembering is not None:
            overview.remembered = admin.Remembered(
                self.remembering.history, self.remembering.collect
            )
        return overview

    def _number_from(self, first: int) -> None:
        """Number connections from here on."""
        self.common.numbers = itertools.count(first)

    def _next_number(self) -> int:
        return next(self.common.numbers)

    async def _begin(self, services: trio.Nursery, serving: trio.Nursery) -> None:
        """What has to be done before clients can be accepted."""

    # ------------------------------------------------------------------ its life

    async def run(self, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
        """As :func:`serve`."""
        raise_descriptor_limit()
        self._started = trio.current_time()
        readiness.current().be_patient(self.config.process.busy_poll_seconds)
        async with trio.open_nursery() as services:
            # Before anything can be seen of the process: a signal must not find the default.
            await services.start(signals.obey, self._orders(services))
            services.start_soon(self._audit.run)
            services.start_soon(watch_the_loop, self.telemetry)
            if self.remembering is not None:
                services.start_soon(self.remembering.run)
            for cluster in self.clusters:
                cluster.keep(services)
            try:
                async with trio.open_nursery() as serving:
                    self.common.serving = serving
                    async with trio.open_nursery() as accepting:
                        # First, so that members' listeners go around its port.
                        await self._endpoint.open(self._beginnings.inherited)
                        for cluster in self.clusters:
                            await cluster.open(accepting)
                        await self._begin(services, serving)
                        for cluster in self.clusters:
                            services.start_soon(cluster.watcher.run)
                        services.start_soon(self._settle)
                        numbers = await relieve(
                            self._beginnings.predecessor, self._as_ready, self._stop
                        )
                        where = await self._take_clients(services, numbers) if numbers else None
                        uri = self.clusters[0].uri()
                        task_status.started(Running(self._addresses(), uri, where, self))
                        await self._stop.wait()
                        await self._stay()
                        self._close_listeners()
                        accepting.cancel_scope.cancel()
                    self._handover.release(numbers=self._next_number())
                    self._drain(serving)
            finally:
                self._close_listeners()
                self._endpoint.close()
                if not self._handover.done:  # then it is the successor's, or soon will be
                    pidfile.remove(self.config.process.pid_file)
            if self.common.traces is not None:
                await trio.to_thread.run_sync(self.common.traces.close)
            self.log.info("stopped")
            services.cancel_scope.cancel()

    async def _take_clients(self, services: trio.Nursery, numbers: int) -> str | None:
        """Nobody else does from now on; where the admin endpoint is."""
        self._number_from(numbers)
        pidfile.write(self.config.process.pid_file)
        for cluster in self.clusters:
            cluster.listeners.accept()
        where: str | None = await services.start(
            self._endpoint.serve, self._make_overview, self.telemetry.token_refused
        )
        self._announce(where)
        self._notifier.ready()
        services.start_soon(self._notifier.keep_alive)
        before = self._beginnings.predecessor
        if before is not None:
            services.start_soon(help_predecessor, before.channel, self.clusters, self.draining)
        return where

    def _orders(self, services: trio.Nursery) -> dict[int, Callable[[], object]]:
        """What each signal is for."""

        def end(name: str) -> None:
            self.log.info("stopping", signal=name)
            self.stop()

        def read_again() -> None:
            if self._handover.due():
                replace()
                return
            self.reload()

        def replace() -> None:
            if not self._stop.is_set():
                services.start_soon(self._handover.run)

        return {
            signal.SIGTERM: partial(end, "SIGTERM"),
            signal.SIGINT: partial(end, "SIGINT"),
            signal.SIGHUP: read_again,
            signal.SIGUSR2: replace,
        }

    def _drain(self, serving: trio.Nursery) -> None:
        self.log.info("draining", connections=self._connections())
        self._happened("proxy_stopping", replaced=self._handover.done)
        for cluster in self.clusters:
            cluster.drain(serving, replaced=self._handover.done)

    def _addresses(self) -> list[str]:
        return [one for cluster in self.clusters for one in cluster.listeners.addresses()]

    def _close_listeners(self) -> None:
        for cluster in self.clusters:
            cluster.listeners.close()

    def _as_ready(self) -> tuple[bool, str]:
        """Whether this process has reached whom its predecessor had, and if not, why."""
        before = self._beginnings.predecessor
        return together(
            (one.name, one.watcher.ready())
            for one in self.clusters
            if before is None or before.reached(one.name)
        )

    def stop(self) -> None:
        """Drain and end; the second call ends at once.

        From now on the process says that it is not ready; clients are still taken for as long as
        the settings say.
        """
        if self._stop.is_set():
            if self.common.serving is not None:
                self.common.serving.cancel_scope.cancel()
            return
        self._handover.give_up()
        limits = self.config.limits
        self._notifier.stopping(limits.drain_delay_seconds + limits.drain_seconds)
        self._stop.set()

    async def _stay(self) -> None:
        """Go on taking clients for as long as they may still be sent here."""
        if not self._handover.done:
            await trio.sleep(self.config.limits.drain_delay_seconds)

    async def _settle(self) -> None:
        """Once all listeners are open, see what was inherited in vain."""
        for cluster in self.clusters:
            await cluster.shared.ready.wait()
        self._beginnings.inherited.settle()
        unused = self._beginnings.inherited.unused()
        if unused:
            self.log.warning("sockets that no setting asks for", addresses=unused)

    def _left(self) -> Left:
        """What a successor gets."""
        placed = [one for cluster in self.clusters for one in cluster.listeners.placed()]
        listeners = [(place, listener.sockets) for place, listener in placed]
        listeners += self._endpoint.placed()
        kept = self._beginnings.inherited.kept
        reached = [one.name for one in self.clusters if one.watcher.ready()[0]]
        return Left(listeners, kept, upstream=reached)

    def _handed_over(self) -> None:
        """The successor waits for its word: accept nobody any more, and drain."""
        for cluster in self.clusters:
            cluster.listeners.leave()
        self._endpoint.close()
        self._stop.set()

    def reload(self) -> None:
        """Read the settings and certificates again; what is bad leaves the old in place.

        Nobody is dropped: rules take effect with the next request, limits and certificates with
        the next connection. Addresses, topology and logs stay as they are until a restart.
        """
        with self._notifier.reloading():
            if self._reload is not None:
                read_settings(self, self._reload, self._take_over)
            for cluster, sides in read_certificates(self):
                cluster.expiry.look(sides)
        self._happened("reloaded", kind="done" if self.telemetry.reload_worked else "failed")

    def _take_over(self, config: Config, rules: Mapping[str, Rules]) -> None:
        """Have what takes effect without a restart take effect."""
        take_over(self, config, rules)
        self._endpoint.adopt(self.config.admin)

    def _happened(self, event: str, **more: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        if self.remembering is not None:
            self.remembering.happened(event, **more)

    def _announce(self, admin_address: str | None) -> None:
        self._happened("proxy_started", version=VERSION)
        for cluster in self.clusters:
            cluster.expiry.look()
            primary = cluster.primary_uri()
            cluster.log.info(
                "listening",
                version=VERSION,
                connect=cluster.uri(),
                seeds=[str(seed) for seed in cluster.seeds],
                admin=admin_address,
                **({"primary": primary} if primary else {}),
            )

    # ------------------------------------------------------------------ what is seen of it

    def about(self) -> dict[str, Any]:
        """What the process is: version, uptime, connections and their limit."""
        return {
            "version": VERSION,
            "uptime_seconds": round(trio.current_time() - self._started, 3),
            "connections": self._connections(),
            "connections_limit": self.config.limits.connections,
        }

    def _connections(self) -> int:
        """How many are open."""
        return sum(len(cluster.open_connections) for cluster in self.clusters)

    def connections(self) -> Iterable[dict[str, Any]]:
        """One row per open client connection."""
        return itertools.chain.from_iterable(one.connections() for one in self.clusters)

    def sessions(self) -> Iterable[dict[str, Any]]:
        """One row per session that is known."""
        return itertools.chain.from_iterable(one.sessions() for one in self.clusters)

    def workers(self) -> tuple[int, int]:
        """How many processes serve clients, and how often one of them was replaced."""
        return 1, 0

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""
        return together((cluster.name, cluster.ready()) for cluster in self.clusters)

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""
        return self._stop.is_set()
