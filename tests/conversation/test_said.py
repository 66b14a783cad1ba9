"""Recognising that upstream says the same again: no byte that decides may differ."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson import Binary, Int64

from proxy.conversation import said as said_module
from proxy.conversation.said import Said, Sayings, said_in
from proxy.session.identity import Identity, IdentityUnknownError, read_connection_status
from proxy.wire.compression import ZLIB, deflate
from proxy.wire.replies import read_reply
from tests.build import reply
from tests.talk import connection_status

TIMES: dict[str, Any] = {
    "$clusterTime": {
        "clusterTime": bson.Timestamp(5, 1),
        "signature": {"hash": Binary(bytes(20)), "keyId": Int64(7)},
    },
    "operationTime": bson.Timestamp(5, 1),
}
LATER: dict[str, Any] = {
    "$clusterTime": {
        "clusterTime": bson.Timestamp(6, 2),
        "signature": {"hash": Binary(b"h" * 20), "keyId": Int64(9)},
    },
    "operationTime": bson.Timestamp(6, 1),
}
ALICE = connection_status(("alice", "app"), actions=("listSessions",))


def said(frame: bytes) -> Said | None:
    answer = read_reply(frame)
    return said_in(answer, read_connection_status(answer.body_bytes()))


def test_other_times_and_numbers_say_the_same():
    first = said(reply({**ALICE, **TIMES}, 7))
    assert first is not None
    assert first.identity.name == "alice@app"
    assert first.again(reply({**ALICE, **LATER}, 8, 4711))


@pytest.mark.parametrize(
    "other",
    [
        {**connection_status(("alicf", "app"), actions=("listSessions",)), **TIMES},
        {**connection_status(("alice", "apq"), actions=("listSessions",)), **TIMES},
        {**connection_status(("alice", "app"), actions=("listSessionz",)), **TIMES},
        {**connection_status(actions=("listSessions",)), **TIMES},
        {**ALICE, "ok": 0.0, **TIMES},
        {**ALICE, "ok": 1, **TIMES},
        ALICE,
        {**ALICE, **dict(reversed(TIMES.items()))},
        {**ALICE, **TIMES, "operationTimf": bson.Timestamp(5, 1)},
        {**ALICE, "$clusterTime": TIMES["$clusterTime"], "operationTime": Int64(5)},
        {**ALICE, "$clusterTime": TIMES["$clusterTime"], "authInfo2time": bson.Timestamp(5, 1)},
        {"code": 391, **ALICE, **TIMES},
    ],
)
def test_what_says_anything_else_is_read(other):
    first = said(reply({**ALICE, **TIMES}, 7))
    assert first is not None
    assert not first.again(reply(other, 7))


def test_whatever_byte_is_another_it_is_read_or_names_the_same():
    frame = reply({**ALICE, **TIMES}, 7)
    first = said(frame)
    assert first is not None
    taken = 0
    for place in range(12, len(frame)):
        for byte in (0, 1, 0xFF, frame[place] ^ 1):
            other = frame[:place] + bytes([byte]) + frame[place + 1 :]
            if not first.again(other):
                continue
            taken += other != frame
            answer = read_reply(other)
            assert not answer.fields.duplicates
            assert answer.fields.keys() == read_reply(frame).fields.keys()
            try:
                assert read_connection_status(answer.body_bytes()) == first.identity
            except IdentityUnknownError:
                # What stands inside the times cannot be BSON: nothing is read of it.
                assert place > frame.index(b"clusterTime")
    assert taken > 100


@pytest.mark.parametrize(
    "frame",
    [
        reply(ALICE, 7, checksum=True),
        deflate(reply(ALICE, 7), ZLIB),
        reply({"ok": 1.0, "authInfo": ALICE["authInfo"]}, 7),
        reply({**ALICE, **{f"f{number}": 1 for number in range(9)}}, 7),
    ],
)
def test_what_comes_in_another_form_is_read_each_time(frame):
    assert said(frame) is None


def test_what_is_long_is_read_each_time(monkeypatch):
    monkeypatch.setattr(said_module, "_LONGEST", 100)
    assert said(reply(ALICE, 7)) is None


def test_twice_the_same_field_is_read_each_time():
    body = bson.encode(ALICE)
    doubled = body[4:-1] + bson.encode({"ok": 1.0})[4:-1]
    whole = (len(doubled) + 5).to_bytes(4, "little") + doubled + b"\0"
    assert said_in(read_reply(reply(whole, 7)), Identity()) is None


def test_connections_share_what_was_said():
    sayings = Sayings()
    first, second = said(reply(ALICE, 7)), said(reply(ALICE, 8))
    assert first is not None
    assert second is not None
    assert sayings.one(first) is first
    # Another object stands for the identity, so that it is no longer the one that is bound.
    assert sayings.one(second) is second
    third = said_in(read_reply(reply(ALICE, 9)), second.identity)
    assert third is not None
    assert sayings.one(third) is second
    for number in range(1000):
        one = said(reply(connection_status((f"user{number}", "app")), 7))
        assert one is not None
        sayings.one(one)
    assert len(sayings._known) <= 100
