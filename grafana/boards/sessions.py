"""Who has sessions, how many, and whether they come to an end."""

from __future__ import annotations

from typing import Final

from grafana.panels import COLUMNS, PLACE, Dashboard, Panel, Query, Row, number, series, table
from grafana.promql import WHERE, growth, highest, increase, most, of, rate, top, total


def live_and_known(who: str, **shown: str) -> Panel:
    """The sessions of each ``who`` that has most of them."""
    kinds = (("live_sessions", ""), ("sessions", " known"))
    queries = (
        Query(top(10, total(f"{who}_{what}", f"{WHERE}, {who}")), f"{{{{{who}}}}} {PLACE}{said}")
        for what, said in kinds
    )
    return series(f"By {who}", *queries, **shown)


BOARD: Final = Dashboard(
    "mongo-session-proxy-sessions",
    "Session proxy · sessions",
    "Who has sessions, how many, and whether they come to an end.",
    (
        Row(
            "Budget",
            (
                number("Sessions", total("sessions")),
                number(
                    "Budget used",
                    highest("session_budget_used_ratio"),
                    unit="percentunit",
                    limits=((0.8, "orange"), (0.95, "red")),
                    help="By whoever uses most of their budget: a user, an application, or all"
                    " together.",
                ),
                number(
                    "Hours until the process is full",
                    f"min(({of('session_budget_limit', scope='process')} - ignoring (scope)"
                    f" {of('sessions')}) / clamp_min(deriv({of('sessions')}[30m]), 1e-9) / 3600)",
                    unit="h",
                    help="If sessions go on to grow as in the last half hour.",
                ),
                number(
                    "Longest idle",
                    highest("session_idlest_seconds"),
                    unit="s",
                    help="A session is forgotten half an hour after its last use, as upstream"
                    " does.",
                ),
                number(
                    "Uses without room",
                    increase("sessions_untracked_total", "1h"),
                    limits=((1, "red"),),
                    help="In the last hour: sessions that are used and not tracked, because"
                    " sessions.max_sessions is reached.",
                ),
                number(
                    "Not remembered",
                    increase("tracking_dropped_total", "1h"),
                    limits=((1, "orange"),),
                    help="In the last hour: sessions' cursors and origins that there were too many"
                    " of.",
                ),
                series(
                    "Budget used by scope",
                    Query(highest("session_budget_used_ratio", "scope"), "{{scope}}"),
                    unit="percentunit",
                    limits=((0.8, "orange"), (1.0, "red")),
                    width=12,
                ),
                series(
                    "Sessions and their limit",
                    Query(total("sessions_live", "instance"), "live {{instance}}"),
                    Query(total("sessions", "instance"), "{{instance}}"),
                    Query(
                        total("session_budget_limit", "instance", scope="process"),
                        "limit {{instance}}",
                    ),
                    width=12,
                ),
            ),
        ),
        Row(
            "Who",
            (
                live_and_known(
                    "owner",
                    page="groups",
                    help="Without a name: nobody was authenticated. Known are those, too, that were"
                    " ended or killed.",
                ),
                live_and_known("application"),
                series(
                    "By driver",
                    Query(
                        top(10, total("driver_sessions", f"{WHERE}, driver, driver_version")),
                        f"{{{{driver}}}} {{{{driver_version}}}} {PLACE}",
                    ),
                ),
                table(
                    "Owners near their budget",
                    top(10, most(highest("owner_budget_used_ratio", f"{WHERE}, owner"))),
                    (*COLUMNS, "owner"),
                    "budget used",
                    page="groups?sort=-budget_used",
                    unit="percentunit",
                    width=8,
                    help="Of the bound that is theirs, by session_budget.bounds too.",
                ),
                table(
                    "Applications near their budget",
                    top(
                        10,
                        most(highest("application_budget_used_ratio", f"{WHERE}, application")),
                    ),
                    (*COLUMNS, "application"),
                    "budget used",
                    page="groups?sort=-budget_used",
                    unit="percentunit",
                    width=8,
                ),
                table(
                    "Growing applications",
                    top(
                        10,
                        most(growth("application_sessions", f"{WHERE}, application")),
                    ),
                    (*COLUMNS, "application"),
                    "more than 15 minutes ago",
                    page="groups",
                    width=8,
                    help="An application that starts sessions and does not end them stands on top"
                    " here.",
                ),
                table(
                    "Largest groups",
                    top(20, most(total("group_sessions", f"{WHERE}, owner, application, driver"))),
                    (*COLUMNS, "owner", "application", "driver"),
                    "sessions",
                    page="groups",
                    help="An estimate for owners with more than a thousand.",
                ),
                table(
                    "Growing groups",
                    top(
                        20,
                        most(growth("group_sessions", f"{WHERE}, owner, application, driver")),
                    ),
                    (*COLUMNS, "owner", "application", "driver"),
                    "more than 15 minutes ago",
                    page="groups",
                ),
                table(
                    "Growing owners",
                    top(10, most(growth("owner_sessions", f"{WHERE}, owner"))),
                    (*COLUMNS, "owner"),
                    "more than 15 minutes ago",
                    page="groups",
                    width=8,
                ),
            ),
        ),
        Row(
            "Coming and going",
            (
                series(
                    "Started and gone",
                    Query(rate("sessions_started_total"), "started"),
                    Query(rate("sessions_ended_total", "reason"), "{{reason}}"),
                    unit="ops",
                    help="Sessions that expire were not ended by their application.",
                ),
                series(
                    "Share of sessions that are never ended",
                    Query(
                        f"{rate('sessions_ended_total', reason='expired')} /"
                        f" {rate('sessions_started_total')}",
                        "expired of started",
                    ),
                    unit="percentunit",
                ),
                series(
                    "Session commands",
                    Query(
                        rate("session_commands_total", "command, decision"),
                        "{{command}} {{decision}}",
                    ),
                    unit="ops",
                ),
                series(
                    "Killed by",
                    Query(rate("sessions_killed_total", "initiator"), "{{initiator}}"),
                    unit="ops",
                    help="owner: by a command of their own. other: by another user's. admin: on the"
                    " admin endpoint. Who it was is in the history, to which this leads.",
                    page="history?event=kill,session_killed,sessions_killed",
                ),
            ),
        ),
    ),
)
