"""Seeds from DNS: what ``mongodb+srv://`` leads to.

By the specifications "Initial DNS Seedlist Discovery" and "Polling SRV Records for mongos
Discovery": the hosts of ``_mongodb._tcp.NAME``, all in the same domain as NAME, and the few options
that a TXT record of NAME may have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from proxy.addresses import Address, parse_address
from proxy.errors import LookUpError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.addresses import Srv

#: Seconds between two questions at the least; a longer time to live is kept to.
SOONEST: Final = 60.0

#: Hosts that are looked at.
_MOST: Final = 1_000

_OPTIONS: Final = ("authsource", "replicaset", "loadbalanced")


@dataclass(frozen=True, slots=True)
class Found:
    """What DNS has said. ``strange`` are hosts of other domains, which nobody is led to;
    ``seconds`` is how long it holds."""

    seeds: tuple[Address, ...]
    strange: tuple[str, ...] = ()
    seconds: float = SOONEST
    options: Mapping[str, str] = field(default_factory=dict)


async def find(srv: Srv, seconds: float) -> Found:
    """Look up seeds and options for a start, for so many seconds at the most.

    Raises:
        LookUpError: DNS has no answer, or one that must not be believed.
    """
    found = await hosts(srv, seconds)
    if found.strange:
        raise LookUpError(f"{srv.name}: {found.strange[0]} is not in the same domain")
    options = _options(srv.name, await _ask(srv.name, "TXT", seconds, missing=True))
    if options.get("loadbalanced") == "true" and len(found.seeds) > 1:
        raise LookUpError(f"{srv.name}: loadBalanced=true, and more than one host")
    return Found(found.seeds, seconds=found.seconds, options=options)


async def hosts(srv: Srv, seconds: float) -> Found:
    """Look up the seeds alone, in the order of their names.

    Raises:
        LookUpError: as :func:`find`; there is at least one seed otherwise.
    """
    answer = await _ask(f"_{srv.service}._tcp.{srv.name}", "SRV", seconds)
    seeds: list[Address] = []
    strange: list[str] = []
    for target, port in answer.hosts[:_MOST]:
        try:
            seed = parse_address(f"{target}:{port}")
        except ValueError:
            seed = Address()
        if seed.port and not seed.path and same_domain(seed.host, srv.name):
            seeds.append(seed)
        else:
            strange.append(target[:300])
    if not seeds and not strange:
        raise LookUpError(f"{srv.name}: no hosts")
    if not seeds:
        raise LookUpError(f"{srv.name}: {strange[0]} is not in the same domain")
    return Found(tuple(sorted(set(seeds), key=str)), tuple(strange), max(SOONEST, answer.seconds))


def same_domain(host: str, name: str) -> bool:
    """Whether ``host`` is in the domain of ``name``, or below a name of one or two parts."""
    parts = name.split(".")
    domain = parts[1:] if len(parts) > 2 else parts
    own = host.split(".")
    return len(own) > len(domain) and own[-len(domain) :] == domain


@dataclass(frozen=True, slots=True)
class _Answer:
    hosts: list[tuple[str, int]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    seconds: float = 0.0


async def _ask(name: str, kind: str, seconds: float, *, missing: bool = False) -> _Answer:
    # A tenth of a second to import, for those alone that need it.
    from dns import asyncresolver
    from dns.exception import DNSException
    from dns.rdtypes.ANY.TXT import TXT
    from dns.rdtypes.IN.SRV import SRV
    from dns.resolver import NXDOMAIN, NoAnswer

    try:
        resolver = asyncresolver.get_default_resolver()
        answer = await resolver.resolve(name, kind, lifetime=seconds, search=False)
    except (NoAnswer, NXDOMAIN) as error:
        if missing:
            return _Answer()
        raise LookUpError(f"{name}: {error}") from error
    except (DNSException, OSError, ValueError) as error:
        raise LookUpError(f"{name}: {str(error) or type(error).__name__}") from error
    found = _Answer(seconds=float(answer.rrset.ttl if answer.rrset is not None else 0))
    for record in answer:
        if isinstance(record, SRV):
            found.hosts.append((record.target.to_text(omit_final_dot=True).lower(), record.port))
        elif isinstance(record, TXT):
            found.texts.append(b"".join(record.strings).decode("utf-8", "replace"))
    return found


def _options(name: str, answer: _Answer) -> dict[str, str]:
    """Options by their names in lower case."""
    if len(answer.texts) > 1:
        raise LookUpError(f"{name}: more than one TXT record")
    options: dict[str, str] = {}
    for option in filter(None, "".join(answer.texts).split("&")):
        key, _, value = option.partition("=")
        if key.lower() not in _OPTIONS or not value:
            raise LookUpError(f"{name}: the TXT record has {key[:60]!r}, which is not allowed")
        options[key.lower()] = unquote(value)
    if options.get("loadbalanced", "true") not in ("true", "false"):
        raise LookUpError(f"{name}: loadBalanced has to be true or false")
    return options
