"""docs/metrics.md says of every metric what it is, and of no other."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.admin.runbooks import runbook, runbooks
from proxy.observe.families import PREFIX, Page
from tests.grafana.test_dashboards import FOLDER
from tests.running import recording

TEXT = (Path(FOLDER).parent / "docs" / "metrics.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `([a-z_]+)` \| (gauge|counter|histogram) \| ([a-z_, ]*)\| \S", re.MULTILINE)


async def test_metrics() -> None:
    async with recording() as (_, running):
        page = Page()
        for _ in running.server.telemetry.collect(page):
            pass
    exported = {
        (
            family.name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else ""),
            family.type,
            ", ".join(family._labelnames),
        )
        for family in page
    }
    documented = [(name, kind, labels.strip()) for name, kind, labels in _ROW.findall(TEXT)]
    assert len(documented) == len(set(documented))
    assert set(documented) == exported


def test_every_alert_says_what_to_do() -> None:
    rules = (FOLDER / "alerts.yml").read_text()
    names = re.findall(r"- alert: (\w+)", rules)
    assert list(runbooks()) == names
    for name in names:
        assert len(runbook(name).split()) > 3
    address = "http://{{ $labels.instance }}/runbook?alert="
    assert re.findall(r'runbook_url: "([^"]+)"', rules) == [address + name for name in names]
    assert "TransactionIdle" in runbook("no such alert")


def test_alerts() -> None:
    rules = (FOLDER / "alerts.yml").read_text()
    section = TEXT.partition("## Alerts")[2]
    assert re.findall(r"- alert: (\w+)", rules) == re.findall(
        r"^\| `(\w+)` \|", section, re.MULTILINE
    )
