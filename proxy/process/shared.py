"""What all connections of a process use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from proxy.net.proxied import Senders
from proxy.process.strangers import Strangers

if TYPE_CHECKING:
    from proxy.admin.kill import Asker
    from proxy.conversation.desk import Sessions
    from proxy.net.limits import BufferBudget
    from proxy.net.tls import ListenerTls, UpstreamTls
    from proxy.observe.telemetry import Telemetry
    from proxy.session.records import InFlight
    from proxy.settings.config import Config
    from proxy.upstream.facts import Upstreams
    from proxy.upstream.topology import Topology
    from proxy.upstream.ways import Ways


@dataclass(slots=True)
class Shared:
    """What all connections of a process use."""

    config: Config
    telemetry: Telemetry
    budget: BufferBudget
    topology: Topology
    sessions: Sessions
    upstreams: Upstreams
    listener_tls: ListenerTls | None
    upstream_tls: UpstreamTls | None
    ways: Ways
    #: Ends an operation on whichever connection it is in flight.
    interrupt: Callable[[InFlight], None]
    #: Finds a connection to this upstream that works as the owner of this digest and is quiet.
    find_idle: Callable[[str, bytes], Asker | None]
    #: Set once it is known what upstream is: before that no hello can be shown to a client.
    ready: trio.Event = field(default_factory=trio.Event)
    #: A hello named a member without a listener.
    unknown_member: Callable[[], None] = lambda: None
    #: Who may send PROXY headers; None where there are none.
    senders: Senders | None = field(init=False)
    #: Told of whoever speaks another protocol.
    strangers: Strangers = field(init=False)

    def __post_init__(self) -> None:
        listen = self.config.listen
        self.senders = None if listen.proxy_protocol == "off" else Senders(listen)
        self.strangers = Strangers(self.telemetry)
