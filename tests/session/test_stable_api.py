"""The Stable API's parameters on session commands, beside what a server 4.9 answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util

from proxy.session.stable_api import (
    is_known,
    parameters,
    refusal,
    repeats_parameters,
    versioned,
)
from tests.session.sessions import request

RECORDED = Path(__file__).parents[1] / "data" / "transcripts" / "4.9" / "stable-api.jsonl"
COMMANDS = {
    "startSession",
    "refreshSessions",
    "endSessions",
    "killSessions",
    "killAllSessions",
    "killAllSessionsByPattern",
}


def recorded() -> Iterator[Any]:
    for line in RECORDED.read_text().splitlines():
        probe = json_util.loads(line)
        if next(iter(probe["request"])) in COMMANDS and "api" in probe["probe"]:
            yield pytest.param(probe, id=probe["probe"])


@pytest.mark.parametrize("probe", list(recorded()))
def test_a_server_4_9_says_the_same(probe: dict[str, Any]) -> None:
    asked = request(probe["request"], "admin")
    error = refusal(asked, 12, probe["probe"].endswith("required"))
    reply = probe["reply"]
    if reply["ok"] == 1.0:
        assert error is None
    else:
        assert error is not None
        said = {"errmsg": error.errmsg, "code": error.code, "codeName": error.code_name}
        assert said == {name: reply[name] for name in said}


def test_enough_was_recorded() -> None:
    assert len(list(recorded())) >= 90


@pytest.mark.parametrize("wire_version", [None, 0, 6, 8, 9])
def test_servers_that_know_no_parameters_refuse_none(wire_version: int | None) -> None:
    strict = {"startSession": 1, "apiVersion": "1", "apiStrict": True}
    for document in (strict, {"startSession": 1, "apiVersion": "2"}, {"killSessions": []}):
        assert refusal(request(document, "admin"), wire_version, True) is None
    assert not is_known(wire_version)


@pytest.mark.parametrize("wire_version", [17, 21, 25, 27])
def test_newer_servers_say_where_to_read_more(wire_version: int) -> None:
    document = {"startSession": 1, "apiVersion": "1", "apiStrict": True}
    error = refusal(request(document, "admin"), wire_version, False)
    assert error is not None
    assert error.errmsg.endswith("https://dochub.mongodb.org/core/manual-versioned-api.")


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"apiVersion": 1}, 14),
        ({"apiVersion": "1", "apiStrict": 1}, 14),
        ({"apiVersion": "1", "apiDeprecationErrors": "x"}, 14),
        ({"apiVersion": None, "apiStrict": True}, 4886600),
        ({"apiVersion": None}, None),
        ({"apiVersion": "1", "apiStrict": None}, None),
        ({"apiVersion": ""}, 322),
        ({"apiVersion": "1\0"}, 322),
    ],
)
def test_odd_parameters(given: dict[str, Any], code: int | None) -> None:
    error = refusal(request({"killSessions": [], **given}, "admin"), 21, False)
    assert (error and error.code) == code


def test_a_command_gets_a_version() -> None:
    document = {"killSessions": [], "$db": "admin"}
    made = bson.decode(versioned(bson.encode(document)))
    assert made == {**document, "apiVersion": "1"}
    assert versioned(versioned(bson.encode(document))) == versioned(bson.encode(document))
    strict = bson.encode({"endSessions": [{"apiVersion": "2"}], "apiVersion": "1"})
    assert versioned(strict) == strict
    assert json.dumps(list(made)) == '["killSessions", "$db", "apiVersion"]'


def test_an_abort_says_what_its_transaction_said_and_no_more() -> None:
    abort = bson.encode({"abortTransaction": 1, "$db": "admin"})
    assert versioned(abort) == abort


@pytest.mark.parametrize(
    ("wire_version", "repeats"), [(None, True), (8, False), (12, False), (13, True), (27, True)]
)
def test_from_5_0_on_all_of_a_transaction_has_the_same_parameters(
    wire_version: int | None, repeats: bool
) -> None:
    assert repeats_parameters(wire_version) is repeats


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {}),
        ({"apiVersion": "1"}, {"apiVersion": "1"}),
        ({"apiVersion": None, "apiStrict": True}, {}),
        ({"apiStrict": False, "apiVersion": "1"}, {"apiVersion": "1", "apiStrict": False}),
        ({"apiVersion": "1", "apiDeprecationErrors": True},) * 2,
        ({"apiVersion": "1", "apiStrict": None}, {"apiVersion": "1"}),
        ({"apiVersion": "1", "apiStrict": 1}, {"apiVersion": "1"}),
        ({"apiVersion": "2"}, {}),
        ({"apiVersion": 1}, {}),
        ({"apiVersion": "1" * 100_000}, {}),
    ],
)
def test_parameters_are_kept_in_one_form(given: dict[str, Any], kept: dict[str, Any]) -> None:
    elements = parameters(request({"find": "c", **given}, "app"))
    size = (len(elements) + 5).to_bytes(4, "little")
    assert bson.decode(size + elements + b"\0") == kept
    assert parameters(request({"find": "c", "x": 1, **given}, "app")) is elements
