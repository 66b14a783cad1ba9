"""A cluster as one of several workers serves it: listeners that are handed to it, and its share
of the connections. What it knows of sessions and users the others hear of."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from proxy.addresses import Address  # noqa: TC001
from proxy.net.crowds import Crowds
from proxy.net.listeners import Listener, accept
from proxy.observe import gauges
from proxy.process.asking import by_owner
from proxy.process.cluster import Cluster
from proxy.process.naming import WorkersNaming
from proxy.session.ids import make_key
from proxy.session.known import SharedUsers
from proxy.session.replica import SharedStore
from proxy.session.suspicion import Suspicion
from proxy.upstream.members import announce

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from proxy.net.inherited import Placed
    from proxy.observe.families import Page
    from proxy.observe.namespaces import Uses
    from proxy.process.calm import Seen
    from proxy.process.channel import Channel
    from proxy.process.common import Common
    from proxy.process.reads import Origins
    from proxy.session.counts import Told
    from proxy.session.records import InFlight
    from proxy.settings.config import Config
    from proxy.settings.listen import Listen
    from proxy.upstream.topology import Topology

#: What each process's store counts for itself.
SUMMED: Final = ("untracked", "vague_origins")

#: What a worker has counted of a cluster's sessions.
Counted = tuple["Told", dict[str, int]]


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

    def reseed(self, _seeds: tuple[Address, ...]) -> None:
        """That is the supervisor's task, too."""

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
        # What is passed on stands for its former member no more, of whom word comes later.
        for former in [one.upstream for one in self._open.values() if one.address == address]:
            self.gone(former)
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


class WorkerCluster(Cluster):
    """``owns`` says whether a connection of this number is this worker's; ``hurry`` that there is
    news for the others."""

    alone: ClassVar[bool] = False

    def __init__(
        self,
        common: Common,
        name: str,
        config: Config,
        channel: Channel,
        owns: Callable[[int], bool],
        hurry: Callable[[], None],
    ) -> None:
        self._channel = channel
        self._is_own = owns
        self._hurry = hurry
        super().__init__(common, name, config)
        # The supervisor tells.
        self._srv = None
        self.shared.crowds = Crowds(shared=True)
        self.shared.lost = self._lost
        self._told_of_loss = -inf

    # ------------------------------------------------------------------ what it does otherwise

    def _make_naming(self, most: int) -> WorkersNaming:
        self._naming = WorkersNaming(self.telemetry, most, self._tell_namespaces)
        return self._naming

    def _tell_namespaces(self, met: Sequence[str], uses: Uses) -> None:
        self._channel.tell("namespaces", self.name, met, uses)

    def _make_store(self) -> SharedStore:
        sessions = self.config.sessions
        self._shared_store = SharedStore(
            max_sessions=sessions.max_sessions, max_cursors=sessions.max_cursors
        )
        self._shared_store.hurry = self._hurry
        self._shared_store.ends_operations = lambda upstream: not self.facts(upstream).native
        self._shared_store.end_operation = self.end_own
        return self._shared_store

    def _make_known(self) -> SharedUsers:
        self._users = SharedUsers()
        return self._users

    def _make_listeners(self) -> GivenListeners:
        self._given = GivenListeners(self.topology, self.config.listen, self._take, self._exhausted)
        return self._given

    def _read_gauges(self, sources: gauges.Sources, page: Page) -> Iterator[None]:
        return gauges.read_own(sources, page)

    def _owns(self, connection: int) -> bool:
        return self._is_own(connection)

    def end_operation(self, operation: InFlight) -> None:
        if operation.connection in self.open_connections:
            super().end_operation(operation)
        else:
            self._channel.tell("end operation", tuple(operation))

    def end_own(self, operation: InFlight) -> None:
        """End an operation if it is in flight here."""
        if operation.connection in self.open_connections:
            super().end_operation(operation)

    def see(self, resting: Origins) -> Seen:
        """As :meth:`proxy.process.draining.Draining.see`."""
        return self._draining.see(resting)

    def let_go(self, origins: Origins, until: float) -> None:
        """As :meth:`proxy.process.draining.Draining.tell`."""
        self._draining.tell(origins, until)

    # ------------------------------------------------------------------ telling, and being told

    def _tell_of(self, upstream: Address) -> None:
        self._channel.tell("reached", self.name, upstream)

    def _lost(self) -> None:
        """Upstream has ended a client's connection: all processes look what it is now. There may
        be thousands, of which one in a second says enough."""
        now = trio.current_time()
        self.watcher.hurry()
        if now >= self._told_of_loss + 1.0:
            self._told_of_loss = now
            self._channel.tell("look again", self.name)

    def telling(self) -> Iterator[None]:
        """Tell the supervisor what is new, in steps."""
        while told := self._shared_store.news():
            self._channel.tell("sessions", self.name, told)
            yield
        while crowds := self.shared.crowds.news():
            self._channel.tell("crowds", self.name, crowds)
        self._naming.news()
        while users := self._users.news():
            self._channel.tell("users", self.name, users)

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """What the supervisor may ask and tell of a cluster."""
        return {
            "listener": self._given.given,
            "no listener": self._given.gone,
            "displaced": self.displaced,
            "let go": self.let_go,
            "seeds": self.follow,
            "sessions": self._shared_store.take_in,
            "met": self._met,
            "look again": self.watcher.hurry,
            "users": self._users.take_in,
            "crowds": self.shared.crowds.take_in,
            "connection rows": self.connection_rows,
            "connection": self.own_connection,
            "interrupt": self.interrupt_own,
            "hang up": self.hang_up_own,
            "connections by upstream": self.connections_by_upstream,
            "askers": self._askers,
            "namespaces": self._naming.decided,
            "incidents": self._incidents,
        }

    def counted(self) -> Counted:
        """What this process has counted of its sessions."""
        own = {name: getattr(self._shared_store, name) for name in SUMMED}
        return self.store.counts.told(), own

    def _incidents(self) -> tuple[list[list[tuple[tuple[str, ...], float]]], Any]:
        recent = self.telemetry.session_incidents, self.telemetry.rule_incidents
        found = [[(tuple(one), when) for one, when in some.items()] for some in recent]
        return found, self.telemetry.refusals.told()

    def _met(
        self, key: tuple[bytes, bytes], place: tuple[int, int], kind: str, reason: str, command: str
    ) -> None:
        """Another worker has something in flight beside an operation of this one's."""
        lsid = make_key(key)
        session = self._shared_store.get(lsid)
        if session is not None and session.activity is not None:
            for one in session.activity.operations:
                if one.place == place:
                    one.suspect(Suspicion(kind, reason, command, lsid, 1))

    def _askers(self) -> dict[str, dict[bytes, list[tuple[int, bytes]]]]:
        return {
            upstream: {
                owner: [(one.id, who) for one in some if (who := one.speaks_for) is not None]
                for owner, some in owners.items()
            }
            for upstream, owners in by_owner(self.open_connections.values()).items()
        }
