"""What stands upstream, from what its members say in hello, and which listeners that takes.

Rules for whom to believe are those of the "Server Discovery And Monitoring" specification:
a primary over the others, a later ``electionId`` over an earlier one, then a higher
``setVersion``. No I/O and no clock: ``now`` is in seconds on any monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import Any, Final, Literal

from bson import ObjectId

from proxy.addresses import Address, parse_address

Kind = Literal["unknown", "standalone", "replica set", "mongos"]
_TELLING: Final[tuple[Kind, ...]] = ("replica set", "mongos", "standalone")

#: Stands for whichever member is the primary, where a listener follows that. Nobody is called so.
PRIMARY: Final = Address("primary", 0)

#: The server's own limit on members of a replica set.
MAX_MEMBERS: Final = 50

#: Names of a list that are looked at: to take in 50,000 holds the loop for 50 ms.
_MOST_LISTED: Final = 1_000

#: After so many seconds of nothing but contradiction, the set is believed to have been made
#: anew under its old name (its versions then start again from 1). A primary that lost its
#: majority steps down long before.
FORGET_SECONDS: Final = 60.0

#: Host spellings that clients may come by; more than these are a mistake somewhere.
_MAX_HOSTS: Final = 256


@dataclass(frozen=True, slots=True)
class Seen:
    """One member's latest hello, as far as the topology depends on it. Names in lower case."""

    kind: Kind
    set_name: str = ""
    names: tuple[str, ...] = ()
    me: str = ""
    primary: bool = False
    hidden: bool = False
    election: bytes = b""
    version: int = 0
    #: What it is in its set, for people.
    role: str = ""

    def demoted(self) -> Seen:
        """The same one as no primary."""
        return replace(self, primary=False, role="")


@dataclass(slots=True)
class _Config:
    """The replica set's configuration as far as it is believed."""

    set_name: str
    names: tuple[str, ...]
    election: bytes
    version: int
    contradicted: float | None = None


