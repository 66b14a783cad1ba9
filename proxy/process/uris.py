"""What somebody can paste into a driver or a shell to connect through the proxy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from proxy.addresses import Address, client_uri, dialled, parse_address, parse_upstream

if TYPE_CHECKING:
    from proxy.settings.config import Config


def pasted(config: Config, addresses: Sequence[str]) -> str:
    """A URI by which clients reach listeners that are dialled by ``addresses`` on this machine;
    "" where they dial upstream itself.

    By the names that hello gives them, where the settings have such names: a driver goes on to
    these anyway, and a certificate covers them.
    """
    if config.listen.redirected:
        return ""
    upstream = parse_upstream(config.upstream.address)
    given = [member.advertise for member in config.upstream.members]
    unix = [address for address in addresses if address.startswith("/")]
    host = config.listen.advertise
    if unix:
        # Members have no names there that a driver could go on to.
        addresses = unix[:1]
    elif given:
        addresses = [str(parse_address(one)) for one in given]
    elif host is not None:
        addresses = [str(Address(host, parse_address(one).port)) for one in addresses]
    own_names = upstream.direct or not config.rewrites
    set_name = upstream.replica_set or (config.embedded.set_name if config.embedded else "")
    return client_uri(
        addresses,
        direct=bool(unix) or (own_names and len(addresses) == 1),
        tls=config.listen.tls is not None,
        replica_set=set_name or "",
    )


def primary_pasted(config: Config, address: Address) -> str:
    """The same for the listener at ``address``, which follows the primary."""
    host = config.listen.advertise
    shown = Address(host, address.port) if host and not address.path else dialled(address)
    return client_uri([str(shown)], direct=True, tls=config.listen.tls is not None)
