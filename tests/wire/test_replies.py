"""Replies of every form are read, and those made here have the form of their request."""

from __future__ import annotations

import bson
import pytest

from proxy.errors import CommandError, WireError
from proxy.wire import opcodes
from proxy.wire.checksum import checksum_matches
from proxy.wire.compression import deflate, inflate
from proxy.wire.messages import read_request
from proxy.wire.opcodes import CHECKSUM_PRESENT, EXHAUST_ALLOWED, HEADER, MORE_TO_COME, OP_MSG
from proxy.wire.replies import command_frame, error_document, op_reply, read_reply, reply_frame
from tests import build
from tests.build import (
    body,
    command,
    element,
    frame,
    op_command,
    op_get_more,
    op_msg,
    op_query,
    recorded,
    sequence,
)

PING = {"ping": 1, "$db": "admin"}
REFUSAL = CommandError(13, "Unauthorized", "not authorized", ("A", "B"))


# ------------------------------------------------------------------ read


def test_recorded_replies_are_read_and_come_out_again():
    streams = 0
    for where, data in recorded("reply"):
        got = read_reply(data)
        assert b"ok" in got.fields, where
        assert got.ok() == (bson.decode(got.body_bytes())["ok"] == 1), where
        untouched = got.with_fields({})
        if got.message is data:
            assert untouched == data, where
        else:
            assert inflate(untouched) == got.message, where
        streams += got.more_to_come
    assert streams > 0


def test_op_msg_replies():
    got = read_reply(build.reply({"ok": 1.0, "n": 3}, 7, request_id=8, flags=MORE_TO_COME))
    assert (got.response_to, got.opcode) == (7, OP_MSG)
    assert got.more_to_come
    assert got.integer(b"n") == 3
    assert got.cursor_id == 0
    changed = got.with_fields({b"n": element("n", "text")})
    assert changed == build.reply({"ok": 1.0, "n": "text"}, 7, request_id=8, flags=MORE_TO_COME)


def test_edited_replies_keep_their_checksum_right():
    got = read_reply(build.reply({"ok": 1.0}, 7, checksum=True))
    changed = got.with_fields({b"ok": element("ok", 0.0)})
    assert checksum_matches(changed)
    assert bson.decode(read_reply(changed).body_bytes()) == {"ok": 0.0}


def test_op_replies():
    got = read_reply(build.op_reply({"ok": 1.0}, {"b": 2}, response_to=7, cursor_id=-5))
    assert (got.response_to, got.cursor_id, got.more_to_come) == (7, -5, False)
    assert bson.decode(got.body_bytes()) == {"ok": 1.0}
    changed = got.with_fields({b"ok": None})
    assert changed == build.op_reply({}, {"b": 2}, response_to=7, cursor_id=-5)
    empty = read_reply(build.op_reply(response_to=7, cursor_id=9))
    assert (empty.cursor_id, empty.body, empty.body_bytes()) == (9, 0, b"")
    assert not empty.ok()


def test_command_replies():
    sent = frame(opcodes.OP_COMMAND_REPLY, bson.encode({"ok": 1}) + bson.encode({}), 5, 4)
    assert read_reply(sent).ok()


@pytest.mark.parametrize(
    ("value", "ok"),
    [
        (1.0, True),
        (1, True),
        (bson.Int64(1), True),
        (True, True),
        (0.0, False),
        (0, False),
        (False, False),
        (2, False),
        ("1", False),
        (None, False),
        (-1.0, False),
    ],
)
def test_ok(value, ok):
    assert read_reply(build.reply({"ok": value}, 1)).ok() == ok
    assert not read_reply(build.reply({"fine": value}, 1)).ok()


@pytest.mark.parametrize(
    "sent",
    [
        frame(OP_MSG, bytes(3), 1, 1),
        frame(OP_MSG, bytes(4), 1, 1),
        frame(opcodes.OP_REPLY, bytes(19), 1, 1),
        frame(opcodes.OP_REPLY, bytes(21), 1, 1),
        frame(opcodes.OP_QUERY, bytes(40), 1, 1),
        frame(2014, bytes(40), 1, 1),
        op_msg(body(b"\6\0\0\0\0"), response_to=1),
        deflate(frame(opcodes.OP_REPLY, bytes(19), 1, 1), 1),
    ],
)
def test_what_is_no_reply(sent):
    with pytest.raises(WireError):
        read_reply(sent)


