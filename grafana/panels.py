"""A dashboard in a few words: rows of panels, each with its queries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from grafana.promql import CHOSEN, of, quantile

#: Grafana's grid is so many columns wide.
_COLUMNS: Final = 24
#: The dashboards' schema as of Grafana 11.
_SCHEMA: Final = 39

DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

#: The columns of a table that say where it is, and the same in the legend of a line: which proxy,
#: and which of its clusters, if it has several.
COLUMNS: Final = ("instance", "cluster")
PLACE: Final = "{{instance}} {{cluster}}"

Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One PromQL expression; ``legend`` may name labels as ``{{label}}``."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel: ``kind`` is Grafana's name for it, ``unit`` as Grafana knows units.

    ``help`` says what to make of it. ``limits`` are (value, colour) steps above green. ``page`` is
    the view of the proxy's own page that shows the same of the moment.
    """

    title: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    help: str = ""
    stack: bool = False
    limits: tuple[tuple[float, str], ...] = ()
    page: str = ""
    columns: tuple[str, ...] = ()
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Mark:
    """Lines across all panels where ``expr`` has a value, each with ``text``."""

    name: str
    expr: str
    text: str
    colour: str


#: What one wants to see beside everything else.
MARKS: Final = (
    Mark(
        "Restart",
        f"changes(process_start_time_seconds{{{CHOSEN}}}[1m]) > 0"
        f" and on (instance) {of('build_info')}",
        "{{instance}} was restarted",
        "purple",
    ),
    Mark(
        "Reload",
        f"changes({of('config_last_reload_success_timestamp_seconds')}[1m]) > 0",
        "{{instance}} read its settings again",
        "blue",
    ),
    Mark(
        "Kill",
        f"sum by (instance) (increase({of('sessions_killed_total', initiator='admin')}[1m])) > 0",
        "an operator killed sessions at {{instance}}",
        "red",
    ),
    Mark(
        "Election",
        f"max by (upstream) (changes({of('upstream_primary')}[1m])) > 0"
        f" and on (upstream) max by (upstream) ({of('upstream_primary')}) == 1",
        "{{upstream}} became primary",
        "orange",
    ),
    Mark(
        "Burst of refusals",
        "sum by (instance, rule) (increase("
        f"{of('rule_decisions_total', decision='refused')}[1m])) > 100",
        "{{rule}} at {{instance}} refused more than 100 in a minute",
        "yellow",
    ),
)


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...] = field(default=())
    marks: tuple[Mark, ...] = field(default=MARKS)


def series(title: str, *queries: Query, **how: Any) -> Panel:  # noqa: ANN401 - fields of a Panel
    """Lines over time."""
    return Panel(title, queries, **how)


def quantiles(title: str, name: str, **how: Any) -> Panel:  # noqa: ANN401 - fields of a Panel
    """The median of a histogram in seconds, and how bad it gets."""
    shares = (0.5, 0.95, 0.99)
    queries = (Query(quantile(share, name), f"{share:.0%}") for share in shares)
    return series(title, *queries, unit="s", **how)


def number(title: str, expr: str, **how: Any) -> Panel:  # noqa: ANN401 - fields of a Panel
    """One number, as large as it will go."""
    return Panel(title, (Query(expr),), **{"kind": "stat", "width": 4, "height": 4, **how})


def table(title: str, expr: str, columns: tuple[str, ...], value: str, **how: Any) -> Panel:  # noqa: ANN401 - fields of a Panel
    """The latest values with their labels as ``columns`` and the number as ``value``."""
    return Panel(
        title,
        (Query(expr),),
        **{"kind": "table", "width": 12, "columns": columns, "names": (("Value", value),), **how},
    )


