"""The metrics that a page can hold, and those that queries name."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families

_NAME = re.compile(r"\b(?:mongo_session_proxy|process)_[a-z_]+")
#: What histograms are called on the wire.
_PARTS = re.compile("_(bucket|sum|count)$")


def exported(page: str) -> set[str]:
    """The families on a page, under the names that queries use."""
    return {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(page)
        if family.name.startswith(("mongo_session_proxy_", "process_"))
    }


def named(expr: str) -> set[str]:
    """The families that a query names."""
    quoted = re.sub(r'"[^"]*"', '""', expr)
    return {
        name if name.endswith("_total") else _PARTS.sub("", name) for name in _NAME.findall(quoted)
    }
