"""The dashboards as files: up to date, well formed, and about metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from grafana import build
from grafana.panels import Dashboard, Row, made, number, series
from grafana.promql import of
from proxy.admin.history import EVENTS
from tests.grafana.exported import exported, named
from tests.running import recording

FOLDER = Path(build.__file__).parent

#: Exported, and on no dashboard.
NOT_SHOWN = {
    "process_start_time_seconds": "the restart shows in every other panel",
    "process_virtual_memory_bytes": "says nothing that resident memory does not say",
}

BOARDS = sorted(build.BOARDS)


def board(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / "dashboards" / f"{name}.json").read_text())
    return document


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in board(name)["panels"] if panel["type"] != "row"]


def queries(name: str) -> list[str]:
    return [target["expr"] for panel in panels(name) for target in panel["targets"]]


def alert_texts() -> str:
    return (FOLDER / "alerts.yml").read_text()


def test_the_files_are_what_the_program_makes() -> None:
    files = build.files()
    boards = {path.name for path in files if path.suffix == ".json"}
    assert boards == {path.name for path in (FOLDER / "dashboards").iterdir()}
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, f"run: python -m grafana.build ({path})"
    assert build.main(["--check"]) == 0


def test_stale_files_are_named_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "one.json"
    path.write_text("old")
    monkeypatch.setattr(build, "files", lambda: {path: "new"})
    assert build.main(["--check"]) == 1
    assert path.read_text() == "old"
    assert build.main([]) == 0
    assert path.read_text() == "new"
    assert capsys.readouterr().out == "one.json\none.json\n"


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_complete_and_do_not_overlap(name: str) -> None:
    document = board(name)
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    for panel in document["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    for panel in panels(name):
        assert panel["title"]
        assert panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            assert 'job=~"$job", instance=~"$instance"' in target["expr"]
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= set(
                re.findall(r"\w+", target["expr"])
            )
    variables = {variable["name"] for variable in document["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(document)))
    of_grafana = {"__rate_interval", "__range", "__all", "__value", "__from", "__to"}
    assert used - of_grafana <= variables


@pytest.mark.parametrize("name", BOARDS)
def test_what_matters_is_marked_in_every_panel(name: str) -> None:
    marks = board(name)["annotations"]["list"]
    assert [mark["name"] for mark in marks] == [
        *("Restart", "Reload", "Kill", "Election", "Burst of refusals")
    ]
    for mark in marks:
        assert set(re.findall(r"\{\{(\w+)\}\}", mark["textFormat"])) <= set(
            re.findall(r"\w+", mark["expr"])
        )


@pytest.mark.parametrize("name", ["rules", "sessions", "transactions"])
def test_tables_of_who_it_was_are_of_the_whole_range(name: str) -> None:
    for panel in panels(name):
        if panel["type"] == "table" and panel["title"] != "Rules in force":
            assert "$__range" in panel["targets"][0]["expr"], panel["title"]


WHOSE = {"owner", "user", "application", "driver"}


@pytest.mark.parametrize("name", BOARDS)
def test_what_says_who_says_at_which_proxy(name: str) -> None:
    for panel in panels(name):
        for target in panel["targets"]:
            by = [set(one.split(", ")) for one in re.findall(r"by \(([a-z_, ]+)\)", target["expr"])]
            for labels in by:
                assert not labels & WHOSE or {"instance", "cluster"} <= labels, panel["title"]
            if panel["type"] == "timeseries" and any(labels & WHOSE for labels in by):
                assert "{{instance}}" in target["legendFormat"], panel["title"]


def test_panels_lead_to_the_page_of_a_proxy() -> None:
    links = [link["url"] for name in BOARDS for panel in panels(name) for link in panel["links"]]
    assert "http://${instance:raw}/#transactions?sort=-idle" in links
    for name in BOARDS:
        for panel in panels(name):
            for one in panel["fieldConfig"]["overrides"]:
                assert one["matcher"]["options"] == "instance"
                assert "instance" in str(panel["transformations"])
                links += [link["url"] for link in one["properties"][0]["value"]]
    assert "http://${__value.raw}/#incidents" in links
    views = {url.partition("#")[2].partition("?")[0] for url in links}
    views -= {"groups", "transactions", "cursors", "incidents", "history", "upstream"}
    assert views == {"connections"}
    then = "since=${__from:date:iso}&until=${__to:date:iso}"
    assert f"http://${{__value.raw}}/#history?{then}" in links
    assert f"http://${{instance:raw}}/#history?event=login_failed&{then}" in links


def test_what_links_to_the_history_name_are_events() -> None:
    links = [link["url"] for name in BOARDS for panel in panels(name) for link in panel["links"]]
    named = {one for url in links for one in re.findall(r"event=([a-z_,]+)", url)}
    assert named
    assert set(",".join(named).split(",")) <= set(EVENTS)


def test_dashboards_are_told_apart() -> None:
    uids = [board(name)["uid"] for name in BOARDS]
    titles = [board(name)["title"] for name in BOARDS]
    assert len(set(uids)) == len(set(titles)) == len(BOARDS) == 5
    for name in BOARDS:
        shown = [panel["title"] for panel in panels(name)]
        assert len(shown) == len(set(shown)) > 6


async def test_metrics_on_dashboards_and_metrics_that_exist_are_the_same() -> None:
    async with recording() as (_, running):
        exists = exported(running.server.telemetry.page()[1].decode())
    shown = {name for one in BOARDS for expr in queries(one) for name in named(expr)}
    alerting = named(alert_texts())
    assert shown - exists == set()
    assert alerting - exists == set()
    assert exists - shown == set(NOT_SHOWN)
    assert len(exists) > 55


def test_rows_of_panels_that_do_not_fit_go_on_below() -> None:
    wide = series("wide", *(), width=16)
    row = Row("row", (number("one", of("sessions")), wide, wide))
    placed = made(Dashboard("uid", "title", "", (row,)))["panels"]
    assert [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in placed] == [
        (0, 0),
        (0, 1),
        (4, 1),
        (0, 8),
    ]