def made(dashboard: Dashboard) -> Json:
    """The dashboard as Grafana reads it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["mongodb", "mongo-session-proxy"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "links": [_links()],
        "templating": {
            "list": [
                _datasource(),
                _chosen("job", "Job", "build_info"),
                _chosen("instance", "Proxy", "build_info"),
                _chosen("cluster", "Cluster", "sessions"),
            ]
        },
        "annotations": {"list": [_annotation(one) for one in dashboard.marks]},
        "panels": _laid_out(dashboard.rows),
    }


def _links() -> Json:
    return {
        "type": "dashboards",
        "tags": ["mongo-session-proxy"],
        "title": "Session proxy",
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "hide": 0,
    }


def _chosen(label: str, title: str, metric: str) -> Json:
    """A variable of the values that a label of a metric has; by default any, or none at all."""
    query = f"label_values(mongo_session_proxy_{metric}, {label})"
    return {
        "name": label,
        "label": title,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "sort": 1,
    }


def _laid_out(rows: tuple[Row, ...]) -> list[Json]:
    """Panels from left to right, each row of the dashboard below a heading."""
    placed: list[Json] = []
    top = 0
    for row in rows:
        placed.append({
            "id": len(placed) + 1,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": _COLUMNS, "h": 1},
            "panels": [],
        })  # fmt: skip
        top += 1
        left = tallest = 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, tallest = top + tallest, 0, 0
            where = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            placed.append({"id": len(placed) + 1, "gridPos": where, **_panel(panel)})
            left += panel.width
            tallest = max(tallest, panel.height)
        top += tallest
    return placed


def _panel(panel: Panel) -> Json:
    instant = panel.kind != "timeseries"
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "links": [] if panel.kind == "table" or not panel.page else _page_link(panel.page),
        "datasource": DATASOURCE,
        "targets": [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "expr": query.expr,
                "legendFormat": query.legend or "__auto",
                "instant": instant,
                "range": not instant,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for number, query in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
        "transformations": _transformations(panel),
    }


#: The stretch that is shown, as the page's history takes it.
_STRETCH: Final = "since=${__from:date:iso}&until=${__to:date:iso}"


def _page_link(view: str, where: str = "${instance:raw}") -> list[Json]:
    """To the page of a proxy: to what there is now, and to what happened in the stretch shown."""
    events = view.partition("?")[2] if view.startswith("history") else ""
    past = f"history?{'&'.join(filter(None, [events, _STRETCH]))}"
    of = " (choose one above)" if where == "${instance:raw}" else ""
    links = {f"What happened then, on the page of the proxy{of}": past}
    if not view.startswith("history"):
        links = {f"What there is now, on the page of the proxy{of}": view} | links
    return [
        {"title": title, "url": f"http://{where}/#{path}", "targetBlank": True}
        for title, path in links.items()
    ]


def _overrides(panel: Panel) -> list[Json]:
    """In a table each row leads to its own proxy."""
    if panel.kind != "table" or not panel.page:
        return []
    links = _page_link(panel.page, "${__value.raw}")
    return [
        {
            "matcher": {"id": "byName", "options": "instance"},
            "properties": [{"id": "links", "value": links}],
        }
    ]


def _annotation(mark: Mark) -> Json:
    return {
        "name": mark.name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": mark.colour,
        "expr": mark.expr,
        "step": "30s",
        "titleFormat": mark.name,
        "textFormat": mark.text,
        "useValueForTime": False,
    }


def _defaults(panel: Panel) -> Json:
    steps: list[Json] = [{"color": "green", "value": None}]
    steps += [{"color": colour, "value": value} for value, colour in panel.limits]
    defaults: Json = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults["min"] = 0
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stack else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
            "thresholdsStyle": {"mode": "line" if panel.limits else "off"},
        }
    return defaults


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value" if panel.limits else "none",
            "graphMode": "none",
            "textMode": "auto",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    if panel.kind == "table":
        return {
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": dict(panel.names)["Value"], "desc": True}],
        }
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _transformations(panel: Panel) -> list[Json]:
    if panel.kind != "table":
        return []
    shown = (*panel.columns, "Value")
    return [
        {"id": "filterFieldsByName", "options": {"include": {"names": list(shown)}}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {},
                "indexByName": {name: place for place, name in enumerate(shown)},
                "renameByName": dict(panel.names),
            },
        },
    ]
