"""Every metric's name and meaning, and how a page of them is made.

Names follow the Prometheus conventions (base units, ``_total``). Labels are bounded: what a
client chooses (a command's name) is counted under its own name only if it is a known one.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder

_PREFIX: Final = "mongo_session_proxy_"
OTHER: Final = "other"

#: Distinct values of a label whose values this program chooses (reasons, kinds).
_MOST_REASONS: Final = 50

#: Seconds, from 25 µs: a relayed request takes a few hundred microseconds on a fast network.
BUCKETS: Final = (
    0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip

#: Command names (MongoDB manual, "Database Commands") that are counted under their own name.
COMMANDS: Final = frozenset((
    "abortTransaction", "aggregate", "authenticate", "autoSplitVector", "balancerStart",
    "balancerStatus", "balancerStop", "buildInfo", "bulkWrite", "collMod", "collStats",
    "commitTransaction", "compact", "configureFailPoint", "connPoolStats", "connectionStatus",
    "convertToCapped", "count", "create", "createIndexes", "createRole", "createUser",
    "currentOp", "dataSize", "dbHash", "dbStats", "delete", "distinct", "drop", "dropDatabase",
    "dropIndexes", "dropRole", "dropUser", "enableSharding", "endSessions", "explain", "find",
    "findAndModify", "fsync", "fsyncUnlock", "getCmdLineOpts", "getFreeMonitoringStatus",
    "getLastError", "getLog", "getMore", "getParameter", "getnonce", "grantPrivilegesToRole",
    "grantRolesToRole", "grantRolesToUser", "hello", "hostInfo", "insert", "isMaster", "ismaster",
    "isdbgrid", "killAllSessions", "killAllSessionsByPattern", "killCursors", "killOp",
    "killSessions", "listCollections", "listCommands", "listDatabases", "listIndexes",
    "listShards", "lockInfo", "logRotate", "logout", "mapReduce", "mapreduce", "moveChunk",
    "ping", "planCacheClear", "profile", "reIndex", "refreshSessions", "renameCollection",
    "replSetGetConfig", "replSetGetStatus", "replSetHeartbeat", "replSetInitiate",
    "replSetReconfig", "replSetStepDown", "replSetUpdatePosition", "revokeRolesFromUser",
    "rolesInfo", "saslContinue", "saslStart", "serverStatus", "setFeatureCompatibilityVersion",
    "setParameter", "shardCollection", "shutdown", "split", "startSession", "top", "update",
    "updateUser", "usersInfo", "validate", "whatsmyuri",
))  # fmt: skip


class _Children(dict[str, Counter]):
    """A counter's children by label value: a dict look-up, where ``labels()`` takes 2 µs."""

    def __init__(self, family: Counter, known: frozenset[str] | None = None) -> None:
        super().__init__()
        self._family = family
        self._known = known
        self._other = family.labels(OTHER)

    def __missing__(self, value: str) -> Counter:
        if value not in self._known if self._known is not None else len(self) >= _MOST_REASONS:
            return self._other
        child = self[value] = self._family.labels(value)
        return child


