"""What is counted while requests pass, with every counter's name and meaning.

Names follow the Prometheus conventions (base units, ``_total``). Labels are bounded: what a
client chooses (a command's name) is counted under its own name only if it is a known one.
What is read when somebody asks is in :mod:`proxy.observe.gauges`.
"""

from __future__ import annotations

import platform
from itertools import product
from typing import TYPE_CHECKING, Final

from proxy.counting import Names, Recent
from proxy.observe.families import Declared, Page
from proxy.observe.labels import (
    COMMAND_DECISIONS,
    INITIATORS,
    ITSELF,
    RULE_DECISIONS,
    SESSION_INCIDENTS,
    Incident,
    clean,
    code_name,
)
from proxy.observe.logins import Logins
from proxy.observe.refusals import Refusals
from proxy.observe.requests import BUCKETS, Requests
from proxy.session.commands import SESSION_COMMANDS
from proxy.wire.protocols import HTTP, NOTHING, PROXY, TLS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from proxy.session.ids import Origin

#: Seconds, for what should be far below one.
_LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_CONNECT_BUCKETS: Final = (0.00025, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0)

#: Distinct values of a label whose values this program chooses (reasons, kinds), and of rules.
_MOST_REASONS: Final = 40
_MOST_RULES: Final = 30

#: Incidents of sessions, and as many of rules, that are remembered.
MOST_INCIDENTS: Final = 20

#: Whom bytes come from and go to, and the two ways through the proxy.
SIDES: Final = ("client", "upstream")
LEGS: Final = ("request", "reply")


