"""Where proxies' admin endpoints are: what ``--admin`` says, and what a name resolves to."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from proxy.addresses import Address, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PORT: Final = 27080
_ADDRESS: Final = re.compile(r"[^\s/]+:\d+")
_SCHEMES: Final = {"http": 80, "https": 443}


class Place(NamedTuple):
    """One endpoint. ``path`` is what stands before its own paths, without the last slash; ``ip``
    is which machine is meant where the host's name is that of several."""

    host: str
    port: int
    tls: bool = False
    path: str = ""
    ip: str = ""

    def __str__(self) -> str:
        where = f"{Address(self.ip or self.host, self.port)}{self.path}"
        return f"https://{where}" if self.tls else where

    @property
    def named(self) -> str:
        """The Host header."""
        return str(Address(self.host, self.port))


def place_of(text: str) -> Place:
    """The place that ``HOST``, ``HOST:PORT`` or an http:// or https:// URL names.

    Raises:
        ValueError: it is none of these.
    """
    scheme, colon, _ = text.partition("://")
    if not colon:
        parsed = parse_address(text, default_port=_PORT)
        if parsed.path:
            raise ValueError("has to be HOST:PORT or a URL")
        return Place(parsed.host, parsed.port)
    if scheme.lower() not in _SCHEMES:
        raise ValueError(f"{text!r}: a URL has to begin with http:// or https://")
    url = urlsplit(text)
    if "@" in url.netloc or url.query or url.fragment or not url.path.isprintable():
        raise ValueError(f"{text!r}: a URL may have a host, a port and a path")
    parsed = parse_address(url.netloc, default_port=_SCHEMES[scheme.lower()])
    return Place(parsed.host, parsed.port, scheme.lower() == "https", url.path.rstrip("/"))


def resolved(place: Place) -> list[Place]:
    """The places that a name is that of: it alone where that is one, or does not resolve now.

    A machine may have an address of each kind; of names that several have, those of one kind count.
    """
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except OSError:
        return [place]
    kinds: dict[int, dict[str, None]] = {}
    for family, _, _, _, address in found:
        kinds.setdefault(family, {})[str(address[0])] = None
    most = max(kinds.values(), key=len, default={})
    if len(most) < 2:
        return [place]
    return [place._replace(ip=one) for one in sorted(most)]


def all_places(texts: list[str]) -> Iterator[Place]:
    """The places in some texts with commas between them, each once.

    Raises:
        ValueError: one is none.
    """
    seen: set[Place] = set()
    for text in ",".join(texts).split(","):
        place = place_of(text.strip())
        if place not in seen:
            seen.add(place)
            yield place


def told_apart(addresses: Sequence[str]) -> list[str]:
    """Addresses without what all that are ``HOST:PORT`` have in common, as long as they differ: the
    host, or the port and the end of the hosts' names. Other texts stay as they are."""
    parts = {one: one.rpartition(":")[::2] for one in addresses if _ADDRESS.fullmatch(one)}
    if len(parts) < 2:
        return list(addresses)
    hosts = {host: host for host, _ in parts.values()}
    alike = len({port for _, port in parts.values()}) == 1
    if len(hosts) == 1:
        return [f":{parts[one][1]}" if one in parts else one for one in addresses]
    labels = [host.split(".") for host in hosts]
    if not any(host.startswith("[") or host.replace(".", "").isdigit() for host in hosts):
        ends = 0
        while (
            all(len(one) > ends + 1 for one in labels) and len({o[-ends - 1] for o in labels}) == 1
        ):
            ends += 1
        hosts = {host: ".".join(host.split(".")[: -ends or None]) for host in hosts}
    short = {
        one: hosts[host] if alike else f"{hosts[host]}:{port}"
        for one, (host, port) in parts.items()
    }
    return [short.get(one, one) for one in addresses]