class Topology:
    """The members behind the proxy and the addresses under which clients reach them.

    ``seeds`` have the first listeners, in their order. With ``given`` (upstream → advertised
    address, as the configuration has them) or ``direct`` nobody else gets one; otherwise every
    member that the replica set lists does. ``replica_set``, where not None, is the only set
    that is believed.
    """

    def __init__(
        self,
        seeds: tuple[Address, ...],
        *,
        given: Mapping[Address, str] | None = None,
        replica_set: str | None = None,
        direct: bool = False,
    ) -> None:
        self._seeds = seeds
        self._given = {
            address: str(parse_address(advertised)) for address, advertised in (given or {}).items()
        }
        self._replica_set = replica_set
        #: Whether members that hello names get listeners of their own.
        self.grows = not given and not direct
        #: Whether it can be known whom to ask before clients come.
        self.settles = True
        self._seen: dict[Address, Seen] = {}
        self._names: dict[Address, str] = {}
        self._config: _Config | None = None
        self._primary: Address | None = None
        self._members: tuple[Address, ...] = ()
        self._open: set[Address] = set()
        self._where: dict[Address, tuple[str, int]] = {}
        self._maps: dict[str, dict[str, str]] = {}
        self._settle()

    @property
    def kind(self) -> Kind:
        """What upstream is; a set that has no configuration yet is a replica set too."""
        if self._config is not None:
            return "replica set"
        return kind_of_all(self._seen[seed].kind for seed in self._seeds if seed in self._seen)

    @property
    def primary(self) -> Address | None:
        """The member last seen to be the primary, and not since seen to be none."""
        return self._primary

    @property
    def set_name(self) -> str:
        """The replica set's, "" where that is not known."""
        return self._config.set_name if self._config else self._replica_set or ""

    def leads(self, address: Address) -> bool:
        """Whether a member is the primary for all that is known, or there are no such members.

        One that does not answer is, until another is or it says that it is not.
        """
        if self._primary is not None or self.kind in ("standalone", "mongos"):
            return self._primary in (address, None)
        seen = self._seen.get(address)
        elected = self._config.election if self._config else b""
        return seen is not None and seen.primary and seen.election >= elected

    def targets(self) -> tuple[Address, ...]:
        """Whom to ask: every seed, and every member that has a listener."""
        return tuple(dict.fromkeys((*self._seeds, *self._members)))

    def members(self) -> tuple[Address, ...]:
        """Who has to have a listener now: seeds first, then the others as the set lists them."""
        return self._members

    def reseed(self, seeds: tuple[Address, ...], replica_set: str | None = None) -> None:
        """Other seeds than before, of the set that was ever believed or of this one."""
        self._seeds = seeds
        self._replica_set = self._replica_set or replica_set
        self._settle()

    def seen(self, address: Address) -> Seen | None:
        """What the process there said last; None before that."""
        return self._seen.get(address)

    def name_of(self, address: Address) -> str:
        """What a member calls itself, in lower case; "" where that is not known."""
        return self._names.get(address, "")

    # ------------------------------------------------------------------ what was heard

    def observe(self, address: Address, hello: Mapping[str, Any], now: float) -> str:
        """Take in the hello reply document of the member at ``address``.

        Returns what is wrong with it, "" for nothing.
        """
        if hello.get("ok") != 1:
            self.failed(address)
            return f"hello failed: {hello.get('errmsg')!r}"
        seen = read_hello(hello)
        if self._primary == address and not seen.primary:
            self._primary = None
        problem = ""
        if seen.set_name:
            problem = self._learn(address, seen, now)
        elif self._config is not None:
            self._contradict(self._config, now)
            if self._forgotten(now) and seen.kind != "replica set":
                self._config = None
        if self._replica_set and seen.kind in ("standalone", "mongos"):
            problem = f"is no member of replica set {self._replica_set!r}"
        self._seen[address] = seen
        self._settle()
        return problem

    def reached(self, _address: Address) -> bool:
        """A client that says itself whom to dial was connected; whether that is to be asked
        anew."""
        return False

    def failed(self, address: Address) -> None:
        """The member at ``address`` did not answer. It keeps its listener."""
        if self._primary == address:
            self._primary = None

    def _learn(self, address: Address, seen: Seen, now: float) -> str:
        config = self._config
        wanted = self._replica_set or (config.set_name if config else seen.set_name)
        if seen.set_name != wanted and (self._replica_set or not self._forgotten(now)):
            if config is not None:
                self._contradict(config, now)
            return f"is a member of replica set {seen.set_name!r}, not of {wanted!r}"
        if seen.me:
            self._names[address] = seen.me
        if config is None or self._forgotten(now):
            believed = True
        elif seen.primary:
            believed = (seen.election, seen.version) >= (config.election, config.version)
        else:
            believed = self._primary is None and seen.version >= config.version
        if believed:
            election = seen.election or (config.election if config else b"")
            self._config = _Config(seen.set_name, seen.names, election, seen.version)
            if seen.primary:
                self._primary = address
        elif config is not None and seen.names != config.names:
            self._contradict(config, now)
        return ""

    def _contradict(self, config: _Config, now: float) -> None:
        if config.contradicted is None:
            config.contradicted = now

    def _forgotten(self, now: float) -> bool:
        since = self._config.contradicted if self._config else None
        return since is not None and now - since > FORGET_SECONDS

    # ------------------------------------------------------------------ who has a listener

    def _settle(self) -> None:
        """Work out the members anew, and forget who is none."""
        members = [seed for slot, seed in enumerate(self._seeds) if self._seed_stands(slot)]
        if self.grows and self._config is not None:
            taken = {self._names.get(seed, str(seed)) for seed in members}
            others = [name for name in self._config.names[:MAX_MEMBERS] if name not in taken]
            members += map(parse_address, others)
        self._members = tuple(dict.fromkeys(members))
        self._maps.clear()
        for known in (self._seen, self._names):
            for gone in known.keys() - self.targets():
                del known[gone]

    def _seed_stands(self, slot: int) -> bool:
        """Whether a seed still has a listener: not once the set is known to be without it."""
        seed = self._seeds[slot]
        name = self._names.get(seed)
        if name is None or not self.grows:
            return True
        if any(self._names.get(other) == name for other in self._seeds[:slot]):
            return False
        config, seen = self._config, self._seen.get(seed)
        if config is None or name in config.names:
            return True
        # Hidden members are listed nowhere, a new one may know before the primary is asked, and
        # a server that does not list itself is one all the same.
        return (
            seen is not None
            and seen.set_name == config.set_name
            and (seen.hidden or seen.version >= config.version)
        )

    # ------------------------------------------------------------------ addresses for clients

    def opened(self, address: Address, port: int, host: str = "") -> None:
        """A listener for the member at ``address`` is open on ``port``.

        ``host`` is the name or number to advertise; "" for the one that each client came by.
        """
        self._open.add(address)
        self._where[address] = (host, port)
        self._maps.clear()

    def closed(self, address: Address) -> None:
        """The member's listener is closed: nobody is sent to it from now on."""
        self._open.discard(address)
        self._maps.clear()

    def own(self, address: Address, local_host: str = "") -> str:
        """The advertised address of the member's listener, in lower case.

        The listener is open, or was when the client came. ``local_host`` is the proxy's side of
        the client's connection (a number).
        """
        if address in self._given:
            return self._given[address]
        host, port = self._where[address]
        return str(Address((host or _number(local_host)).lower(), port))

    def addresses(self, local_host: str = "") -> Mapping[str, str]:
        """Upstream's names, in lower case, with the advertised addresses that replace them.

        Beside what was given, only members with an open listener are in it, by their own name
        for themselves (``me``) and as they were spelled. Not to be changed.
        """
        found = self._maps.get(local_host)
        if found is None:
            if len(self._maps) >= _MAX_HOSTS:
                self._maps.clear()
            found = self._maps[local_host] = self._map(local_host)
        return found

    def alone(self, address: Address, shown: str) -> dict[str, str]:
        """As :meth:`addresses`, where there is nobody but one member, under this address.

        The names of others are in it, with "".
        """
        found = dict.fromkeys(self.addresses(), "")
        return found | {str(address): shown, self._names.get(address, str(address)): shown}

    def _map(self, local_host: str) -> dict[str, str]:
        standing = [
            (member, self.own(member, local_host))
            for member in self._members
            if member in self._open or member in self._given
        ]
        named = {self._names[address]: own for address, own in standing if address in self._names}
        given = {str(address): own for address, own in self._given.items()}
        return given | {str(address): own for address, own in standing} | named