class Telemetry(Requests):
    """Counters. Methods are called by the relay and the server as things happen.

    Where a process has several clusters, each has one of its own, of which :meth:`of_cluster` is
    shown, and the process one more, of which :meth:`of_process` is.
    """

    def __init__(self, version: str, rules: Iterable[str] = ()) -> None:
        self._version = version
        #: Append what is read of the present to a page, stopping between slices.
        self.present: Callable[[Page], Iterator[None]] = lambda _: iter(())
        self.process_present: Callable[[Page], Iterator[None]] = lambda _: iter(())
        self._declared = declared = Declared()
        super().__init__(declared)
        self._process = process = Declared()
        self._reason = Names(most=_MOST_REASONS)
        self._violation = Names(most=_MOST_REASONS)
        self._rejection = Names(most=_MOST_REASONS)
        self._rule = Names(most=_MOST_RULES + 1)
        self._malformed_name = Names(most=_MOST_REASONS)
        self._connect_problem = Names(most=_MOST_REASONS)
        for rule in (*rules, ITSELF):
            self._rule[rule] = rule

        self._accepted = declared.counter(
            "client_connections_accepted_total",
            "Client connections that were accepted.",
            start=((),),
        )
        self._rejections = declared.counter(
            "client_connections_rejected_total",
            "Client connections that were rejected at once.",
            "reason",
            start=product(("connection limit", "descriptors", "address")),
        )
        self._overs = declared.counter(
            "client_connections_refused_total",
            "Client connections that were one too many in use for their address or user.",
            "reason",
            start=product(("address", "user")),
        )
        self._closes = declared.counter(
            "client_connections_closed_total", "Client connections that ended.", "reason"
        )
        self._probes = declared.counter(
            "client_probes_total",
            "Client connections that ended and had asked for no more than hello.",
            start=((),),
        )
        self._tokens = process.counter(
            "admin_tokens_refused_total",
            "Requests to the admin endpoint with a wrong token.",
            start=((),),
        )
        self._connects = declared.counter(
            "upstream_connects_total",
            "Attempts to reach upstream for a client.",
            "result",
            start=product(("ok",)),
        )
        self._errors = declared.counter(
            "errors_total",
            "Error replies to clients, by the error's name and by who refused.",
            "code_name",
            "source",
        )
        self._violations = declared.counter(
            "protocol_violations_total", "What broke the wire protocol's rules.", "kind"
        )
        self._foreign = declared.counter(
            "wrong_protocol_total",
            "Connections on which somebody spoke another protocol than was expected.",
            "side",
            "protocol",
            start=product(SIDES, (HTTP, TLS, PROXY, NOTHING)),
        )
        self._malformed = declared.counter(
            "malformed_session_fields_total",
            "Requests whose session fields are wrong, by the error's name.",
            "code_name",
        )
        self._surprises = declared.counter(
            "unexpected_successes_total",
            "Requests that upstream carried out and should have refused, by the expected error.",
            "code_name",
        )
        self._incidents = declared.counter(
            "session_incidents_total",
            "Sessions used as no session should be.",
            "kind",
            start=product(SESSION_INCIDENTS),
        )
        self._decisions = declared.counter(
            "rule_decisions_total",
            "What the rules refused or reported, and the transactions they aborted or failed to.",
            "rule",
            "decision",
            start=product((one for one in self._rule if one != ITSELF), RULE_DECISIONS),
        )
        self._control = declared.counter(
            "session_commands_total",
            "Session commands, by what was decided.",
            "command",
            "decision",
            start=product(SESSION_COMMANDS, COMMAND_DECISIONS),
        )
        self._killed = declared.counter(
            "sessions_killed_total",
            "Sessions that kills meant, by who killed.",
            "initiator",
            start=product(INITIATORS),
        )
        self._logins = Logins(declared)
        self._audit = process.counter(
            "audit_lines_total",
            "Lines for the audit log, written and lost.",
            "result",
            start=product(("written", "lost")),
        )
        self._received = declared.counter(
            "received_bytes_total", "Bytes that came in.", "side", start=product(SIDES)
        )
        self._sent = declared.counter(
            "sent_bytes_total", "Bytes that went out.", "side", start=product(SIDES)
        )
        #: Time inside the proxy, from bytes received to bytes handed to the socket. What has to
        #: wait for a peer is not in it.
        self.legs = declared.histograms(
            "inside_duration_seconds",
            "Time inside the proxy for what one read brought, until it was handed on.",
            BUCKETS,
            "leg",
            LEGS,
        )
        self._connect_seconds = declared.histogram(
            "upstream_connect_duration_seconds",
            "Until a connection upstream stood, TLS included.",
            _CONNECT_BUCKETS,
        )
        self._spans = process.counter(
            "trace_spans_total",
            "Spans of requests with a traceparent, by what became of them.",
            "result",
            start=product(("exported", "failed", "dropped")),
        )
        self._lag = process.histogram(
            "event_loop_lag_seconds", "How late the event loop comes to what is due.", _LAG_BUCKETS
        )
        #: The latest incidents with their times; those of rules cannot displace the others.
        self.session_incidents: Recent[Incident] = Recent(MOST_INCIDENTS)
        self.rule_incidents: Recent[Incident] = Recent(MOST_INCIDENTS)
        #: What is known of refusals beside that.
        self.refusals = Refusals()
        #: Whether the configuration could be read when it was read last, and when that worked.
        self.reload_worked = True
        self.reloaded_at = 0.0

    # ------------------------------------------------------------------ connections

    def connection_opened(self) -> None:
        """A client connection was accepted."""
        self._accepted[()] += 1

    def connection_closed(self, reason: str) -> None:
        """An accepted client connection ended; ``reason`` is one of the program's own few."""
        self._closes[(self._reason[reason],)] += 1

    def rejected(self, reason: str) -> None:
        """A client connection was rejected; it is not counted as accepted."""
        self._rejections[(self._rejection[reason],)] += 1

    def over(self, reason: str) -> None:
        """A client connection is one too many for its ``"address"`` or ``"user"``."""
        self._overs[(self._rejection[reason],)] += 1

    def probed(self) -> None:
        """A client connection ended that was asked for nothing but hello."""
        self._probes[()] += 1

    def token_refused(self) -> None:
        """Somebody came to the admin endpoint with a wrong token."""
        self._tokens[()] += 1

    def connected(self, seconds: float) -> None:
        """A connection to upstream stands."""
        self._connects[("ok",)] += 1
        self._connect_seconds.observe(seconds)

    def not_connected(self, problem: str) -> None:
        """Upstream could not be reached for a client."""
        self._connects[(self._connect_problem[problem],)] += 1

    def moved(self, received: int, forwarded: int, answered: int, sent: int) -> None:
        """Bytes went: from the client, to upstream, from upstream, to the client."""
        self._received[("client",)] += received
        self._sent[("upstream",)] += forwarded
        self._received[("upstream",)] += answered
        self._sent[("client",)] += sent

    # ------------------------------------------------------------------ requests

    def failed(self, code: int | None, source: str) -> None:
        """An error reply goes out; ``source`` is ``proxy`` or ``upstream``."""
        self._errors[(code_name(code), source)] += 1

    def violation(self, kind: str) -> None:
        """Something broke the protocol; ``kind`` is one of the program's own few."""
        self._violations[(self._violation[kind],)] += 1

    def foreign(self, side: str, protocol: str) -> None:
        """One of :data:`SIDES` spoke a protocol, a name of :mod:`proxy.wire.protocols`, that was
        not expected there."""
        self._foreign[(side, protocol)] += 1

    # ------------------------------------------------------------------ sessions

    def malformed(self, code: str) -> None:
        """A request had wrong session fields, which get an error of this name."""
        self._malformed[(self._malformed_name[code],)] += 1

    def surprised(self, code: str) -> None:
        """Upstream carried out what it should have refused with an error of this name."""
        self._surprises[(self._malformed_name[code],)] += 1

    def incident(self, kind: str, user: str, origin: Origin, now: float) -> Incident:
        """Somebody did one of :data:`proxy.observe.labels.SESSION_INCIDENTS`."""
        self._incidents[(kind,)] += 1
        incident = _incident(kind, "", user, origin)
        self.session_incidents.note(incident, now)
        return incident

    def ruled(self, rule: str, decision: str) -> None:
        """A rule came to one of :data:`proxy.observe.labels.RULE_DECISIONS`."""
        self._decisions[(self._rule[rule], decision)] += 1

    def rule_incident(
        self, rule: str, decision: str, user: str, origin: Origin, now: float
    ) -> Incident:
        """Whose request it was that a rule, or :data:`proxy.observe.labels.ITSELF`, refused or
        reported; see :meth:`ruled`."""
        incident = _incident(decision, self._rule[rule], user, origin)
        self.rule_incidents.note(incident, now)
        return incident

    def decided(self) -> dict[tuple[str, ...], int]:
        """How often each (rule, decision) was counted by :meth:`ruled`."""
        return dict(self._decisions)

    def totals(self) -> tuple[int, int, int]:
        """Requests, and error replies of upstream and of the proxy, that were counted so far."""
        own = sum(count for (_, source), count in self._errors.items() if source == "proxy")
        return self.count_of_requests(), sum(self._errors.values()) - own, own

    def control(self, command: str, decision: str) -> None:
        """A session command came to one of :data:`proxy.observe.labels.COMMAND_DECISIONS`."""
        self._control[(command, decision)] += 1

    def killed(self, initiator: str, sessions: int) -> None:
        """So many sessions were killed by one of :data:`proxy.observe.labels.INITIATORS`."""
        self._killed[(initiator,)] += sessions

    def login_failed(self, command: str, claimed: str, application: str) -> None:
        """Somebody who claimed to be a user was not let in."""
        self._logins.failed(command, claimed, application)

    # ------------------------------------------------------------------ the process

    def audit_written(self, lines: int) -> None:
        """Lines stand in the audit log."""
        self._audit[("written",)] += lines

    def audit_lost(self, lines: int) -> None:
        """Lines will never stand in the audit log."""
        self._audit[("lost",)] += lines

    def spans(self, result: str, count: int) -> None:
        """So many spans were ``exported``, ``failed`` or ``dropped``. May be called in a thread,
        as each result is counted in one of them only."""
        self._spans[(result,)] += count

    def late(self, seconds: float) -> None:
        """The loop came so late to something that was due."""
        self._lag.observe(max(seconds, 0.0))

    def reloaded(self, ok: bool, now: float) -> None:
        """The configuration was read again; ``now`` is in seconds since 1970."""
        self.reload_worked = ok
        if ok:
            self.reloaded_at = now

    # ------------------------------------------------------------------ the page

    def collect(self, page: Page) -> Iterator[None]:
        """Fill ``page``, stopping between slices that take a millisecond or two each."""
        yield from self.of_cluster(page)
        yield from self.of_process(page)

    def of_cluster(self, page: Page) -> Iterator[None]:
        """As :meth:`collect`, what a cluster has of its own."""
        yield from self.present(page)
        page += self.of_requests()
        page += self._declared.families()

    def of_process(self, page: Page) -> Iterator[None]:
        """As :meth:`collect`, what all clusters have in common."""
        yield from self.process_present(page)
        page.gauge(
            "build_info",
            "The version that runs; always 1.",
            ("version", "python"),
            {(self._version, platform.python_version()): 1},
        )
        yield
        page += self._process.families()

    def page(self, accept: str = "") -> tuple[str, bytes]:
        """The metrics page as (content type, body), made in one go."""
        page = Page()
        for _ in self.collect(page):
            pass
        return page.render(accept)


def _incident(kind: str, rule: str, user: str, origin: Origin) -> Incident:
    whose = user, origin.application, origin.driver, origin.driver_version
    return Incident(kind, rule, *map(clean, whose))
