"""One address for whoever is the primary: clients that cannot follow it themselves.

A connection goes to the member that is the primary when it comes, and ends when another one is.
Hello shows that member as the only one of its set, by the address that the client has reached: so a
driver stays there, whether or not it is told ``directConnection=true``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from proxy.addresses import Address
from proxy.errors import CommandError

if TYPE_CHECKING:
    from proxy.net.listeners import Listener
    from proxy.upstream.topology import Topology


#: Seconds that a driver has to leave a pool, after the connection ended by which it watches the
#: server. What it asks a former primary meanwhile is refused by that in words that it retries on.
_GRACE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Front:
    """How a connection that follows the primary is shown, and why it gets nowhere if so."""

    listener: Listener
    advertise: str | None
    refusal: CommandError | None = None

    def shown(self, local_host: str) -> str:
        """The address for hello, "" for a unix socket. ``local_host`` is where the client is."""
        at = self.listener.address
        host = self.advertise or ("" if self.listener.wildcard else at.host) or local_host
        return "" if at.path else str(Address(host.lower(), at.port))


class Follower(Protocol):
    """A client's connection, as far as it follows."""

    upstream: Address

    @property
    def greets(self) -> bool:
        """Whether it was asked for hello and for nothing else yet."""

    async def run(self) -> None:
        """Serve the client until either side ends it."""

    def drain(self) -> None:
        """End as soon as no work is in flight."""


class Following:
    """The connections that follow the primary. ``seconds`` is how long a new one waits for it."""

    def __init__(self, topology: Topology, seconds: float, hurry: Callable[[], None]) -> None:
        self._topology = topology
        self._seconds = seconds
        self._hurry = hurry
        self._moved = trio.Event()
        self._connections: Final[set[Follower]] = set()
        #: Since when they are with a former primary.
        self._former: Final[dict[Follower, float]] = {}

    def moved(self) -> None:
        """Something may have changed: let go of who is with a former primary."""
        self._moved.set()
        self._moved = trio.Event()
        now = trio.current_time()
        for connection in self._connections:
            if self._topology.leads(connection.upstream):
                self._former.pop(connection, None)
            elif connection.greets or now > self._former.setdefault(connection, now) + _GRACE:
                connection.drain()

    async def primary(self, seeds: tuple[Address, ...]) -> Address | CommandError:
        """Wait for a primary; where upstream has none by its nature, whoever is there."""
        topology = self._topology
        with trio.move_on_after(self._seconds):
            while True:
                if topology.primary is not None:
                    return topology.primary
                if topology.kind in ("standalone", "mongos"):
                    return seeds[0]
                moved = self._moved
                self._hurry()
                await moved.wait()
        return CommandError(
            133,
            "FailedToSatisfyReadPreference",
            'Could not find host matching read preference { mode: "primary" } for set '
            + (topology.set_name or "(unknown)"),
        )

    async def run(self, connection: Follower) -> None:
        """Run a connection, and ask anew who is the primary when it ends: that may be why."""
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._former.pop(connection, None)
            self._hurry()