def kind_of_all(kinds: Iterable[Kind]) -> Kind:
    """What upstream is, by what its processes are: a replica set's member tells most."""
    met = set(kinds)
    for kind in _TELLING:
        if kind in met:
            return kind
    return "unknown"


def _number(local_host: str) -> str:
    """A socket's own host as clients can dial it: no zone, no IPv4 in IPv6."""
    host = local_host.partition("%")[0]
    if ":" in host and (mapped := IPv6Address(host).ipv4_mapped) is not None:
        return str(mapped)
    return host


def read_hello(hello: Mapping[str, Any]) -> Seen:
    """The fields that count, whatever else is there and of whatever types."""
    set_name = hello.get("setName")
    if not isinstance(set_name, str) or not set_name:
        if hello.get("msg") == "isdbgrid":
            return Seen("mongos")
        # Started with a set's name, but not (or no longer) configured.
        return Seen("replica set" if hello.get("isreplicaset") else "standalone")
    election, version, me = hello.get("electionId"), hello.get("setVersion"), hello.get("me")
    return Seen(
        "replica set",
        set_name,
        tuple(dict.fromkeys(_names(hello))),
        next(iter(_addresses([me])), ""),
        primary=hello.get("ismaster") is True or hello.get("isWritablePrimary") is True,
        hidden=hello.get("hidden") is True,
        election=election.binary if isinstance(election, ObjectId) else b"",
        version=version if isinstance(version, int) else 0,
        role=_role(hello),
    )


def _role(hello: Mapping[str, Any]) -> str:
    if hello.get("ismaster") is True or hello.get("isWritablePrimary") is True:
        return "primary"
    fields = ("arbiterOnly", "arbiter"), ("hidden", "hidden"), ("secondary", "secondary")
    return next((role for field, role in fields if hello.get(field) is True), "recovering")


def _names(hello: Mapping[str, Any]) -> list[str]:
    lists = (hello.get(key) for key in ("hosts", "passives", "arbiters"))
    return [
        name
        for listed in lists
        if isinstance(listed, list)
        for name in _addresses(listed[:_MOST_LISTED])
    ]


def _addresses(names: list[Any]) -> list[str]:
    """Those of ``names`` that can be dialled, in one spelling."""
    found = []
    for name in names:
        if isinstance(name, str):
            try:
                address = parse_address(name)
            except ValueError:
                continue
            if address.port:
                found.append(str(address))
    return found
