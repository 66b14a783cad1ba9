"""API parameters, as recorded on 4.9 and as later versions differ."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from bson import Int64, json_util

from tests.embedded.support import Client, node
from tests.embedded.versions import LSID, before, client, outcome, since
from tests.transcripts import DIRECTORY, STABLE_API, normalise


def recorded_api() -> list[list[dict[str, Any]]]:
    """The recorded connections: the requests of one are the lines with one name."""
    lines = (DIRECTORY / "4.9" / f"{STABLE_API}.jsonl").read_text().splitlines()
    documents = [json_util.loads(line) for line in lines]
    return [list(group) for _, group in groupby(documents, key=lambda line: line["probe"])]


def test_the_stable_api_as_recorded_on_4_9() -> None:
    server = node(version="4.9")
    different, count = [], 0
    for connection in recorded_api():
        asked = Client(server)
        server.parameters["requireApiVersion"] = connection[0]["probe"].endswith(" required")
        for line in connection:
            count += 1
            actual = asked.ask({**line["request"], "$db": line["db"]})
            recorded = {name: value for name, value in line["reply"].items() if name != "id"}
            actual = {name: value for name, value in actual.items() if name in recorded}
            pair = normalise(recorded), normalise(actual)
            if pair[0] != pair[1]:
                different.append((line["probe"], *pair))
    assert different == []
    assert count == 126


@pytest.mark.parametrize("version", before("4.9"))
def test_no_stable_api_before_4_9(version: str) -> None:
    assert client(version).run("startSession", apiStrict=True)["ok"]


@pytest.mark.parametrize("version", since("4.9"))
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"apiVersion": 1}, 14),
        ({"apiVersion": "1", "apiStrict": 1}, 14),
        ({"apiVersion": "2"}, 322),
        ({"apiVersion": "1", "apiStrict": True}, 323),
        ({"apiVersion": "1", "apiDeprecationErrors": True}, "ok"),
        ({"apiDeprecationErrors": True}, 4886600),
        ({"apiStrict": False}, 4886600),
    ],
)
def test_api_parameters(version: str, fields: dict[str, Any], code: Any) -> None:
    asked = client(version)
    reply = asked.run("startSession", **fields)
    assert outcome(reply) == code
    if code == 323:
        assert ("dochub" in reply["errmsg"]) == (version in since("6.0"))
    for name in ("isMaster", "currentOp"):
        assert asked.run(name, apiVersion="1", apiStrict=True)["code"] == 323
    for name in ("hello", "ping", "endSessions"):
        value: Any = [] if name == "endSessions" else 1
        assert asked.run(name, value, apiVersion="1", apiStrict=True)["ok"]


@pytest.mark.parametrize("version", since("4.9"))
def test_transactions_and_api_parameters(version: str) -> None:
    asked = client(version)
    fields = {"lsid": LSID, "txnNumber": Int64(1), "autocommit": False}
    api = {"apiVersion": "1"}
    assert asked.run("find", "c", db="app", **fields, startTransaction=True, **api)["ok"]
    with_it = asked.run("find", "c", db="app", **fields, **api)
    without = asked.run("abortTransaction", **fields)
    if version == "4.9":
        assert (outcome(with_it), outcome(without)) == (4937700, "ok")
        return
    assert (outcome(with_it), without["code"], without["codeName"]) == (
        "ok",
        347,
        "APIMismatchError",
    )
    assert without["errmsg"] == (
        "API parameter mismatch: abortTransaction used params {}, the transaction's first command "
        'used { apiVersion: "1" }'
    )
    # The transaction has not noticed.
    assert asked.run("commitTransaction", **fields, **api)["ok"]


@pytest.mark.parametrize("version", since("4.9"))
def test_required_api_version(version: str) -> None:
    asked = client(version)
    assert asked.run("setParameter", requireApiVersion=True)["was"] is False
    for name in ("ping", "connectionStatus", "killSessions", "hello"):
        assert asked.run(name, [])["code"] == 498870
    assert asked.run("ping", apiVersion="1")["ok"]
    internal = Client(asked.connection.node)
    internal.run("hello", internalClient={"minWireVersion": 0, "maxWireVersion": 8}, apiVersion="1")
    assert outcome(internal.run("ping")) == ("ok" if version in since("7.0") else 498870)
