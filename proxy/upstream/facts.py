"""What is known of each upstream process beside its place in the topology.

Learnt from its hello and from harmless questions, put to it by somebody who is not authenticated.
``{refreshSessions: []}``: 13 means that authorization is on, 59 that there are no session commands,
ok that they are there for everybody. The last is also what the localhost exception says while there
is no user, although authorization is on. So ok is followed by a question that only somebody with a
privilege gets an answer to, or everybody where there are none. How long a transaction may be open
is a question of that kind, too: who demands logins is taken to have the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from bson import ObjectId

from proxy.conversation.facts import DEFAULT_LIFETIME, DEFAULT_TIMEOUT_MINUTES, UpstreamFacts

if TYPE_CHECKING:
    from proxy.addresses import Address
    from proxy.settings.sessions import SessionSettings

PROBE: Final[Mapping[str, Any]] = {"refreshSessions": [], "$db": "admin"}

#: Asked where :data:`PROBE` is answered with ok.
SECOND_PROBE: Final[Mapping[str, Any]] = {"getCmdLineOpts": 1, "$db": "admin"}

#: Asked of everybody. A mongos has no limit of its own, and does not know those of the shards.
LIFETIME: Final[Mapping[str, Any]] = {
    "getParameter": 1,
    "transactionLifetimeLimitSeconds": 1,
    "$db": "admin",
}

#: Processes that are remembered: members come and go, and keep their connections' facts.
MOST_KNOWN: Final = 1_000

_UNAUTHORIZED: Final = 13
_COMMAND_NOT_FOUND: Final = 59


def process_of(hello: Mapping[str, Any]) -> bytes:
    """The id of the process that has answered so to hello; b"" where it says none."""
    version = hello.get("topologyVersion")
    process = version.get("processId") if isinstance(version, Mapping) else None
    return process.binary if isinstance(process, ObjectId) else b""


class Upstream:
    """Where to see at any time what is known of one process, without looking for it."""

    __slots__ = ("facts",)

    def __init__(self, facts: UpstreamFacts) -> None:
        #: The same object until something changes.
        self.facts = facts

    def now(self) -> UpstreamFacts:
        return self.facts


class Upstreams:
    """Facts by upstream address, with what the configuration says instead of finding out."""

    def __init__(
        self,
        authorization: bool | None = None,
        native: bool | None = None,
        lifetime: float | None = None,
    ) -> None:
        self._authorization = authorization
        self._native = native
        self._lifetime = lifetime
        self._by_address: dict[Address, Upstream] = {}
        self._unknown = self._settled(UpstreamFacts())

    @classmethod
    def as_set(cls, settings: SessionSettings) -> Upstreams:
        """With what these settings say."""
        return cls(
            {"on": True, "off": False}.get(settings.authorization),
            {"native": True, "emulated": False}.get(settings.commands),
            settings.transaction_lifetime_seconds,
        )

    def at(self, address: Address) -> Upstream:
        """One process, whether or not anything is known of it yet."""
        upstream = self._by_address.get(address)
        if upstream is None:
            if len(self._by_address) >= MOST_KNOWN:
                self._forget_one()
            upstream = self._by_address[address] = Upstream(self._unknown)
        return upstream

    def _forget_one(self) -> None:
        """Forget a process: one of which nothing is known, or the one that came first."""
        nothing = (one for one, what in self._by_address.items() if what.facts is self._unknown)
        del self._by_address[next(nothing, next(iter(self._by_address)))]

    def of(self, address: Address) -> UpstreamFacts:
        """What is known of one process now."""
        upstream = self._by_address.get(address)
        return self._unknown if upstream is None else upstream.facts

    @property
    def timeout_minutes(self) -> int:
        """The shortest of the processes' session timeouts, as drivers reckon it."""
        known = [
            upstream.facts.timeout_minutes
            for upstream in self._by_address.values()
            if upstream.facts is not self._unknown
        ]
        return min(known, default=DEFAULT_TIMEOUT_MINUTES)

    def hello(
        self, address: Address, reply: Mapping[str, Any], *, needs_api_version: bool = False
    ) -> None:
        """Take in a successful hello reply document, and whether it wanted ``apiVersion``."""
        minutes = reply.get("logicalSessionTimeoutMinutes")
        usable = isinstance(minutes, int) and minutes > 0
        wire_version = reply.get("maxWireVersion")
        known = self.of(address).transaction_lifetime or DEFAULT_LIFETIME
        self._learn(
            address,
            has_transactions=bool(reply.get("setName")) or reply.get("msg") == "isdbgrid",
            timeout_minutes=minutes if usable else DEFAULT_TIMEOUT_MINUTES,
            wire_version=wire_version if isinstance(wire_version, int) else None,
            needs_api_version=needs_api_version,
            transaction_lifetime=known if reply.get("setName") else None,
        )

    def probed(
        self,
        address: Address,
        reply: Mapping[str, Any],
        second: Mapping[str, Any] | None = None,
        process: bytes = b"",
    ) -> None:
        """Take in the reply documents to :data:`PROBE` and :data:`SECOND_PROBE` (None where that
        was not asked), sent by nobody authenticated; ``process`` is the id of who has answered."""
        code = reply.get("code")
        if reply.get("ok") == 1:
            # An error for any other reason leaves it open.
            refused = second is not None and second.get("code") == _UNAUTHORIZED
            self._learn(address, authorization=refused, native=True, process=process)
        elif code == _UNAUTHORIZED:
            self._learn(address, authorization=True, native=True, process=process)
        elif code == _COMMAND_NOT_FOUND:
            self._learn(address, authorization=None, native=False, process=process)

    def told_lifetime(self, address: Address, reply: Mapping[str, Any]) -> None:
        """Take in the reply document to :data:`LIFETIME`, after :meth:`hello`."""
        seconds = reply.get("transactionLifetimeLimitSeconds")
        known = self.of(address).transaction_lifetime
        if known is not None and isinstance(seconds, int | float) and seconds > 0:
            self._learn(address, transaction_lifetime=float(seconds))

    def _learn(self, address: Address, **what: Any) -> None:  # noqa: ANN401 - the fields' own
        before = self.of(address)
        after = self._settled(replace(before, **what))
        if before.authorization is False and after.authorization:
            after = replace(after, ran_open=True)
        if after != before:
            self.at(address).facts = after

    def _settled(self, facts: UpstreamFacts) -> UpstreamFacts:
        if self._authorization is not None:
            facts = replace(facts, authorization=self._authorization, process=b"")
        if self._native is not None:
            facts = replace(facts, native=self._native)
        if self._lifetime is not None:
            facts = replace(facts, transaction_lifetime=self._lifetime or None)
        return facts
