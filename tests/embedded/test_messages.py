from __future__ import annotations

import bson
import pytest

from proxy.errors import WireError
from proxy.wire.checksum import checksum_matches
from proxy.wire.compression import NAMES, compressor_of, deflate, inflate
from proxy.wire.frames import FrameBuffer
from proxy.wire.opcodes import HEADER, MORE_TO_COME
from proxy.wire.replies import read_reply
from tests.build import body, command, op_msg, sequence
from tests.embedded.support import NOW, Client, answer, node
from tests.malformed import ALL, PING, Malformed

#: What this server says where others may say something else too.
CODES = {
    "a wrong checksum": 288,
    "a checksum flag on a body without one": 288,
    "trailing zeros": 40430,
}


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_reaction_to_malformed_messages(case: Malformed) -> None:
    client = Client(node())
    try:
        (whole,) = FrameBuffer().feed(case.frame)
    except (WireError, ValueError):
        assert case.reaction == "close"
        return
    step = client.connection.receive(whole, NOW)
    if case.reaction == "close":
        assert step.close
        assert step.frames == []
        return
    reply = answer(step)
    if case.reaction == "answer":
        assert reply["ok"] == 1.0
    else:
        assert reply["ok"] == 0.0
        assert reply["code"] in ([CODES[case.name]] if case.name in CODES else case.codes)
    assert client.run("ping")["ok"] == 1.0


@pytest.mark.parametrize(
    "message",
    [
        op_msg(body(PING), body(PING), flags=MORE_TO_COME),
        op_msg(body({"nix": 1, "$db": "app"}), flags=MORE_TO_COME),
        op_msg(body({"ping": 1}), flags=MORE_TO_COME),
        op_msg(body({"insert": "c", "documents": [{}], "$db": "app"}), flags=MORE_TO_COME),
        op_msg(body({"insert": "c", "documents": [], "$db": "app"}), flags=MORE_TO_COME),
    ],
)
def test_more_to_come_has_no_reply(message: bytes) -> None:
    client = Client(node())
    step = client.connection.receive(message, NOW)
    assert (step.frames, step.close) == ([], False)
    assert client.run("ping")["ok"] == 1.0


def test_the_body_may_come_after_its_sequences() -> None:
    client = Client(node())
    documents = sequence("documents", {"_id": 1}, {"_id": 2})
    message = op_msg(documents, body({"insert": "c", "$db": "app"}))
    assert answer(client.connection.receive(message, NOW))["n"] == 2
    assert client.run("count", "c", db="app")["n"] == 2


def test_a_sequence_that_the_command_does_not_take() -> None:
    message = op_msg(body(PING), sequence("documents", {}))
    reply = answer(Client(node()).connection.receive(message, NOW))
    assert (reply["code"], reply["errmsg"]) == (
        40472,
        "The ping command does not support document sequences.",
    )


def test_a_checksum_is_echoed() -> None:
    client = Client(node())
    (plain,) = client.connection.receive(command(PING), NOW).frames
    (checked,) = client.connection.receive(op_msg(body(PING), checksum=True), NOW).frames
    assert checksum_matches(checked)
    assert not checksum_matches(plain)


@pytest.mark.parametrize("compressor", range(len(NAMES)))
def test_a_reply_is_compressed_as_its_request_was(compressor: int) -> None:
    client = Client(node())
    (frame,) = client.connection.receive(deflate(command(PING), compressor), NOW).frames
    assert compressor_of(frame) == compressor
    assert bson.decode(read_reply(inflate(frame)).body_bytes())["ok"] == 1.0


def test_replies_name_their_requests() -> None:
    client = Client(node())
    frames = [client.connection.receive(command(PING, number), NOW).frames[0] for number in (7, 7)]
    ids = [HEADER.unpack_from(frame) for frame in frames]
    assert [response_to for _, _, response_to, _ in ids] == [7, 7]
    assert ids[0][1] != ids[1][1]


def test_doubled_fields_are_refused() -> None:
    twice = bson.encode({"ping": 1, "lsid": {}, "$db": "admin"})
    doubled = bson.encode({"lsid": {}})[4:-1]
    raw = (len(twice) + len(doubled)).to_bytes(4, "little") + twice[4:-1] + doubled + b"\0"
    reply = answer(Client(node()).connection.receive(op_msg(body(raw)), NOW))
    assert (reply["code"], reply["errmsg"]) == (
        40413,
        "BSON field 'OperationSessionInfo.lsid' is a duplicate field",
    )
