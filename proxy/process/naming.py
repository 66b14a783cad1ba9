"""Which namespaces are counted by name, seen to every few seconds; with several workers, for all.

A worker tells what it has met and what was used there. The supervisor decides, and tells all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from proxy.observe.namespaces import added
from proxy.observe.top_namespaces import ROUND, TopNamespaces

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.observe.namespaces import Uses
    from proxy.observe.telemetry import Telemetry


class Naming:
    """Decides it for one process alone; ``most`` may have names, 0 to count nothing so."""

    def __init__(self, telemetry: Telemetry, most: int) -> None:
        telemetry.name_namespaces(most)
        self._telemetry = telemetry
        self.top = TopNamespaces(most)
        if telemetry.namespaces is not None:
            telemetry.namespaces.admit = self._admit

    async def run(self) -> None:
        """Look at what was used until cancelled."""
        while self._telemetry.namespaces is not None:
            await trio.sleep(ROUND)
            self.look()

    def look(self) -> None:
        """See what was used lately."""
        namespaces = self._telemetry.namespaces
        if namespaces is not None and self.top.look(namespaces.uses()):
            namespaces.name(self.top.names)

    def _admit(self, name: str) -> bool:
        return self.top.admit((name,))


class WorkersNaming(Naming):
    """Has it decided elsewhere. ``tell`` gets what was met and what was used."""

    def __init__(
        self, telemetry: Telemetry, most: int, tell: Callable[[Sequence[str], Uses], None]
    ) -> None:
        super().__init__(telemetry, most)
        self._tell = tell
        self._met: list[str] = []

    def look(self) -> None:
        if self._telemetry.namespaces is not None:
            uses = self._telemetry.namespaces.uses()
            if uses:
                self._tell((), uses)

    def news(self) -> None:
        """Tell what was met."""
        if self._met:
            met, self._met = self._met, []
            self._tell(met, {})

    def decided(self, names: Sequence[str]) -> None:
        """These have names from now on."""
        if self._telemetry.namespaces is not None:
            self._telemetry.namespaces.name(names)

    def _admit(self, name: str) -> bool:
        self._met.append(name)
        return False


class WholeNaming(Naming):
    """Decides it for all workers. ``tell`` gets the names whenever there are others."""

    def __init__(
        self, telemetry: Telemetry, most: int, tell: Callable[[Sequence[str]], None]
    ) -> None:
        super().__init__(telemetry, most)
        self._tell = tell
        self._heard: list[Uses] = []

    def look(self) -> None:
        heard, self._heard = self._heard, []
        if self.top.look(added(heard)):
            self._tell(self.top.names)

    def hear(self, met: Sequence[str], uses: Uses) -> None:
        """A worker tells."""
        if uses:
            self._heard.append(uses)
        if self.top.admit(met):
            self._tell(self.top.names)