# ------------------------------------------------------------------ made


def test_an_error_is_put_as_the_server_puts_it():
    assert list(error_document(REFUSAL).items()) == [
        ("errorLabels", ["A", "B"]),
        ("ok", 0.0),
        ("errmsg", "not authorized"),
        ("code", 13),
        ("codeName", "Unauthorized"),
    ]
    assert "errorLabels" not in error_document(CommandError(1, "InternalError", "x"))


@pytest.mark.parametrize(
    ("request_frame", "opcode"),
    [
        (command(PING, request_id=77), opcodes.OP_MSG),
        (command(PING, request_id=77, checksum=True), opcodes.OP_MSG),
        (op_msg(sequence("a"), body(PING), request_id=77), opcodes.OP_MSG),
        (op_query("admin.$cmd", {"ping": 1}, request_id=77), opcodes.OP_REPLY),
        (op_get_more("t.c", 5, request_id=77), opcodes.OP_REPLY),
        (op_command("admin", "ping", {"ping": 1}, request_id=77), opcodes.OP_COMMAND_REPLY),
    ],
)
@pytest.mark.parametrize("compressor", [None, 0, 1, 2, 3])
def test_a_reply_takes_the_form_of_its_request(request_frame, opcode, compressor):
    if compressor is not None:
        request_frame = deflate(request_frame, compressor)
    request = read_request(request_frame)
    made = reply_frame(request, 1234, {"ok": 1.0, "text": "x" * 100})
    assert HEADER.unpack_from(made)[:3] == (len(made), 1234, 77)
    reply = read_reply(made)
    assert reply.opcode == opcode
    assert (reply.message is made) == (compressor is None)
    assert bson.decode(reply.body_bytes()) == {"ok": 1.0, "text": "x" * 100}
    assert not reply.more_to_come
    if opcode == opcodes.OP_MSG:
        asked = bool(request.flags & CHECKSUM_PRESENT)
        assert bool(reply.message[16] & CHECKSUM_PRESENT) == asked
        assert checksum_matches(reply.message) == asked


def test_a_reply_never_claims_more_than_it_is_told_to():
    request = read_request(command(PING, flags=EXHAUST_ALLOWED | 1 << 20))
    assert read_reply(reply_frame(request, 1, {"ok": 1.0})).message[16:20] == bytes(4)
    stream = reply_frame(request, 1, {"ok": 1.0}, flags=MORE_TO_COME)
    assert read_reply(stream).more_to_come


def test_bson_bytes_are_taken_as_they_are():
    document = bson.encode({"ok": 1})
    made = reply_frame(read_request(command(PING)), 1, document)
    assert made.endswith(document)


def test_op_reply():
    documents = [bson.encode({"a": 1}), bson.encode({"b": 2})]
    made = op_reply(77, 5, documents, cursor_id=2**40, starting_from=3)
    assert HEADER.unpack_from(made) == (len(made), 5, 77, opcodes.OP_REPLY)
    reply = read_reply(made)
    assert reply.cursor_id == 2**40
    assert reply.message[16:20] == b"\x08\0\0\0"
    assert reply.message[28:36] == b"\3\0\0\0\2\0\0\0"
    assert made.endswith(b"".join(documents))
    assert read_reply(op_reply(1, 2, [])).fields == {}


def test_a_command_has_one_section_and_nothing_else():
    made = command_frame(9, PING)
    assert made == command(PING, request_id=9)
    assert command_frame(9, bson.encode(PING)) == made


def test_a_compressed_reply_is_the_plain_one():
    plain = command(PING, request_id=77)
    reply = reply_frame(read_request(plain), 5, {"ok": 1.0})
    compressed = reply_frame(read_request(deflate(plain, 2)), 5, {"ok": 1.0})
    assert inflate(compressed) == reply
