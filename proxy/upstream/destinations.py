"""What stands where redirected clients were to go: nobody has to be known before they come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.upstream.topology import Kind, Seen, Topology, kind_of_all, read_hello

if TYPE_CHECKING:
    from proxy.addresses import Address

#: Destinations that are asked for hello: of more, those that clients came for last.
_MOST: Final = 100

#: Hellos in a row that a destination may leave unanswered, some minutes in all, before it is
#: asked no more. A client that comes for it begins anew.
_PATIENCE: Final = 50


class Destinations(Topology):
    """The processes that clients have reached, and ``seeds`` that are asked from the beginning.

    None of them has a listener of its own, and no hello is changed. Other than members of a set
    they need not have to do with each other.
    """

    def __init__(self, seeds: tuple[Address, ...]) -> None:
        #: By address, the latest last: hellos that were not answered since a client came.
        self._reached: dict[Address, int] = {}
        self._heard: dict[Address, Seen] = {}
        super().__init__(seeds, direct=True)
        self.settles = False

    @property
    def kind(self) -> Kind:
        return kind_of_all(seen.kind for seen in self._heard.values())

    @property
    def primary(self) -> Address | None:
        primaries = (one for one, seen in self._heard.items() if seen.primary)
        return next(primaries, None)

    def seen(self, address: Address) -> Seen | None:
        return self._heard.get(address)

    def targets(self) -> tuple[Address, ...]:
        return tuple(dict.fromkeys((*self._seeds, *self._reached)))

    def members(self) -> tuple[Address, ...]:
        return self.targets()

    def reached(self, address: Address) -> bool:
        known = self._reached.pop(address, None)
        self._reached[address] = 0
        if len(self._reached) > _MOST:
            self._forget(next(iter(self._reached)))
        return known != 0

    def observe(self, address: Address, hello: Mapping[str, Any], _now: float) -> str:
        if hello.get("ok") != 1:
            self.failed(address)
            return f"hello failed: {hello.get('errmsg')!r}"
        if address in self._reached:
            self._reached[address] = 0
        seen = read_hello(hello)
        if seen.primary:
            # Who was it before in the same set is it no more.
            for other, before in self._heard.items():
                if before.primary and before.set_name == seen.set_name and other != address:
                    self._heard[other] = before.demoted()
        self._heard[address] = seen
        return ""

    def failed(self, address: Address) -> None:
        seen = self._heard.get(address)
        if seen is not None and seen.primary:
            self._heard[address] = seen.demoted()
        if address in self._reached:
            self._reached[address] += 1
            if self._reached[address] >= _PATIENCE:
                self._forget(address)

    def _forget(self, address: Address) -> None:
        del self._reached[address]
        if address not in self._seeds:
            self._heard.pop(address, None)