class Telemetry:
    """The process's metrics, in a registry of their own.

    Methods are called by the relay and the server as things happen. The gauges read state
    when they are scraped: give them a function with ``set_function``.
    """

    def __init__(self, version: str) -> None:
        #: Called before each page, to count what is only counted when somebody looks.
        self.on_page: Callable[[], None] = lambda: None
        # The text format would show each counter's _created as a series of its own.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._gauge("build_info", "The version that runs; always 1.", ["version", "python"]).labels(
            version, platform.python_version()
        ).set(1)
        self.draining = self._gauge("draining", "1 while the process drains, else 0.")
        self.connections_limit = self._gauge(
            "client_connections_limit", "Client connections that are accepted at most."
        )
        self.sessions = self._gauge("sessions", "Sessions that are tracked.")
        self._clients = self._gauge("client_connections", "Client connections that are open.")
        self._upstreams = self._gauge("upstream_connections", "Upstream connections that are open.")
        self._accepted = self._counter(
            "client_connections_accepted_total", "Client connections that were accepted."
        )
        self._rejections = _Children(
            self._counter(
                "client_connections_rejected_total",
                "Client connections that were turned away at once.",
                ["reason"],
            )
        )
        self._closes = _Children(
            self._counter(
                "client_connections_closed_total", "Client connections that ended.", ["reason"]
            )
        )
        self._requests = _Children(
            self._counter("requests_total", "Requests from clients.", ["command"]), COMMANDS
        )
        replies = self._counter("replies_total", "Replies to clients.", ["result"])
        self._replies = {True: replies.labels("ok"), False: replies.labels("error")}
        self._violations = _Children(
            self._counter(
                "protocol_violations_total", "What broke the wire protocol's rules.", ["kind"]
            )
        )
        self._malformed = _Children(
            self._counter(
                "malformed_session_fields_total",
                "Requests whose session fields upstream refuses, by the error's name.",
                ["code_name"],
            )
        )
        self._policy = self._counter(
            "policy_decisions_total", "What the rules refused or reported.", ["rule", "decision"]
        )
        self._control = self._counter(
            "session_commands_total", "Session-control commands, by result.", ["command", "result"]
        )
        self.audit_written = self._counter("audit_lines_total", "Lines of the audit log.").inc
        self.audit_lost = self._counter(
            "audit_lines_lost_total", "Lines that could not be written to the audit log."
        ).inc
        received = self._counter("received_bytes_total", "Bytes that came in.", ["side"])
        sent = self._counter("sent_bytes_total", "Bytes that went out.", ["side"])
        #: ``inc(n)`` of each is called once per read or write.
        self.bytes_from_client = received.labels("client").inc
        self.bytes_from_upstream = received.labels("upstream").inc
        self.bytes_to_client = sent.labels("client").inc
        self.bytes_to_upstream = sent.labels("upstream").inc
        self._seconds = Histogram(
            f"{_PREFIX}request_duration_seconds",
            "From a whole request received to its whole reply sent.",
            buckets=BUCKETS,
            registry=self.registry,
        )

    def _counter(self, name: str, documentation: str, labels: list[str] | None = None) -> Counter:
        return Counter(_PREFIX + name, documentation, labels or [], registry=self.registry)

    def _gauge(self, name: str, documentation: str, labels: list[str] | None = None) -> Gauge:
        return Gauge(_PREFIX + name, documentation, labels or [], registry=self.registry)

    def connection_opened(self) -> None:
        """A client connection was accepted."""
        self._accepted.inc()
        self._clients.inc()

    def connection_closed(self, reason: str) -> None:
        """An accepted client connection ended; ``reason`` is one of the program's own few."""
        self._clients.dec()
        self._closes[reason].inc()

    def rejected(self, reason: str) -> None:
        """A client connection was turned away; it is not counted as accepted."""
        self._rejections[reason].inc()

    def upstream_opened(self) -> None:
        """A connection to upstream stands."""
        self._upstreams.inc()

    def upstream_closed(self) -> None:
        """A connection to upstream is gone."""
        self._upstreams.dec()

    def request(self, command: str) -> None:
        """A client's request; an unknown or unreadable command counts as ``other``."""
        self._requests[command].inc()

    def replied(self, seconds: float, ok: bool) -> None:
        """A request has its whole answer, ``seconds`` after it came."""
        self._replies[ok].inc()
        self._seconds.observe(seconds)

    def violation(self, kind: str) -> None:
        """Something broke the protocol; ``kind`` is one of the program's own few."""
        self._violations[kind].inc()

    def malformed(self, code_name: str) -> None:
        """A request had session fields that upstream will refuse with this error."""
        self._malformed[code_name].inc()

    def policy(self, rule: str, decision: str) -> None:
        """A rule decided something other than to let a request go on."""
        self._policy.labels(rule, decision).inc()

    def control(self, command: str, result: str) -> None:
        """A session-control command was done, refused or failed upstream."""
        self._control.labels(command, result).inc()

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """The metrics page as (content type, body), in the format that ``accept`` asks for."""
        self.on_page()
        encode, content_type = choose_encoder(accept)
        make: Callable[[CollectorRegistry], bytes] = encode
        return content_type, make(self.registry)
