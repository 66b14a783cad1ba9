"""Whether the proxies work, how much they do, and what they cost."""

from __future__ import annotations

from typing import Final

from grafana.panels import PLACE, Dashboard, Query, Row, number, quantiles, series, table
from grafana.promql import CHOSEN, WHERE, increase, of, quantile, rate, top, total

BOARD: Final = Dashboard(
    "mongo-session-proxy-overview",
    "Session proxy · overview",
    "Whether the proxies work, how much they do, and what they cost.",
    (
        Row(
            "Now",
            (
                number("Proxies", f"count({of('build_info')})", width=3),
                number("Draining", total("draining"), width=3, limits=((1, "orange"),)),
                number("Client connections", total("client_connections"), width=3),
                number("Requests per second", rate("requests_total"), unit="reqps", width=3),
                number("Sessions", total("sessions"), width=3),
                number("Open transactions", total("transactions_open"), width=3),
                number(
                    "Upstream down",
                    f"sum(1 - {of('upstream_up')})",
                    width=3,
                    limits=((1, "red"),),
                ),
                number(
                    "Incidents of sessions, 1 h",
                    increase("session_incidents_total", "1h"),
                    width=3,
                    limits=((1, "orange"), (10, "red")),
                ),
            ),
        ),
        Row(
            "Requests",
            (
                series(
                    "Requests by command",
                    Query(top(10, rate("requests_total", "command")), "{{command}}"),
                    unit="reqps",
                    stack=True,
                ),
                series(
                    "Errors by name",
                    Query(
                        top(10, rate("errors_total", "code_name, source")),
                        "{{code_name}} from {{source}}",
                    ),
                    unit="reqps",
                    help="proxy: refused here, by a rule or as the manual says of session commands."
                    " upstream: passed on.",
                ),
                series(
                    "Share of replies that are errors",
                    Query(
                        f"{rate('replies_total', result='error')} / {rate('replies_total')}",
                        "errors",
                    ),
                    unit="percentunit",
                ),
                quantiles("Request duration", "request_duration_seconds"),
                series(
                    "Time inside the proxy",
                    *(
                        Query(
                            quantile(share, "inside_duration_seconds", "leg"),
                            f"{share:.0%} {{{{leg}}}}",
                        )
                        for share in (0.5, 0.99)
                    ),
                    unit="s",
                    help="From bytes received to bytes handed on. What waits for a peer is not in"
                    " it.",
                ),
                series(
                    "Requests in flight",
                    Query(total("requests_in_flight", "instance"), "{{instance}}"),
                ),
                series(
                    "Spans of traced requests",
                    Query(rate("trace_spans_total", "result"), "{{result}}"),
                    unit="ops",
                    help="With traces.endpoint: what did not reach the collector failed or was"
                    " dropped.",
                ),
                series(
                    "Slow requests",
                    Query(rate("slow_requests_total", "line"), "{{line}}"),
                    unit="reqps",
                    help="With log.slow_seconds: which they were, and whose, is in the log and in"
                    " the history of the page, to which this leads.",
                    page="history?event=slow",
                ),
            ),
        ),
        Row(
            "Namespaces",
            (
                series(
                    "Requests by namespace",
                    Query(
                        top(10, rate("namespace_requests_total", "namespace, kind")),
                        "{{namespace}} {{kind}}",
                    ),
                    unit="reqps",
                    stack=True,
                    help="metrics.namespaces of them by their names, the rest as other.",
                ),
                series(
                    "Time spent, by namespace",
                    Query(
                        top(
                            10,
                            rate("namespace_request_duration_seconds_sum", "namespace, kind"),
                        ),
                        "{{namespace}} {{kind}}",
                    ),
                    unit="short",
                    stack=True,
                    help="How many requests are under way at a time: where the load is.",
                ),
                series(
                    "95% of request duration, by namespace",
                    Query(
                        top(
                            10,
                            quantile(0.95, "namespace_request_duration_seconds", "namespace, kind"),
                        ),
                        "{{namespace}} {{kind}}",
                    ),
                    unit="s",
                ),
                series(
                    "Errors by namespace",
                    Query(
                        top(10, rate("namespace_errors_total", "namespace, kind")),
                        "{{namespace}} {{kind}}",
                    ),
                    unit="reqps",
                ),
                series(
                    "Bytes by namespace",
                    Query(
                        top(5, rate("namespace_received_bytes_total", "namespace")),
                        "received {{namespace}}",
                    ),
                    Query(
                        top(5, rate("namespace_sent_bytes_total", "namespace")),
                        "sent {{namespace}}",
                    ),
                    unit="Bps",
                ),
            ),
        ),
        Row(
            "Connections",
            (
                series(
                    "Client connections by state",
                    Query(total("client_connections", "state"), "{{state}}"),
                    Query(total("connections_limit", side="client"), "limit"),
                ),
                series(
                    "Client connections by user",
                    Query(
                        top(10, total("user_connections", f"{WHERE}, user, application")),
                        f"{{{{user}}}} {{{{application}}}} {PLACE}",
                    ),
                    page="connections",
                    help="Whose they are. Those by which drivers watch have no user.",
                ),
                series(
                    "Accepted, rejected, closed",
                    Query(rate("client_connections_accepted_total"), "accepted"),
                    Query(
                        rate("client_connections_rejected_total", "reason"),
                        "rejected: {{reason}}",
                    ),
                    Query(
                        rate("client_connections_refused_total", "reason"),
                        "one too many: {{reason}}",
                    ),
                    Query(rate("client_connections_closed_total", "reason"), "{{reason}}"),
                    Query(rate("client_probes_total"), "ended with no more than hello"),
                    Query(rate("admin_tokens_refused_total"), "admin token refused"),
                    unit="cps",
                ),
                series(
                    "Bytes",
                    Query(rate("received_bytes_total", "side"), "from {{side}}"),
                    Query(rate("sent_bytes_total", "side"), "to {{side}}"),
                    unit="Bps",
                ),
            ),
        ),
        Row(
            "Process",
            (
                series(
                    "Event loop lag",
                    Query(quantile(0.99, "event_loop_lag_seconds", "instance"), "99% {{instance}}"),
                    unit="s",
                    limits=((0.05, "orange"),),
                    help="How late the loop comes to what is due. Everything else waits as long.",
                ),
                series(
                    "CPU",
                    Query(
                        f"rate(process_cpu_seconds_total{{{CHOSEN}}}[$__rate_interval])"
                        f" and on (instance) {of('build_info')}",
                        "{{instance}}",
                    ),
                    Query(
                        rate("busy_poll_seconds_total", "instance"), "of it waiting {{instance}}"
                    ),
                    unit="percentunit",
                    limits=((0.9, "red"),),
                    help="One process is one thread: 100% is all there is for each worker. It may "
                    "wait awake for messages that are near; how much of that was in vain is shown "
                    "too.",
                ),
                series(
                    "Workers",
                    Query(total("workers", "instance"), "serving {{instance}}"),
                    Query(
                        f"sum by (instance) (increase({of('worker_restarts_total')}[1h]))",
                        "replaced in an hour {{instance}}",
                    ),
                    help="Processes that serve clients, and how many of them died and were "
                    "replaced; the log says what was lost (worker died).",
                ),
                series(
                    "Memory",
                    Query(
                        f"process_resident_memory_bytes{{{CHOSEN}}}"
                        f" and on (instance) {of('build_info')}",
                        "resident {{instance}}",
                    ),
                    Query(total("buffered_bytes", "instance"), "unfinished messages {{instance}}"),
                    Query(
                        total("buffered_bytes_limit", "instance"),
                        "limit of unfinished messages {{instance}}",
                    ),
                    Query(total("users_known_bytes", "instance"), "users' roles {{instance}}"),
                    unit="bytes",
                    help="Of unfinished messages: what waits for its rest or for upstream,"
                    " and what requests inflate to.",
                ),
                series(
                    "Room for messages",
                    Query(total("buffered_bytes_waiting", "instance"), "waiting {{instance}}"),
                    Query(
                        increase("buffered_bytes_gave_way_total", "5m"),
                        "closed in the last 5 minutes",
                    ),
                    help="Connections that wait for room in limits.buffered_bytes, and those that"
                    " were closed for holding some of it without getting on.",
                ),
                series(
                    "File descriptors",
                    Query(
                        f"process_open_fds{{{CHOSEN}}} / process_max_fds{{{CHOSEN}}}"
                        f" and on (instance) {of('build_info')}",
                        "{{instance}}",
                    ),
                    unit="percentunit",
                    limits=((0.8, "orange"),),
                ),
                table(
                    "Versions",
                    of("build_info"),
                    ("instance", "version", "python"),
                    "running",
                    width=8,
                ),
                table(
                    "Configuration",
                    f"{of('config_last_reload_success_timestamp_seconds')} * 1000",
                    ("instance",),
                    "in force since",
                    unit="dateTimeAsIso",
                    width=4,
                ),
                table(
                    "Certificates",
                    "sort((min by (instance, side, role, file) ("
                    f"{of('certificate_expiry_timestamp_seconds')}) - time()) / 86400)",
                    ("instance", "side", "role", "file"),
                    "days left",
                ),
                number(
                    "Proxies whose last reload failed",
                    f"sum(1 - {of('config_last_reload_successful')})",
                    limits=((1, "red"),),
                ),
            ),
        ),
    ),
)
