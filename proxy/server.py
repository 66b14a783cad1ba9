"""The running proxy: listeners, their connections, signals, reload and drain."""

from __future__ import annotations

import contextlib
import itertools
import resource
import signal
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from proxy import __version__, admin, logs, tls
from proxy.addresses import Address, parse_address, parse_upstream
from proxy.connection import Connection, Shared
from proxy.errors import ConfigError
from proxy.limits import BufferBudget
from proxy.listeners import Listener, accept, open_listener, open_next_listener
from proxy.telemetry import Telemetry
from proxy.topology import Topology
from proxy.watcher import Watcher

if TYPE_CHECKING:
    import socket

    from proxy.config import Config


@dataclass(frozen=True, slots=True)
class Running:
    """What :func:`serve` tells when clients can connect.

    ``addresses`` are those of the first listeners, as clients on this machine dial them;
    ``admin`` is the operators' endpoint, None where it is off.
    """

    addresses: list[str]
    admin: str | None
    server: Server


async def serve(
    config: Config, *, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run the proxy until SIGTERM or SIGINT (then it drains) or until cancelled.

    Raises:
        OSError: a listener's address cannot be used; ``filename`` is the address.
        ConfigError: a certificate cannot be used.
    """
    if config.embedded is None:
        await Server(config).run(task_status)
        return
    from proxy.embedded import (
        EmbeddedUpstream,  # mongomock, which only this needs, is slow to import
    )

    async with trio.open_nursery() as nursery:
        upstream = EmbeddedUpstream(set_name=config.embedded.set_name)
        port = await nursery.start(upstream.serve, "127.0.0.1", 0)
        behind = config.upstream.model_copy(update={"address": f"127.0.0.1:{port}"})
        await Server(config.model_copy(update={"upstream": behind})).run(task_status)
        nursery.cancel_scope.cancel()


class Server:
    """One proxy process. Create it and :meth:`run` it once."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.log = logs.logger()
        self.telemetry = Telemetry(__version__)
        self.telemetry.connections_limit.set(config.limits.connections)
        self._upstream = parse_upstream(config.upstream.address)
        members = config.upstream.members
        given = {parse_address(m.upstream): m.advertise for m in members}
        self._listen = {parse_address(m.upstream): parse_address(m.listen) for m in members}
        seeds = tuple(given) or self._upstream.seeds
        self.topology = Topology(
            seeds,
            given=given or None,
            replica_set=self._upstream.replica_set,
            direct=self._upstream.direct or config.upstream.hello == "pass",
        )
        self.shared = Shared(
            config=config,
            telemetry=self.telemetry,
            budget=BufferBudget(config.limits.buffered_bytes),
            topology=self.topology,
            listener_tls=tls.listener_tls(config),
            upstream_tls=tls.upstream_tls(config),
        )
        self._seeds = seeds
        self._first = parse_address(config.listen.address)
        self._numbers = itertools.count(1)
        self._open: dict[int, Connection] = {}
        self._listeners: dict[Address, Listener] = {}
        self._accepting: trio.Nursery | None = None
        self._serving: trio.Nursery | None = None
        self._stop = trio.Event()
        self._draining = False
        self._watcher = Watcher(
            self.topology,
            self.shared.upstream_tls,
            config.upstream,
            self._reconcile,
            self.shared.ready,
        )
        self.shared.unknown_member = self._watcher.poke
        if config.upstream.hello == "pass":
            # Nothing about upstream has to be known to leave its hello alone.
            self.shared.ready.set()
        self.telemetry.on_page = self._count_bytes

    async def run(self, task_status: trio.TaskStatus[Running] = trio.TASK_STATUS_IGNORED) -> None:
        """As :func:`serve`."""
        _raise_descriptor_limit()
        async with trio.open_nursery() as services:
            services.start_soon(self._obey_signals)
            try:
                async with trio.open_nursery() as serving:
                    self._serving = serving
                    async with trio.open_nursery() as accepting:
                        self._accepting = accepting
                        await self._open_seeds()
                        where = await self._start_admin(services)
                        services.start_soon(self._watcher.run)
                        self._announce(where)
                        task_status.started(Running(self.addresses(), where, self))
                        await self._stop.wait()
                        self._close_listeners()
                        accepting.cancel_scope.cancel()
                    self._drain(serving)
            finally:
                self._close_listeners()
            self.log.info("stopped")
            services.cancel_scope.cancel()

    def stop(self) -> None:
        """Drain and end; the second call ends at once."""
        if self._stop.is_set():
            if self._serving is not None:
                self._serving.cancel_scope.cancel()
            return
        self._stop.set()

    def reload_certificates(self) -> None:
        """Read the certificates again for new connections; keep the old ones if they are bad."""
        for context in (self.shared.listener_tls, self.shared.upstream_tls):
            if context is None:
                continue
            try:
                context.reload()
            except ConfigError as error:
                self.log.error("certificates not reloaded", problems=error.problems)
            else:
                self.log.info("certificates reloaded", side=context.side)

    # ------------------------------------------------------------------ listeners

    def addresses(self) -> list[str]:
        """Where clients on this machine reach the first listeners."""
        return [_dialled(self._listeners[seed].address) for seed in self._seeds]

    async def _open_seeds(self) -> None:
        for seed in self._seeds:
            if seed in self._listen:
                listener = await open_listener(self._listen[seed], seed, self.config.listen.backlog)
            elif not self._listeners:
                listener = await open_listener(self._first, seed, self.config.listen.backlog)
                self._first = listener.address
            else:
                listener = await open_next_listener(self._first, seed, self.config.listen.backlog)
            self._start(listener)

    def _start(self, listener: Listener) -> None:
        assert self._accepting is not None
        self._listeners[listener.upstream] = listener
        host = self.config.listen.advertise or ("" if listener.wildcard else listener.address.host)
        self.topology.opened(listener.upstream, listener.address.port, host)
        take = partial(self._take, listener)
        for sock in listener.sockets:
            self._accepting.start_soon(accept, sock, take, self._exhausted)

    async def _reconcile(self) -> None:
        """Open listeners for members that appeared and close those of members that went."""
        if self._stop.is_set() or self._accepting is None:
            return
        wanted = set(self.topology.members())
        for address in [a for a in self._listeners if a not in wanted]:
            self.topology.closed(address)
            self._listeners.pop(address).close()
            self.log.info("listener closed", upstream=str(address))
        for member in self.topology.members():
            if member in self._listeners:
                continue
            try:
                listener = await open_next_listener(self._first, member, self.config.listen.backlog)
            except OSError as error:
                self.log.error("no listener", upstream=str(member), problem=str(error))
                continue
            self._start(listener)
            self.log.info("listener opened", upstream=str(member), address=str(listener.address))

    def _close_listeners(self) -> None:
        for listener in self._listeners.values():
            listener.close()

    def _announce(self, where: str | None) -> None:
        self.log.info(
            "listening",
            version=__version__,
            connect=f"mongodb://{','.join(a.replace('/', '%2F') for a in self.addresses())}/",
            upstream=",".join(map(str, self._seeds)),
            admin=where,
        )

    # ------------------------------------------------------------------ connections

    def _take(self, listener: Listener, sock: socket.socket, peer: str) -> None:
        if self._stop.is_set() or self._serving is None:
            sock.close()
        elif len(self._open) >= self.config.limits.connections:
            sock.close()
            self.telemetry.rejected("connection limit")
            self.log.warning("client turned away", client=peer, reason="connection limit")
        else:
            number = next(self._numbers)
            connection = Connection(self.shared, number, sock, peer, listener.upstream)
            self._open[number] = connection
            self._serving.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            del self._open[connection.id]

    def _exhausted(self, error: OSError) -> None:
        self.telemetry.rejected("descriptors")
        self.log.error("cannot accept", problem=str(error))

    def _drain(self, serving: trio.Nursery) -> None:
        self._draining = True
        self.telemetry.draining.set(1)
        self.log.info("draining", connections=len(self._open))
        serving.cancel_scope.deadline = trio.current_time() + self.config.limits.drain_seconds
        for connection in list(self._open.values()):
            connection.drain()

    # ------------------------------------------------------------------ services

    async def _start_admin(self, services: trio.Nursery) -> str | None:
        address = self.config.admin.address
        if address is None:
            return None
        where: str = await services.start(admin.serve, address, self, self.telemetry)
        return where

    async def _obey_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                if number == signal.SIGHUP:
                    self.reload_certificates()
                else:
                    self.log.info("stopping", signal=signal.Signals(number).name)
                    self.stop()

    def _count_bytes(self) -> None:
        for connection in self._open.values():
            connection.count_bytes()

    # ------------------------------------------------------------------ admin.State

    def connections(self) -> Iterable[dict[str, Any]]:
        """One row per open client connection."""
        now = trio.current_time()
        return (connection.row(now) for connection in list(self._open.values()))

    def sessions(self) -> Iterable[dict[str, Any]]:
        """One row per session that is known."""
        return ()

    def ready(self) -> tuple[bool, str]:
        """Whether clients can be served, and if not, why."""
        return self._watcher.ready()

    def draining(self) -> bool:
        """Whether the proxy is on its way out."""
        return self._draining


def _dialled(address: Address) -> str:
    """A listener's address as somebody on the same machine dials it."""
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return str(Address(wildcards.get(address.host, address.host), address.port, address.path))


def _raise_descriptor_limit() -> None:
    """Two descriptors a connection: take what the hard limit gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; then soft stays
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
