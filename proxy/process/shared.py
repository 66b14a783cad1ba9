"""What all connections to a cluster use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from proxy import logs
from proxy.net.crowds import Crowds
from proxy.net.networks import Networks
from proxy.net.proxied import Senders
from proxy.process.probes import Probes
from proxy.process.strangers import Strangers

if TYPE_CHECKING:
    from proxy.admin.kill import Asker
    from proxy.conversation.sharing import Sessions
    from proxy.net.limits import BufferBudget
    from proxy.net.tls import ListenerTls, UpstreamTls
    from proxy.observe.slow import SlowLog
    from proxy.observe.telemetry import Telemetry
    from proxy.observe.traces import Traces
    from proxy.process.dialling import Dialler
    from proxy.session.records import InFlight
    from proxy.settings.config import Config
    from proxy.upstream.facts import Upstreams
    from proxy.upstream.topology import Topology


@dataclass(slots=True)
class Shared:
    """What all connections to a cluster use; ``cluster`` is its name, "" for the only one."""

    cluster: str
    config: Config
    telemetry: Telemetry
    budget: BufferBudget
    topology: Topology
    sessions: Sessions
    upstreams: Upstreams
    listener_tls: ListenerTls | None
    upstream_tls: UpstreamTls | None
    dialler: Dialler
    #: Set once it is known what upstream is: before that no hello can be shown to a client.
    ready: trio.Event
    #: Ends an operation on whichever connection it is in flight.
    interrupt: Callable[[InFlight], None]
    #: Finds a connection to this upstream that works as the owner of this digest and is quiet.
    find_idle: Callable[[str, bytes], Asker | None]
    #: Told of requests that took long.
    slow: SlowLog
    #: Told of requests that have a traceparent; None where nobody gets spans.
    traces: Traces | None = None
    #: A hello named a member without a listener.
    unknown_member: Callable[[], None] = lambda: None
    #: Upstream has ended a client's connection, or did not take it, or says itself that it is
    #: another process than the one that was asked what it is.
    lost: Callable[[], None] = lambda: None
    #: Who may send PROXY headers; None where there are none.
    senders: Senders | None = field(init=False)
    #: Told of whoever speaks another protocol.
    strangers: Strangers = field(init=False)
    #: Told of whoever came and asked for nothing.
    probes: Probes = field(init=False)
    #: Who may be a client; None for everybody.
    allowed: Networks | None = field(init=False)
    #: Told of whoever may not.
    turned_away: logs.Seldom = field(init=False)
    #: Which addresses and users have how many connections in use, and who is told of one too many.
    crowds: Crowds = field(default_factory=Crowds)
    crowded: logs.Seldom = field(init=False)

    def __post_init__(self) -> None:
        listen = self.config.listen
        self.senders = None if listen.proxy_protocol == "off" else Senders(listen)
        log = logs.of_cluster(self.cluster)
        self.strangers = Strangers(self.telemetry, self.cluster)
        self.probes = Probes(self.telemetry, log)
        self.allowed = Networks(listen.allow) if listen.allow else None
        self.turned_away = logs.Seldom(log, "client rejected")
        self.crowded = logs.Seldom(log, "client refused")
        self.adopt(self.config)

    def adopt(self, config: Config) -> None:
        """Have new settings take effect."""
        self.config = config
        self.telemetry.slow_seconds = config.log.slow
        self.telemetry.tells_from = config.log.slow if self.traces is None else 0.0

    def lets_in(self, peer: str) -> bool:
        """Whether ``peer``, a client's own address, may be served; if not, that is said."""
        if self.allowed is None or self.allowed.hold(peer):
            return True
        self.telemetry.rejected("address")
        reason = "not in listen.allow"
        self.turned_away.warn(trio.current_time(), client=peer, reason=reason)
        return False
