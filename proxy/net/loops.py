"""Whether addresses in the settings already tell that the proxy would be its own upstream.

Only what can be said for certain is said: names are looked up where ports are equal, and one that
nobody knows here says nothing. What addresses do not show is found out by
:mod:`proxy.upstream.ways`.
"""

from __future__ import annotations

import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from proxy.addresses import Address, parse_address

if TYPE_CHECKING:
    from proxy.settings.config import Config

_Number = IPv4Address | IPv6Address

#: Where a connection to "any address" ends.
_ANY = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}


def problems(config: Config) -> list[str]:
    """Listeners that upstream's addresses lead to, and those that have the admin endpoint's place.

    Looks up names, which may take seconds, where ports are equal.
    """
    members = config.upstream.members
    listeners = {
        f"upstream.members[{number}].listen": parse_address(member.listen)
        for number, member in enumerate(members)
    } or {"listen.address": parse_address(config.listen.address)}
    if config.listen.primary is not None:
        listeners["listen.primary"] = parse_address(config.listen.primary)
    upstreams = [
        (f"upstream.members[{number}].upstream" if members else "upstream.address", seed)
        for number, seed in enumerate(config.seeds if config.embedded is None or members else ())
    ]
    admin = {}
    if config.admin.address is not None:
        admin = {"admin.address": parse_address(config.admin.address)}
    found = [
        f"{where}: {address} is the proxy's own {_kind(name)} ({name}),"
        " so that it would be its own upstream"
        for where, address in upstreams
        for name, place in (listeners | admin).items()
        if leads_to(address, place)
    ]
    found += [
        f"{name}: {place} is where the admin endpoint is (admin.address)"
        for name, place in listeners.items()
        for taken in admin.values()
        if leads_to(place, taken)
    ]
    return found


def _kind(name: str) -> str:
    return "admin endpoint" if name == "admin.address" else "listener"


def leads_to(upstream: Address, listener: Address) -> bool:
    """Whether somebody here who dials ``upstream`` reaches ``listener``."""
    if upstream.path or listener.path:
        return bool(upstream.path and listener.path) and _same_file(upstream.path, listener.path)
    if upstream.port != listener.port or not listener.port:
        return False
    if upstream.host == listener.host:
        return True
    places = _numbers(listener.host)
    for number in _numbers(upstream.host):
        dialled = _ANY[number.version] if number.is_unspecified else number
        for place in places:
            if dialled == place:
                return True
            if place.is_unspecified and place.version == dialled.version and is_here(dialled):
                return True
    return False


def is_here(number: _Number) -> bool:
    """Whether an address is one of this machine's own."""
    if number.is_loopback:
        return True
    family = socket.AF_INET if number.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            # Sends nothing. To itself the machine speaks from the same address.
            probe.connect((str(number), 9))
            return plain(probe.getsockname()[0]) == number
    except OSError:
        return False


def plain(number: str) -> _Number:
    """An address as sockets say it: without a zone, and IPv4 as what it is.

    Raises:
        ValueError: it is none.
    """
    found = ip_address(number.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _numbers(host: str) -> list[_Number]:
    if host == "*":
        return [ip_address("0.0.0.0"), ip_address("::")]
    try:
        return [plain(host)]
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(plain(str(where[0])) for *_, where in found))


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
