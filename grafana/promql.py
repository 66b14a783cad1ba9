"""PromQL over the chosen proxies and clusters: ``$job``, ``$instance`` and ``$cluster`` are what is
chosen at the top of a dashboard."""

from __future__ import annotations

from typing import Final

_METRIC: Final = "mongo_session_proxy_"

#: The proxies that are chosen.
CHOSEN: Final = 'job=~"$job", instance=~"$instance"'

#: The clusters that are chosen. All of them are also the only one of a proxy, which has no label.
_CLUSTERS: Final = 'cluster=~"$cluster"'

#: The labels of where something is, beside those of who it is.
WHERE: Final = "instance, cluster"

#: What a process has for all its clusters together.
OF_PROCESS: Final = frozenset(
    {
        "admin_tokens_refused_total",
        "audit_lines_total",
        "buffered_bytes",
        "buffered_bytes_gave_way_total",
        "buffered_bytes_limit",
        "buffered_bytes_waiting",
        "build_info",
        "busy_poll_seconds_total",
        "config_last_reload_success_timestamp_seconds",
        "config_last_reload_successful",
        "connections_limit",
        "draining",
        "event_loop_lag_seconds",
        "trace_spans_total",
        "worker_restarts_total",
        "workers",
    }
)


def of(name: str, *matchers: str, **labels: str) -> str:
    """A metric of the chosen proxies, and of the chosen clusters where these have it."""
    exact = [f'{label}="{value}"' for label, value in labels.items()]
    family = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
    chosen = (CHOSEN,) if family in OF_PROCESS else (CHOSEN, _CLUSTERS)
    return f"{_METRIC}{name}{{{', '.join((*chosen, *matchers, *exact))}}}"


def rate(name: str, by: str = "", *matchers: str, **labels: str) -> str:
    """How much a counter grows per second."""
    return f"sum{_by(by)} (rate({of(name, *matchers, **labels)}[$__rate_interval]))"


def increase(name: str, period: str, *matchers: str, **labels: str) -> str:
    """How much a counter has grown."""
    return f"sum(increase({of(name, *matchers, **labels)}[{period}]))"


def total(name: str, by: str = "", **labels: str) -> str:
    """A gauge of all proxies together."""
    return f"sum{_by(by)} ({of(name, **labels)})"


def highest(name: str, by: str = "", *matchers: str) -> str:
    """A gauge of the proxy where it is highest."""
    return f"max{_by(by)} ({of(name, *matchers)})"


def lowest(name: str, by: str = "") -> str:
    """A gauge of the proxy where it is lowest."""
    return f"min{_by(by)} ({of(name)})"


def growth(name: str, by: str, period: str = "15m") -> str:
    """How much larger a gauge is than some time ago."""
    return f"sum{_by(by)} (delta({of(name)}[{period}]))"


def quantile(share: float, name: str, by: str = "") -> str:
    """The value below which this share of a histogram lies."""
    grouping = f"le, {by}" if by else "le"
    buckets = f"sum by ({grouping}) (rate({of(f'{name}_bucket')}[$__rate_interval]))"
    return f"histogram_quantile({share:g}, {buckets})"


def most(expr: str) -> str:
    """The highest that each of them was in the range that is shown, and not only at its end.

    It is looked at every full minute, of which the last one is to be behind what came last.
    """
    return f"max_over_time(({expr})[$__range:1m] offset -1m)"


def top(count: int, expr: str) -> str:
    """The largest of them."""
    return f"topk({count}, {expr})"


def instead(expr: str, label: str, **values: str) -> str:
    """The same with other texts for these values of a label."""
    for value, text in values.items():
        expr = f'label_replace({expr}, "{label}", "{text}", "{label}", "{value}")'
    return expr


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
