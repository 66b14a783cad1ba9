"""What the rules decide, and who uses sessions as no driver does."""

from __future__ import annotations

from typing import Final

from grafana.panels import COLUMNS, PLACE, Dashboard, Query, Row, number, series, table
from grafana.promql import WHERE, highest, increase, instead, most, of, rate, top

BOARD: Final = Dashboard(
    "mongo-session-proxy-rules",
    "Session proxy · rules and incidents",
    "What the rules decide, and who uses sessions as no driver does.",
    (
        Row(
            "Incidents of sessions",
            (
                number(
                    "Somebody else's sessions",
                    increase("session_incidents_total", "1h", kind="foreign_uid"),
                    limits=((1, "red"),),
                    help="Attempts of the last hour to use a session with another user's digest.",
                ),
                number(
                    "Sessions shared by processes",
                    increase("session_incidents_total", "1h", kind="shared"),
                    limits=((3, "orange"),),
                ),
                number(
                    "Sessions in use twice at once",
                    increase(
                        "session_incidents_total",
                        "1h",
                        'kind=~"concurrent|concurrent_in_transaction"',
                    ),
                    limits=((3, "orange"),),
                    help="In transactions and outside.",
                ),
                number(
                    "txnNumber backwards or twice",
                    increase(
                        "session_incidents_total",
                        "1h",
                        'kind=~"txn_number_backwards|txn_number_reused"',
                    ),
                    limits=((1, "orange"),),
                    help="Two count on the same session. What has a number twice is not written.",
                ),
                number(
                    "Audit lines lost",
                    increase("audit_lines_total", "1h", result="lost"),
                    limits=((1, "red"),),
                ),
                table(
                    "Latest incidents of sessions",
                    top(
                        20,
                        most(
                            highest(
                                "incident_last_timestamp_seconds",
                                f"{WHERE}, kind, user, application, driver",
                                'rule=""',
                            )
                        ),
                    )
                    + " * 1000",
                    (*COLUMNS, "kind", "user", "application", "driver"),
                    "when",
                    page="incidents",
                    unit="dateTimeAsIso",
                ),
                series(
                    "Incidents of sessions by kind",
                    Query(rate("session_incidents_total", "kind"), "{{kind}}"),
                    unit="ops",
                    width=12,
                ),
            ),
        ),
        Row(
            "Rules",
            (
                table(
                    "Latest incidents of rules",
                    top(
                        20,
                        instead(
                            most(
                                highest(
                                    "incident_last_timestamp_seconds",
                                    f"{WHERE}, rule, kind, user, application, driver",
                                    'rule!=""',
                                )
                            ),
                            "kind",
                            reported="would be refused",
                        ),
                    )
                    + " * 1000",
                    (*COLUMNS, "rule", "kind", "user", "application", "driver"),
                    "when",
                    page="incidents",
                    unit="dateTimeAsIso",
                ),
                series(
                    "Decisions",
                    Query(
                        rate("rule_decisions_total", "rule", decision="reported"),
                        "{{rule}} would be refused",
                    ),
                    Query(
                        rate("rule_decisions_total", "rule, decision", 'decision!="reported"'),
                        "{{rule}} {{decision}}",
                    ),
                    unit="ops",
                    width=12,
                    help="Would be refused: by a rule in mode report. The requests went through.",
                ),
                table(
                    "Refusals by user",
                    top(
                        20,
                        instead(
                            f"sum by ({WHERE}, decision, rule, user, application)"
                            f" (increase({of('user_refusals_total')}[$__range])) > 0",
                            "decision",
                            reported="would be refused",
                        ),
                    ),
                    (*COLUMNS, "decision", "rule", "user", "application"),
                    "times in the range",
                    page="incidents",
                ),
                series(
                    "Refusals by user over time",
                    Query(
                        top(
                            10,
                            rate(
                                "user_refusals_total",
                                f"{WHERE}, rule, user, application",
                                decision="refused",
                            ),
                        ),
                        f"{{{{user}}}} {{{{application}}}} {{{{rule}}}} {PLACE}",
                    ),
                    unit="ops",
                    width=12,
                    page="incidents",
                ),
                table(
                    "Which bound, and since when",
                    top(
                        20,
                        instead(
                            most(
                                highest(
                                    "refusal_first_timestamp_seconds",
                                    f"{WHERE}, decision, rule, bound, limit, user, application",
                                )
                            ),
                            "decision",
                            reported="would be refused",
                        ),
                    )
                    + " * 1000",
                    (*COLUMNS, "decision", "rule", "bound", "limit", "user", "application"),
                    "since",
                    unit="dateTimeAsIso",
                    width=24,
                    page="incidents",
                    help="The rule's setting that the latest refusal was about, with its value, and"
                    " when the first one was. Without a bound the rule has none. The page says the"
                    " reason.",
                ),
                table(
                    "Rules in force",
                    of("rule_info"),
                    ("instance", "rule", "mode"),
                    "in force",
                    height=9,
                ),
                series(
                    "Refused by the proxy",
                    Query(rate("errors_total", "code_name", source="proxy"), "{{code_name}}"),
                    unit="ops",
                    width=12,
                    height=9,
                ),
            ),
        ),
        Row(
            "Protocol and audit",
            (
                series(
                    "Malformed session fields",
                    Query(rate("malformed_session_fields_total", "code_name"), "{{code_name}}"),
                    unit="ops",
                    width=6,
                    help="Requests whose session fields upstream refuses.",
                ),
                series(
                    "Carried out where a refusal was expected",
                    Query(rate("unexpected_successes_total", "code_name"), "{{code_name}}"),
                    unit="ops",
                    width=6,
                    help="By the expected error. After each one the proxy asks who the caller is.",
                ),
                series(
                    "Protocol violations",
                    Query(rate("protocol_violations_total", "kind"), "{{kind}}"),
                    unit="ops",
                    width=6,
                ),
                series(
                    "Other protocols",
                    Query(
                        rate("wrong_protocol_total", "side, protocol"), "{{protocol}} from {{side}}"
                    ),
                    unit="ops",
                    width=6,
                    help="What came where something else was expected. The log has the addresses.",
                ),
                series(
                    "Logins that failed",
                    Query(rate("login_failures_total", "command"), "{{command}}"),
                    unit="ops",
                    width=6,
                    help="The history of the page, to which this leads, and the audit log have who"
                    " claimed to be whom, from where, and why they were not let in.",
                    page="history?event=login_failed",
                ),
                table(
                    "Logins that failed, by user",
                    top(
                        20,
                        f"sum by ({WHERE}, user, application) "
                        f"(increase({of('user_login_failures_total')}[$__range])) > 0",
                    ),
                    (*COLUMNS, "user", "application"),
                    "times in the range",
                    page="history?event=login_failed",
                    help="Who the client claimed to be, with its application: of the 20 that came"
                    " first, the others together. Why is in the history of the page, to which this"
                    " leads, and in the audit log.",
                ),
                series(
                    "Audit lines",
                    Query(rate("audit_lines_total", "result"), "{{result}}"),
                    unit="ops",
                    width=6,
                ),
            ),
        ),
    ),
)
