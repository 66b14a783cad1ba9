from __future__ import annotations

import pytest
from bson import Int64

from tests.embedded.support import replay
from tests.transcripts import load, names, normalise

#: Deployments that the embedded server does not pretend to be.
NOT_PLAYED = {
    "mongos.alice": "a mongos is another program: it words and orders many replies differently"
}
#: Probes by (transcript, line) whose recorded reply the embedded server cannot give, and why.
NOT_REPRODUCED = {
    ("rsauth.root", 373): (
        "the recorded batch is the first 101 of more sessions, in a hash table's order"
    ),
    ("4.9/rsauth.root", 2): "root has other privileges on 4.9; those played are of 4.2",
    ("4.9/rsauth.root", 373): (
        "users that the server is not given had held conversations before; and as on 4.2"
    ),
}
#: How many probes each conversation has: one that got lost must not go unnoticed.
PROBES = 386


NAMES = [name for name in (*names(), *names("4.9")) if name not in NOT_PLAYED]


@pytest.mark.parametrize("name", NAMES)
async def test_the_embedded_server_answers_as_the_recorded_one(name: str) -> None:
    exchanges = await replay(name)
    assert len(exchanges) == PROBES
    different = [
        (exchange.probe.name, exchange.recorded, exchange.actual)
        for exchange in exchanges
        # As text, for then the order of the fields counts too.
        if repr(exchange.recorded) != repr(exchange.actual)
        and (name, exchange.probe.line) not in NOT_REPRODUCED
    ]
    assert different == []


def test_what_is_left_out_exists() -> None:
    assert set(NOT_PLAYED) <= {*names(), *names("4.9")}
    for name, line in NOT_REPRODUCED:
        assert line in [probe.line for probe in load(name).probes]


@pytest.mark.parametrize(
    ("recorded", "actual"),
    [
        ({"ok": 1.0}, {"ok": 1}),
        ({"ok": 1.0}, {"ok": True}),
        ({"ok": 1.0, "operationTime": 1}, {"ok": 1.0}),
        ({"ok": 0.0, "errmsg": "a"}, {"ok": 0.0, "errmsg": "b"}),
        ({"cursor": {"firstBatch": []}}, {"cursor": {"firstBatch": [{"_id": 1}]}}),
    ],
)
def test_the_comparison_sees_differences(recorded: dict, actual: dict) -> None:
    assert normalise(recorded) != normalise(actual)


def test_the_comparison_overlooks_what_changes_from_run_to_run() -> None:
    recorded = {"operationTime": 1, "cursor": {"id": 7, "ns": "app.c"}, "errmsg": "cursor id 7"}
    actual = {"operationTime": 2, "cursor": {"id": 9, "ns": "app.c"}, "errmsg": "cursor id 9"}
    assert normalise(recorded, {7: "<cursor>"}) != normalise(actual, {9: "<cursor>"})
    recorded["cursor"] = {"id": Int64(7), "ns": "app.c"}
    actual["cursor"] = {"id": Int64(9), "ns": "app.c"}
    assert normalise(recorded, {7: "<cursor>"}) == normalise(actual, {9: "<cursor>"})
