"""The listeners that stand for upstream's members: the first ones, and those that come and go."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from proxy import logs
from proxy.addresses import Address
from proxy.net.inherited import NOTHING, Inherited, Placed
from proxy.net.listeners import Listener, accept, open_listener, open_next_listener
from proxy.net.unix import Access

if TYPE_CHECKING:
    import trio

    from proxy.settings.listen import Listen
    from proxy.upstream.topology import Topology

Take = Callable[[Listener, socket.socket, str], None]


class Listeners(Protocol):
    """What a process has of listeners."""

    def addresses(self) -> list[str]:
        """Where clients on this machine reach the seeds' listeners."""

    async def open_seeds(self, seeds: tuple[Address, ...], nursery: trio.Nursery) -> None:
        """Open the first listeners. From :meth:`accept` on they, and all later ones, accept.

        Raises:
            OSError: an address cannot be used; ``filename`` is the address.
        """

    def accept(self) -> None:
        """Accept clients, in the nursery of :meth:`open_seeds`."""

    async def reconcile(self) -> None:
        """Open listeners for members that appeared and close those of members that went."""

    def close(self) -> None:
        """Accept no more clients."""

    def leave(self) -> None:
        """Somebody else has the listeners from now on: their paths are not this process's."""

    def placed(self) -> list[tuple[Placed, Listener]]:
        """Every open listener and its place, for a successor."""


class MemberListeners:
    """One listener for each of ``topology.members()``.

    ``first`` is where the first seed's listener is; other members follow on the next free
    ports, except those that ``given`` names a place for. ``take`` gets every client. Sockets
    that are ``inherited`` are taken where they fit, and members then keep their places.
    """

    def __init__(
        self,
        topology: Topology,
        settings: Listen,
        first: Address,
        given: dict[Address, Address],
        take: Take,
        exhausted: Callable[[OSError], None],
        inherited: Inherited = NOTHING,
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._access = Access(*settings.socket.numbers())
        self._first = first
        #: Where a member's listener has to be.
        self._wanted = dict(given)
        #: Where it was: one that comes back gets its place back.
        self._places: dict[Address, Address] = {}
        self._inherited = inherited
        self._accepting = False
        self._take = take
        self._exhausted = exhausted
        self._open: dict[Address, Listener] = {}
        self._seeds: tuple[Address, ...] = ()
        self._nursery: trio.Nursery | None = None
        self._log = logs.logger()

    def addresses(self) -> list[str]:
        """Where clients on this machine reach the seeds' listeners."""
        listeners = [self._open[seed] for seed in self._seeds if seed in self._open]
        return [_dialled(listener.address) for listener in listeners]

    async def open_seeds(self, seeds: tuple[Address, ...], nursery: trio.Nursery) -> None:
        """Open the first listeners. From :meth:`accept` on they, and all later ones, accept.

        Raises:
            OSError: an address cannot be used; ``filename`` is the address.
        """
        self._nursery = nursery
        self._seeds = seeds
        self._wanted.setdefault(seeds[0], self._first)
        self._places = self._inherited.places(self._wanted, self._first)
        for seed in seeds:
            self._start(await self._open_for(seed), nursery)

    def accept(self) -> None:
        """Accept clients, in the nursery of :meth:`open_seeds`."""
        assert self._nursery is not None
        self._accepting = True
        for listener in self._open.values():
            listener.own = listener.own or listener.handed
            self._accept(listener, self._nursery)

    async def reconcile(self) -> None:
        """Open listeners for members that appeared and close those of members that went."""
        nursery = self._nursery
        if nursery is None or nursery.cancel_scope.cancel_called:
            return
        wanted = self._topology.members()
        for address in [address for address in self._open if address not in wanted]:
            self._topology.closed(address)
            self._open.pop(address).close()
            self._log.info("listener closed", upstream=str(address))
        for address in wanted:
            if address in self._open:
                continue
            try:
                listener = await self._open_for(address)
            except OSError as error:
                self._log.error("no listener", upstream=str(address), problem=str(error))
                continue
            self._start(listener, nursery)
            self._log.info("listener opened", upstream=str(address), address=str(listener.address))

    def close(self) -> None:
        """Accept no more clients."""
        for listener in self._open.values():
            listener.close()

    def leave(self) -> None:
        """Somebody else has the listeners from now on: their paths are not this process's."""
        for listener in self._open.values():
            listener.own = False

    def placed(self) -> list[tuple[Placed, Listener]]:
        """Every open listener and its place, for a successor."""
        return [
            (Placed(upstream, self._wanted.get(upstream), listener.address), listener)
            for upstream, listener in self._open.items()
        ]

    async def _open_for(self, member: Address) -> Listener:
        wanted = self._wanted.get(member)
        place = self._places.get(member) or wanted
        backlog, inherited = self._settings.backlog, self._inherited
        if place is None:
            listener = await open_next_listener(self._first, member, backlog, inherited)
        else:
            listener = await open_listener(place, member, backlog, inherited, access=self._access)
            if wanted == self._first:
                self._first = listener.address
        self._places[member] = listener.address
        return listener

    def _start(self, listener: Listener, nursery: trio.Nursery) -> None:
        self._open[listener.upstream] = listener
        announce(listener, self._topology, self._settings)
        if self._accepting:
            self._accept(listener, nursery)

    def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        take = partial(self._take, listener)
        for sock in listener.sockets:
            nursery.start_soon(accept, sock, take, self._exhausted)


def announce(listener: Listener, topology: Topology, settings: Listen) -> None:
    """Have ``topology`` name a member by its listener."""
    if not listener.address.path:
        # A unix socket's path is no name that hello could give to anybody.
        listens_at = "" if listener.wildcard else listener.address.host
        host = settings.advertise or listens_at
        topology.opened(listener.upstream, listener.address.port, host)


def _dialled(address: Address) -> str:
    """A listener's address as somebody on the same machine dials it."""
    wildcards = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return str(Address(wildcards.get(address.host, address.host), address.port, address.path))
