from __future__ import annotations

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from proxy.observe.code_names import CODE_NAMES
from proxy.observe.labels import COMMANDS, clean, code_name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (13, "Unauthorized"),
        (261, "TooManyLogicalSessions"),
        (40415, "IDLUnknownField"),
        (64, "WriteConcernTimeout"),
        (462, "IngressRequestRateLimitExceeded"),
        (4_886_600, "other"),
        (None, "other"),
    ],
)
def test_codes(code: int | None, name: str) -> None:
    assert code_name(code) == name


def test_label_values_are_few() -> None:
    assert len(COMMANDS) < 250
    assert len(CODE_NAMES) < 400


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("", ""),
        ("alice@app", "alice@app"),
        ("Zoë@app", "Zoë@app"),
        ("\udcff@app", "\\udcff@app"),
        ("a\x9b2J\u202eb", "a\\x9b2J\\u202eb"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 99 + "…"),
    ],
)
def test_names_that_people_chose(name: str, cleaned: str) -> None:
    assert clean(name) == cleaned


@pytest.mark.parametrize("name", ['\n"\\{}', "\udcff", "\0\x1f", "é" * 5000])
def test_any_name_can_be_shown(name: str) -> None:
    family = GaugeMetricFamily("a", "b", labels=["c"])
    family.add_metric([clean(name)], 1)

    class Page:
        def collect(self):
            yield family

    assert generate_latest(Page()).count(b"\n") == 3
