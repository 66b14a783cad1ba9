"""Where clients' redirected connections may lead: networks with their ports."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Annotated, Final

from pydantic import AfterValidator

#: The ports that mongod and mongos have by default, on networks that are nobody's but one's own.
#: Loopback is not among them: what listens there is often meant for nobody else.
PRIVATE: Final = (
    "10.0.0.0/8:27017-27019",
    "172.16.0.0/12:27017-27019",
    "192.168.0.0/16:27017-27019",
    "[fc00::/7]:27017-27019",
)


@dataclass(frozen=True, slots=True)
class Range:
    """A network and the ports from ``first`` to ``last``."""

    network: IPv4Network | IPv6Network
    first: int
    last: int

    def holds(self, number: IPv4Address | IPv6Address, port: int) -> bool:
        """Whether this address and port lie in it."""
        return self.first <= port <= self.last and number in self.network


def parse_range(text: str) -> Range:
    """``NETWORK:PORT`` or ``NETWORK:FIRST-LAST``, an IPv6 network in brackets.

    A network may be a single address; ``0.0.0.0/0`` is all of IPv4.

    Raises:
        ValueError: it is neither.
    """
    where, colon, ports = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} is not NETWORK:PORTS, such as 10.0.0.0/8:27017-27019")
    if where.startswith("[") and where.endswith("]"):
        where = where[1:-1]
    elif ":" in where:
        raise ValueError(f"{text!r}: an IPv6 network has to stand in brackets")
    try:
        network = ip_network(where)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    first, dash, last = ports.partition("-")
    found = [_port(text, port) for port in ((first, last) if dash else (first, first))]
    if found[0] > found[1]:
        raise ValueError(f"{text!r}: no port is from {first} to {last}")
    return Range(network, *found)


def _port(text: str, port: str) -> int:
    if not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) <= 65_535:
        raise ValueError(f"{text!r}: {port[:20]!r} is no port")
    return int(port)


def _range(value: str) -> str:
    parse_range(value)
    return value


Destination = Annotated[str, AfterValidator(_range)]
