"""Networks of clients, as settings name them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network


class Networks:
    """Some of them. Clients of unix sockets have no address, and belong to any."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = [ip_network(network) for network in networks]

    def hold(self, peer: str) -> bool:
        """Whether ``peer``, as a listener or a PROXY header names it, is in one of them."""
        host, found, _ = peer.rpartition(":")
        if not found:
            return True  # no host and port: a unix socket
        address = ip_address(host.strip("[]"))
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)
