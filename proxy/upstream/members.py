"""The listeners that stand for upstream's members: the first ones, and those that come and go."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from errno import EACCES, EADDRINUSE
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Protocol

from proxy import logs
from proxy.addresses import Address, dialled
from proxy.net.inherited import NOTHING, Inherited, Placed
from proxy.net.listeners import Listener, accept, open_listener, open_next_listener
from proxy.net.unix import Access
from proxy.upstream.places import ports
from proxy.upstream.topology import PRIMARY

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

    def reseed(self, seeds: tuple[Address, ...]) -> None:
        """There are other seeds; :meth:`reconcile` does what follows from that."""

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

    ``first`` is where the listener of one seed is: of the first by name. Other members have the
    ports of :mod:`proxy.upstream.places` above it, but for the ``reserved``, except those that
    ``given`` names a place for. ``take`` gets every client. Sockets that are ``inherited`` are
    taken where they fit; ``cluster`` is whose they are.
    """

    #: Told of a member whose port comes to stand for another: its connections have to end.
    displaced: Callable[[Address], object] = staticmethod(lambda _member: None)

    def __init__(
        self,
        topology: Topology,
        settings: Listen,
        first: Address,
        given: dict[Address, Address],
        take: Take,
        exhausted: Callable[[OSError], None],
        inherited: Inherited = NOTHING,
        reserved: Collection[int] = (),
        cluster: str = "",
    ) -> None:
        self._topology = topology
        self._settings = settings
        self._access = Access(*settings.socket.numbers())
        self._first = first
        #: Where a member's listener has to be.
        self._wanted = dict(given)
        self._given = dict(given)
        #: Where it was: who comes back gets a place back that was nobody's in particular.
        self._places: dict[Address, Address] = {}
        #: Whose port was somebody else's, and which that is.
        self._elsewhere: dict[Address, int] = {}
        #: Whom each port stood for last.
        self._stood: dict[int, Address] = {}
        self._reserved = reserved
        #: Whether clients may come by a name that leads to other proxies as well.
        self._shared = settings.advertise is not None and first.port > 0
        #: Why members have none.
        self._problems: dict[Address, str] = {}
        self._inherited = inherited
        self._accepting = False
        self._take = take
        self._exhausted = exhausted
        self._open: dict[Address, Listener] = {}
        self._seeds: tuple[Address, ...] = ()
        self._nursery: trio.Nursery | None = None
        self._cluster = cluster
        self._log = logs.of_cluster(cluster)

    def addresses(self) -> list[str]:
        """Where clients on this machine reach the seeds' listeners."""
        listeners = [self._open[seed] for seed in self._seeds if seed in self._open]
        return [str(dialled(listener.address)) for listener in listeners]

    async def open_seeds(self, seeds: tuple[Address, ...], nursery: trio.Nursery) -> None:
        """Open the first listeners. From :meth:`accept` on they, and all later ones, accept.

        Raises:
            OSError: an address cannot be used; ``filename`` is the address.
        """
        self._nursery = nursery
        self._seeds = seeds
        front = [PRIMARY] if PRIMARY in self._given else []
        self._wanted = self._given | {seed: self._first for seed in self._foremost(seeds)}
        self._places = self._inherited.places(self._wanted, self._first, self._cluster)
        # The others' ports lie above the first one's.
        for seed in sorted((*seeds, *front), key=lambda seed: seed not in self._wanted):
            self._start(await self._open_for(seed), nursery)

    def _foremost(self, seeds: tuple[Address, ...]) -> list[Address]:
        """Who has the first port, if anybody: by name, as other proxies of the set may have the
        same seeds in another order."""
        free = set(seeds) - self._given.keys()
        return sorted(free, key=attrgetter("host", "port", "path"))[:1]

    def reseed(self, seeds: tuple[Address, ...]) -> None:
        """There are other seeds; :meth:`reconcile` does what follows from that."""
        self._seeds = seeds
        before = self._wanted.keys() - self._given.keys()
        if before and (foremost := self._foremost(seeds)) != list(before):
            [one] = before
            literal = self._wanted.pop(one)
            self._places.pop(one, None)
            self._wanted |= {seed: literal for seed in foremost}
            self._places |= {seed: self._first for seed in foremost}

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
        if self._settings.redirected:
            return  # The one listener stands for all.
        if nursery is None or nursery.cancel_scope.cancel_called:
            return
        wanted = self._topology.members()
        if PRIMARY in self._given:
            wanted = (*wanted, PRIMARY)
        self._pass_first_on()
        own = self._own_ports(wanted)
        for address in [one for one in self._open if one not in wanted or self._moves(one, own)]:
            self._close(address)
        for address in wanted:
            if address in self._open:
                continue
            try:
                listener = await self._open_for(address)
            except OSError as error:
                if self._problems.get(address) != str(error):
                    self._problems[address] = str(error)
                    self._log.error("no listener", upstream=str(address), problem=str(error))
                continue
            self._problems.pop(address, None)
            self._start(listener, nursery)
            self._log.info("listener opened", upstream=str(address), address=str(listener.address))

    def _close(self, member: Address) -> None:
        self._topology.closed(member)
        self._open.pop(member).close()
        self._log.info("listener closed", upstream=str(member))

    def _pass_first_on(self) -> None:
        """Have the first port stand for another seed, if one is foremost now. Clients know that
        port alone, perhaps: there is no moment at which nobody listens there."""
        for seed in self._wanted.keys() - self._given.keys():
            former = next((m for m, one in self._open.items() if one.address == self._first), seed)
            if former != seed:
                if seed in self._open:
                    self._close(seed)
                listener = self._open.pop(former)
                self._topology.closed(former)
                listener.upstream = seed
                self._name(listener)
                self._passed(listener)
                self._log.info("listener passed on", upstream=str(seed), former=str(former))

    def _passed(self, listener: Listener) -> None:
        """It accepts for another member from now on; whoever has it sees whom."""

    def close(self) -> None:
        """Accept no more clients."""
        self._accepting = False
        for listener in self._open.values():
            listener.close()

    def leave(self) -> None:
        """Somebody else has the listeners from now on: their paths are not this process's."""
        for listener in self._open.values():
            listener.own = False

    def placed(self) -> list[tuple[Placed, Listener]]:
        """Every open listener and its place, for a successor."""
        return [
            (Placed(upstream, self._wanted.get(upstream), one.address, self._cluster), one)
            for upstream, one in self._open.items()
        ]

    def _own_ports(self, members: Iterable[Address]) -> dict[Address, int]:
        """The ports of those that the settings name no place for."""
        taken = {place.port for place in self._wanted.values()} | {self._first.port}
        by_name = {str(one): one for one in members if one not in self._wanted}
        found = ports(self._first.port, by_name, taken | set(self._reserved))
        return {by_name[name]: port for name, port in found.items()}

    def _moves(self, member: Address, own: Mapping[Address, int]) -> bool:
        """Whether a member's listener is not where it belongs, and could be."""
        place = self._places.get(member) if member in self._wanted else None
        port = place.port if place else own.get(member, self._open[member].address.port)
        return port not in (self._open[member].address.port, self._elsewhere.get(member))

    async def _open_for(self, member: Address) -> Listener:
        wanted = self._wanted.get(member)
        backlog, inherited = self._settings.backlog, self._inherited
        if wanted is None:
            return await self._open_own(member)
        place = self._places.get(member) or wanted
        listener = await open_listener(
            place,
            member,
            backlog,
            inherited,
            access=self._access,
            transparent=self._settings.mode == "tproxy",
        )
        if member not in self._given:
            self._first = listener.address
        self._places[member] = listener.address
        return listener

    async def _open_own(self, member: Address) -> Listener:
        """Open the listener of a member that the settings name no place for."""
        own = self._own_ports({*self._topology.members(), *self._seeds})
        port, backlog, inherited = own.get(member), self._settings.backlog, self._inherited
        if port is not None:
            try:
                place = Address(self._first.host, port)
                listener = await open_listener(place, member, backlog, inherited)
            except OSError as error:
                # Behind a name that other proxies have too, the port must not stand for another.
                if self._shared or error.errno not in (EADDRINUSE, EACCES):
                    raise
            else:
                self._elsewhere.pop(member, None)
                return listener
        listener = await self._open_any(member, {*own.values(), *self._reserved})
        self._elsewhere[member], self._places[member] = port or 0, listener.address
        self._log.warning(
            "not at its own port", upstream=str(member), own=port, address=str(listener.address)
        )
        return listener

    async def _open_any(self, member: Address, avoided: Collection[int]) -> Listener:
        """Open a listener where it was, or at the next port that is nobody's."""
        backlog, inherited = self._settings.backlog, self._inherited
        before = self._places.get(member)
        if before is not None:
            with suppress(OSError):
                return await open_listener(before, member, backlog, inherited)
        return await open_next_listener(self._first, member, backlog, inherited, avoided)

    def _start(self, listener: Listener, nursery: trio.Nursery) -> None:
        self._name(listener)
        if self._accepting:
            self._accept(listener, nursery)

    def _name(self, listener: Listener) -> None:
        """Have hello name a member by this listener from now on."""
        self._open[listener.upstream] = listener
        before = self._stood.get(listener.address.port, listener.upstream)
        self._stood[listener.address.port] = listener.upstream
        if before != listener.upstream:
            self.displaced(before)
        announce(listener, self._topology, self._settings)

    def _accept(self, listener: Listener, nursery: trio.Nursery) -> None:
        take = partial(self._take, listener)
        for sock in listener.sockets:
            nursery.start_soon(accept, sock, take, self._exhausted)


def announce(listener: Listener, topology: Topology, settings: Listen) -> None:
    """Have ``topology`` name a member by its listener."""
    if listener.upstream != PRIMARY and not listener.address.path:
        # A unix socket's path is no name that hello could give to anybody.
        listens_at = "" if listener.wildcard else listener.address.host
        host = settings.advertise or listens_at
        topology.opened(listener.upstream, listener.address.port, host)
